//! The sizes that the pages of a Parquet file state, checked before the Parquet reader takes memory for them.
//!
//! That reader believes a page's header: a file of some hundred bytes can ask for 2 GiB. Of a header, only its two sizes are
//! read here. It is a struct in Thrift's compact protocol, whose other fields are passed over.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};

use parquet::errors::{ParquetError, Result};

/// How much larger than its packed size a page may be, and how much any page may have. Snappy packs to a twentieth at the best.
const MAX_RATIO: u64 = 64;
const SPARE_BYTES: u64 = 1 << 20;
/// How deep structs nest in a header. Parquet's need three levels.
const MAX_DEPTH: usize = 8;

/// Checks the pages in the bytes from `start` on, `length` in all.
pub(super) fn check(file: &File, start: u64, length: u64) -> Result<()> {
    let mut bytes = Bytes { reader: BufReader::new(file), read: 0 };
    bytes.reader.seek(SeekFrom::Start(start))?;
    while bytes.read < length {
        let place = start + bytes.read;
        let (unpacked, packed) = bytes.header()?;
        if unpacked > packed.saturating_mul(MAX_RATIO).saturating_add(SPARE_BYTES) {
            return Err(ParquetError::General(format!(
                "the page at byte {place} states that {packed} bytes unpack to {unpacked}"
            )));
        }
        bytes.skip(packed)?;
    }
    Ok(())
}

struct Bytes<'a> {
    reader: BufReader<&'a File>,
    read: u64,
}

fn damaged() -> ParquetError {
    ParquetError::General("the header of a page is damaged".to_owned())
}

impl Bytes<'_> {
    fn byte(&mut self) -> Result<u8> {
        let mut byte = [0];
        self.reader.read_exact(&mut byte)?;
        self.read += 1;
        Ok(byte[0])
    }

    fn skip(&mut self, count: u64) -> Result<()> {
        let step = i64::try_from(count).map_err(|_| damaged())?;
        self.read = self.read.checked_add(count).ok_or_else(damaged)?;
        self.reader.seek_relative(step)?;
        Ok(())
    }

    fn number(&mut self) -> Result<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7F) << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(damaged())
    }

    /// A size, which must not be negative. Signs are the lowest bit.
    fn size(&mut self) -> Result<u64> {
        let number = self.number()?;
        if number & 1 == 0 { Ok(number >> 1) } else { Err(damaged()) }
    }

    /// The size of a page without and with compression.
    fn header(&mut self) -> Result<(u64, u64)> {
        let (mut unpacked, mut packed, mut id) = (None, None, 0_u64);
        while let Some((kind, step)) = self.field()? {
            id = id.wrapping_add(step);
            match (id, kind) {
                (2, 5) => unpacked = Some(self.size()?),
                (3, 5) => packed = Some(self.size()?),
                _ => self.skip_value(kind, MAX_DEPTH)?,
            }
        }
        unpacked.zip(packed).ok_or_else(damaged)
    }

    /// The kind of the next field of a struct and how much larger its number is. `None` at the end of the struct.
    fn field(&mut self) -> Result<Option<(u8, u64)>> {
        match self.byte()? {
            0 => Ok(None),
            // No header of a page has numbers so far apart that they do not fit half a byte.
            byte if byte >> 4 == 0 => Err(damaged()),
            byte => Ok(Some((byte & 15, u64::from(byte >> 4)))),
        }
    }

    fn skip_value(&mut self, kind: u8, depth: usize) -> Result<()> {
        match kind {
            // A truth value is in the kind itself.
            1 | 2 => Ok(()),
            3 => self.skip(1),
            4..=6 => self.number().map(|_| ()),
            7 => self.skip(8),
            8 => {
                let length = self.number()?;
                self.skip(length)
            }
            12 if depth > 0 => {
                while let Some((kind, _)) = self.field()? {
                    self.skip_value(kind, depth - 1)?;
                }
                Ok(())
            }
            // Headers of pages have no lists, sets and maps.
            _ => Err(damaged()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    /// A header of a page: its kind, its two sizes, a struct that is passed over, the end.
    fn header(unpacked: &[u8], packed: u8) -> Vec<u8> {
        [&[0x15, 0, 0x15], unpacked, &[0x15, packed << 1, 0x2C, 0x15, 6, 0x11, 0, 0]].concat()
    }

    fn checked(bytes: &[u8]) -> Result<()> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        check(&file, 0, bytes.len() as u64)
    }

    #[test]
    fn pages_that_state_too_much_are_refused() {
        let page = [header(&[40], 5), vec![7; 5]].concat();
        checked(&page.repeat(3)).unwrap();
        // 2 GiB less one byte, in the second page.
        let huge = [page.clone(), header(&[0xFE, 0xFF, 0xFF, 0xFF, 0x0F], 5)].concat();
        let error = checked(&huge).unwrap_err().to_string();
        let place = format!("byte {} states that 5 bytes unpack to 2147483647", page.len());
        assert!(error.contains(&place), "{error}");
        assert!(checked(&header(&[41], 5)).is_err(), "a negative size");
        for end in 1..page.len() - 5 {
            assert!(checked(&page[..end]).is_err(), "cut off at {end}");
        }
    }
}
