//! The footer of a Parquet file, checked before the Parquet reader meets it.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};

use parquet::errors::Result;

use super::thrift::Shape::{self, Byte, Bytes, Double, List, Number, Struct, Truth, Unused};
use super::thrift::Walk;

/// The length of the footer and the mark, at the end of the file.
const END: u64 = 8;

// The structs of the format (`parquet.thrift`), as far as the `parquet` crate 60.1 reads them. Whoever takes a new version of it
// adds what it has come to know.
pub(super) const STATISTICS: Shape =
    Struct(&[Bytes, Bytes, Number, Number, Bytes, Bytes, Truth, Truth, Number]);
pub(super) const EMPTY: Shape = Struct(&[]);
const TIME: Shape = Struct(&[Truth, Struct(&[EMPTY, EMPTY, EMPTY])]);
const LOGICAL_TYPE: Shape = Struct(&[
    EMPTY,
    EMPTY,
    EMPTY,
    EMPTY,
    Struct(&[Number, Number]),
    EMPTY,
    TIME,
    TIME,
    Unused,
    Struct(&[Byte, Truth]),
    EMPTY,
    EMPTY,
    EMPTY,
    EMPTY,
    EMPTY,
    Struct(&[Byte]),
    Struct(&[Bytes]),
    Struct(&[Bytes, Number]),
    EMPTY,
]);
const SCHEMA_ELEMENT: Shape =
    Struct(&[Number, Number, Number, Bytes, Number, Number, Number, Number, Number, LOGICAL_TYPE]);
const KEY_VALUE: Shape = Struct(&[Bytes, Bytes]);
const BOUNDING_BOX: Shape =
    Struct(&[Double, Double, Double, Double, Double, Double, Double, Double]);
const COLUMN_METADATA: Shape = Struct(&[
    Number,
    List(&Number),
    Unused,
    Number,
    Number,
    Number,
    Number,
    Unused,
    Number,
    Number,
    Number,
    STATISTICS,
    List(&Struct(&[Number, Number, Number])),
    Number,
    Number,
    Struct(&[Number, List(&Number), List(&Number)]),
    Struct(&[BOUNDING_BOX, List(&Number)]),
]);
const COLUMN_CHUNK: Shape =
    Struct(&[Bytes, Number, COLUMN_METADATA, Number, Number, Number, Number]);
const ROW_GROUP: Shape = Struct(&[
    List(&COLUMN_CHUNK),
    Number,
    Number,
    List(&Struct(&[Number, Truth, Truth])),
    Number,
    Unused,
    Number,
]);
const FILE_METADATA: &[Shape] = &[
    Number,
    List(&SCHEMA_ELEMENT),
    Number,
    List(&ROW_GROUP),
    List(&KEY_VALUE),
    Bytes,
    List(&Struct(&[EMPTY, EMPTY, EMPTY])),
];

/// Checks the footer. A file without one is left to the reader, which says so.
pub(super) fn check(mut file: &File) -> Result<()> {
    let size = file.seek(SeekFrom::End(0))?;
    let Some(end) = size.checked_sub(END) else { return Ok(()) };
    file.seek(SeekFrom::Start(end))?;
    let mut length = [0; 4];
    file.read_exact(&mut length)?;
    let length = u64::from(u32::from_le_bytes(length));
    let Some(start) = end.checked_sub(length) else { return Ok(()) };
    file.seek(SeekFrom::Start(start))?;
    Walk::new(BufReader::new(file), "the footer", length).fields(FILE_METADATA)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn checked(footer: &[u8]) -> Result<()> {
        let mut file = tempfile::tempfile().unwrap();
        let length = u32::try_from(footer.len()).unwrap().to_le_bytes();
        file.write_all(&[b"PAR1", footer, &length, b"PAR1"].concat()).unwrap();
        check(&file)
    }

    #[test]
    fn lists_that_take_no_bytes_are_refused() {
        // Version 1, then field 20, which no version has, then the end.
        let with = |kind: u8, value: &[u8]| [&[0x15, 2, kind, 40], value, &[0]].concat();
        const LIST: u8 = 9;
        const SET: u8 = 10;
        const MAP: u8 = 11;
        checked(&with(LIST, &[0x35, 1, 2, 3])).unwrap();
        checked(&with(LIST, &[0])).unwrap();
        checked(&with(MAP, &[1, 0x58, 7, 1, b'a'])).unwrap();
        let many = [0xFF, 0xFF, 0xFF, 0xFF, 7];
        let [first, second, map] = [
            [&[0xF1][..], &many].concat(),
            [&[0xF2][..], &many].concat(),
            [&many[..], &[0x12]].concat(),
        ];
        for footer in [with(LIST, &first), with(SET, &second), with(MAP, &map)] {
            let error = checked(&footer).unwrap_err().to_string();
            assert!(error.contains("the footer has a list of truth values"), "{error}");
        }
    }

    #[test]
    fn fields_have_the_types_of_the_format() {
        // The version as bytes, which hold a list of truth values where the reader expects a number.
        assert!(checked(&[0x18, 2, 0, 0, 0]).is_err());
        // A schema of numbers instead of structs.
        assert!(checked(&[0x15, 2, 0x19, 0x15, 2, 0]).is_err());
        checked(&[0x15, 2, 0x19, 0x1C, 0, 0]).unwrap();
    }
}
