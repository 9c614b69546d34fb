//! The sizes that the pages of a Parquet file state, checked before the Parquet reader takes memory for them.
//!
//! That reader believes a page's header: a file of some hundred bytes can ask for 2 GiB. With some compressions it does not look
//! at the stated size before all is unpacked, which may be a thousand times more (gzip) or any size (Brotli). Of a header, only
//! its sizes are read here.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};

use parquet::basic::Compression;
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
    Struct(SECOND_HEADER),
];
const DICTIONARY_HEADER: &[Shape] = &[Number, Number, Truth];
/// Of a page of the second version.
const SECOND_HEADER: &[Shape] =
    &[Number, Number, Number, Number, Number, Number, Truth, STATISTICS];

// The kinds and numbers of fields.
const UNPACKED: (u8, i16) = (5, 2);
const PACKED: (u8, i16) = (5, 3);
const DICTIONARY: (u8, i16) = (12, 7);
const DICTIONARY_VALUES: (u8, i16) = (5, 1);
const SECOND: (u8, i16) = (12, 8);
const SECOND_DEFINITIONS: (u8, i16) = (5, 5);
const SECOND_REPETITIONS: (u8, i16) = (5, 6);
const SECOND_IS_NOT_PACKED: (u8, i16) = (2, 7);

type Pages<'a> = Walk<BufReader<&'a File>>;

/// What is read of the header of a page.
#[derive(Default)]
struct Header {
    unpacked: Option<u64>,
    packed: Option<u64>,
    /// Values of a dictionary.
    values: u64,
    /// Bytes before the packed ones.
    levels: u64,
    is_plain: bool,
}

/// Checks the pages in the bytes from `start` on, `length` in all.
pub(super) fn check(
    mut file: &File,
    start: u64,
    length: u64,
    compression: Compression,
) -> Result<()> {
    let to_end = file.seek(SeekFrom::End(0))?.saturating_sub(start);
    file.seek(SeekFrom::Start(start))?;
    let mut pages = Walk::new(BufReader::new(file), "the header of a page", to_end);
    while pages.read() < length {
        let place = start + pages.read();
        let Header { unpacked, packed, values, levels, is_plain } = Header::read(&mut pages)?;
        let (unpacked, packed) = unpacked.zip(packed).ok_or_else(|| pages.damaged())?;
        let refused = |problem: String| Err(ParquetError::General(problem));
        if unpacked > packed.saturating_mul(MAX_RATIO).saturating_add(SPARE_BYTES) {
            return refused(format!(
                "the page at byte {place} states that {packed} bytes unpack to {unpacked}"
            ));
        }
        if values > unpacked / VALUE_BYTES {
            return refused(format!(
                "the dictionary at byte {place} states {values} values in {unpacked} bytes"
            ));
        }
        let levels = levels.min(packed);
        pages.skip(levels)?;
        let packed = packed - levels;
        let fits = match is_plain || !unpacks_to_its_end(compression) {
            true => pages.skip(packed).map(|()| true)?,
            false => pages.with(packed, |bytes| fits(bytes, unpacked, compression))?,
        };
        if !fits {
            return refused(format!(
                "the page at byte {place} unpacks to more than the {unpacked} bytes that it states"
            ));
        }
    }
    Ok(())
}

impl Header {
    fn read(pages: &mut Pages<'_>) -> Result<Self> {
        let mut header = Self::default();
        pages.each_field(|pages, field| {
            match field {
                UNPACKED => header.unpacked = Some(pages.size()?),
                PACKED => header.packed = Some(pages.size()?),
                DICTIONARY => header.read_dictionary(pages)?,
                SECOND => header.read_second(pages)?,
                _ => pages.value(PAGE_HEADER, field)?,
            }
            Ok(())
        })?;
        Ok(header)
    }

    fn read_dictionary(&mut self, pages: &mut Pages<'_>) -> Result<()> {
        pages.each_field(|pages, field| {
            match field {
                DICTIONARY_VALUES => self.values = self.values.max(pages.size()?),
                _ => pages.value(DICTIONARY_HEADER, field)?,
            }
            Ok(())
        })
    }

