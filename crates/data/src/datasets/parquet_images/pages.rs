//! The sizes that the pages of a Parquet file state, checked before the Parquet reader takes memory for them.
//!
//! That reader believes a page's header: a file of some hundred bytes can ask for 2 GiB. Of a header, only its sizes are read
//! here.

use std::fs::File;
use std::io::{BufReader, Seek, SeekFrom};

use parquet::errors::{ParquetError, Result};

use super::footer::{EMPTY, STATISTICS};
use super::thrift::Shape::{self, Number, Struct, Truth};
use super::thrift::Walk;

/// How much larger than its packed size a page may be, and how much any page may have. Snappy packs to a twentieth at the best.
const MAX_RATIO: u64 = 64;
const SPARE_BYTES: u64 = 1 << 20;
/// The fewest bytes of a value in a dictionary: a number of 32 bits, or the length of a text.
const VALUE_BYTES: u64 = 4;

const PAGE_HEADER: &[Shape] = &[
    Number,
    Number,
    Number,
    Number,
    Struct(&[Number, Number, Number, Number, STATISTICS]),
    EMPTY,
    Struct(DICTIONARY_HEADER),
    Struct(&[Number, Number, Number, Number, Number, Number, Truth, STATISTICS]),
];
const DICTIONARY_HEADER: &[Shape] = &[Number, Number, Truth];
/// The kinds and numbers of fields: the size without and with compression, and the header of a dictionary with its number of
/// values.
const UNPACKED: (u8, i16) = (5, 2);
const PACKED: (u8, i16) = (5, 3);
const DICTIONARY: (u8, i16) = (12, 7);
const VALUES: (u8, i16) = (5, 1);

/// Checks the pages in the bytes from `start` on, `length` in all.
pub(super) fn check(mut file: &File, start: u64, length: u64) -> Result<()> {
    let to_end = file.seek(SeekFrom::End(0))?.saturating_sub(start);
    file.seek(SeekFrom::Start(start))?;
    let mut walk = Walk::new(BufReader::new(file), "the header of a page", to_end);
    while walk.read() < length {
        let place = start + walk.read();
        let (mut unpacked, mut packed, mut values, mut last) = (None, None, 0, 0);
        while let Some(field) = walk.field(last)? {
            match field {
                UNPACKED => unpacked = Some(walk.size()?),
                PACKED => packed = Some(walk.size()?),
                DICTIONARY => values = values.max(dictionary_values(&mut walk)?),
                _ => walk.value(PAGE_HEADER, field)?,
            }
            last = field.1;
        }
        let (unpacked, packed) = unpacked.zip(packed).ok_or_else(|| walk.damaged())?;
        if unpacked > packed.saturating_mul(MAX_RATIO).saturating_add(SPARE_BYTES) {
            return Err(ParquetError::General(format!(
                "the page at byte {place} states that {packed} bytes unpack to {unpacked}"
            )));
        }
        if values > unpacked / VALUE_BYTES {
            return Err(ParquetError::General(format!(
                "the dictionary at byte {place} states {values} values in {unpacked} bytes"
            )));
        }
        walk.skip(packed)?;
    }
    Ok(())
}

/// The number of values that the header of a dictionary states.
fn dictionary_values(walk: &mut Walk<BufReader<&File>>) -> Result<u64> {
    let (mut values, mut last) = (0, 0);
    while let Some(field) = walk.field(last)? {
        match field {
            VALUES => values = values.max(walk.size()?),
            _ => walk.value(DICTIONARY_HEADER, field)?,
        }
        last = field.1;
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    /// A header of a page: its kind, its two sizes, what a dictionary has besides, the end.
    fn header(unpacked: &[u8], packed: u8) -> Vec<u8> {
        [&[0x15, 0, 0x15], unpacked, &[0x15, packed << 1, 0x4C, 0x15, 6, 0x15, 0, 0x11, 0, 0]]
            .concat()
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
        for end in 1..page.len() {
            assert!(checked(&page[..end]).is_err(), "cut off at {end}");
        }
        // A dictionary of two thousand million values.
        let dictionary = [&page[..8], &[0xFE, 0xFF, 0xFF, 0xFF, 0x0F], &page[9..]].concat();
        let error = checked(&dictionary).unwrap_err().to_string();
        assert!(error.contains("byte 0 states 2147483647 values in 20 bytes"), "{error}");
        // A field that no page has: a list of two thousand million bytes.
        let list = [&page[..page.len() - 6], &[0x59, 0xF3, 0xFF, 0xFF, 0xFF, 0xFF, 7, 0]].concat();
        assert!(checked(&list).is_err());
    }
}