    fn read_second(&mut self, pages: &mut Pages<'_>) -> Result<()> {
        let (mut definitions, mut repetitions) = (0, 0);
        self.is_plain = false;
        pages.each_field(|pages, field| {
            match field {
                SECOND_DEFINITIONS => definitions = pages.size()?,
                SECOND_REPETITIONS => repetitions = pages.size()?,
                (1 | 2, 7) => self.is_plain = field == SECOND_IS_NOT_PACKED,
                _ => pages.value(SECOND_HEADER, field)?,
            }
            Ok(())
        })?;
        self.levels = definitions.saturating_add(repetitions);
        Ok(())
    }
}

/// Whether the Parquet reader unpacks such bytes to their end, whatever size they state.
fn unpacks_to_its_end(compression: Compression) -> bool {
    matches!(compression, Compression::GZIP(_) | Compression::BROTLI(_) | Compression::LZ4)
}

/// Whether bytes unpack to no more than `most`. What cannot be unpacked is left to the Parquet reader.
fn fits(packed: &mut dyn Read, most: u64, compression: Compression) -> bool {
    /// How a stream begins whose window may have a gigabyte. The standard (RFC 7932) knows none.
    const LARGE_WINDOW: u8 = 0x11;
    let mut first = [0];
    let mut unpacked: Box<dyn Read + '_> = match compression {
        Compression::GZIP(_) => Box::new(flate2::read::MultiGzDecoder::new(packed)),
        Compression::LZ4 => Box::new(lz4_flex::frame::FrameDecoder::new(packed)),
        Compression::BROTLI(_) => {
            if packed.read_exact(&mut first).is_err() {
                return true;
            }
            if first[0] & 0x7F == LARGE_WINDOW {
                return false;
            }
            Box::new(brotli::Decompressor::new(first.chain(packed), 4096))
        }
        _ => return true,
    };
    // Counted by hand, because an error hides how much came before it.
    let (mut count, mut buffer) = (0, [0; 4096]);
    while let Ok(read @ 1..) = unpacked.read(&mut buffer) {
        count += read as u64;
        if count > most {
            return false;
        }
    }
    true
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
        check(&file, 0, bytes.len() as u64, Compression::UNCOMPRESSED)
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

    #[test]
    fn pages_that_unpack_to_more_than_they_state_are_refused() {
        use flate2::read::GzEncoder;
        let zeros = vec![0; 100_000];
        let (mut gzip, mut brotli, mut lz4) = (Vec::new(), Vec::new(), Vec::new());
        GzEncoder::new(&zeros[..], flate2::Compression::best()).read_to_end(&mut gzip).unwrap();
        brotli::CompressorReader::new(&zeros[..], 4096, 9, 22).read_to_end(&mut brotli).unwrap();
        let mut frame = lz4_flex::frame::FrameEncoder::new(&mut lz4);
        frame.write_all(&zeros).unwrap();
        frame.finish().unwrap();
        for (packed, compression) in [
            (gzip, Compression::GZIP(Default::default())),
            (brotli, Compression::BROTLI(Default::default())),
            (lz4, Compression::LZ4),
        ] {
            let fits = |bytes: &[u8], most| super::fits(&mut &bytes[..], most, compression);
            assert!(fits(&packed, 100_000) && !fits(&packed, 99_999), "{compression}");
            assert!(fits(b"no stream", 0), "{compression}");
            // Of the first version, with all of it packed, and of the second, behind three bytes of levels.
            let size = packed.len();
            let number = |n: usize| vec![(n << 1) as u8 | 0x80, (n >> 6) as u8];
            let sizes =
                |levels: usize| [&[0x15, 0, 0x15, 20, 0x15][..], &number(size + levels)].concat();
            let first = [sizes(0), vec![0], packed.clone()].concat();
            let second = |flag: u8| {
                [sizes(3), vec![0x5C, 0x55, 4, 0x15, 2, flag, 0, 0, 9, 9, 9], packed.clone()]
                    .concat()
            };
            let checked = |page: &[u8]| {
                let mut file = tempfile::tempfile().unwrap();
                file.write_all(page).unwrap();
                check(&file, 0, page.len() as u64, compression).map_err(|error| error.to_string())
            };
            for page in [&first, &second(0x11)] {
                let error = checked(page).unwrap_err();
                assert!(error.contains("to more than the 10 bytes"), "{compression}: {error}");
            }
            checked(&second(0x12)).unwrap();
        }
        let window = [0x11, 30, 0, 0];
        assert!(!fits(&mut &window[..], 9, Compression::BROTLI(Default::default())));
    }
}
