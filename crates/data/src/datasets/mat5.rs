//! MATLAB's files of version 5, as far as data sets use them: arrays of numbers, texts, cells and structs.
//!
//! Source: "MAT-File Format", MathWorks, chapter 1. Not read: sparse arrays, objects, complex parts, and version 7.3,
//! which is HDF5.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use flate2::read::ZlibDecoder;

use super::remedy;
use crate::error::{Error, Result};

/// The largest file after decompression. SVHN's largest has 1.7 GB.
const MAX_BYTES: u64 = 4 << 30;
/// How much larger than its file the content may be, and how much any file may hold. A compressed element of zeros is a
/// thousandth of its content, so a file of some megabytes could ask for all memory. Pixels and labels compress to a tenth at
/// the best.
const MAX_RATIO: u64 = 50;
const SPARE_BYTES: u64 = 16 << 20;
/// Cells and structs nest no deeper in any data set.
const MAX_DEPTH: usize = 8;
const HEADER: usize = 128;

const INT8: u32 = 1;
const UINT8: u32 = 2;
const INT16: u32 = 3;
const UINT16: u32 = 4;
const INT32: u32 = 5;
const UINT32: u32 = 6;
const SINGLE: u32 = 7;
const DOUBLE: u32 = 9;
const INT64: u32 = 12;
const UINT64: u32 = 13;
const MATRIX: u32 = 14;
const COMPRESSED: u32 = 15;
const UTF8: u32 = 16;
const UTF16: u32 = 17;

const CLASS_CELL: u8 = 1;
const CLASS_STRUCT: u8 = 2;
const CLASS_CHAR: u8 = 4;

/// An array with its dimensions. Values are stored column by column.
#[derive(Debug)]
pub(super) struct Array {
    dims: Vec<usize>,
    values: Values,
}

#[derive(Debug)]
enum Values {
    Bytes(Vec<u8>),
    Numbers(Vec<f64>),
    Text(String),
    Cells(Vec<Array>),
    /// Names of the fields, and for each struct its fields.
    Structs(Vec<String>, Vec<Array>),
}

impl Array {
    pub(super) fn dims(&self) -> &[usize] {
        &self.dims
    }

    /// The values of an array of bytes.
    pub(super) fn bytes(&self) -> Option<&[u8]> {
        match &self.values {
            Values::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// The values, if all are whole numbers.
    pub(super) fn integers(&self) -> Option<Vec<i64>> {
        match &self.values {
            Values::Bytes(bytes) => Some(bytes.iter().map(|&byte| i64::from(byte)).collect()),
            Values::Numbers(numbers) => {
                let is_whole = |n: &f64| n.fract() == 0.0 && n.abs() < 9e15;
                numbers.iter().all(is_whole).then(|| numbers.iter().map(|&n| n as i64).collect())
            }
            _ => None,
        }
    }

    pub(super) fn text(&self) -> Option<&str> {
        match &self.values {
            Values::Text(text) => Some(text),
            // A struct's field may be a cell with one text.
            Values::Cells(cells) => cells.first().filter(|_| cells.len() == 1)?.text(),
            _ => None,
        }
    }

    /// A field of each struct of an array of structs.
    pub(super) fn field(&self, name: &str) -> Option<Vec<&Array>> {
        let Values::Structs(names, fields) = &self.values else { return None };
        let place = names.iter().position(|field| field == name)?;
        Some(fields.iter().skip(place).step_by(names.len().max(1)).collect())
    }
}

/// The arrays of a file by name.
pub(super) fn read(path: &Path) -> Result<BTreeMap<String, Array>> {
    let bytes = std::fs::read(path).map_err(Error::io(path))?;
    parse(&bytes).map_err(|problem| Error::Invalid {
        path: path.to_path_buf(),
        problem,
        remedy: remedy::AGAIN.to_owned(),
    })
}

type Parsed<T> = std::result::Result<T, String>;

/// The arrays in the bytes of a file, or what is wrong with it.
pub(super) fn parse(bytes: &[u8]) -> Parsed<BTreeMap<String, Array>> {
    let header = bytes.get(..HEADER).ok_or("is too short for a MATLAB file")?;
    let is_big = match &header[126..] {
        b"IM" => false,
        b"MI" => true,
        _ if bytes.starts_with(b"MATLAB 7.3") || bytes.starts_with(b"\x89HDF") => {
            return Err("is of MATLAB's version 7.3 (HDF5), which is not read".to_owned());
        }
        _ => return Err("is no MATLAB file of version 5".to_owned()),
    };
    let mut cursor = Cursor { rest: &bytes[HEADER..], is_big };
    // Compressed elements of all arrays together.
    let most = (bytes.len() as u64).saturating_mul(MAX_RATIO).saturating_add(SPARE_BYTES);
    let mut left = most.min(MAX_BYTES);
    let mut arrays = BTreeMap::new();
    while !cursor.rest.is_empty() {
        let (kind, data) = cursor.element()?;
        let unpacked;
        let data = if kind == COMPRESSED {
            unpacked = unpack(data, left)?;
            left -= unpacked.len() as u64;
            let (kind, data) = Cursor { rest: &unpacked, is_big }.element()?;
            if kind != MATRIX {
                continue;
            }
            data
        } else if kind == MATRIX {
            data
        } else {
            continue;
        };
        if let Some((name, array)) = (Cursor { rest: data, is_big }).matrix(MAX_DEPTH)? {
            arrays.insert(name, array);
        }
    }
    Ok(arrays)
}

/// Unpacks at most `left` bytes.
fn unpack(data: &[u8], left: u64) -> Parsed<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = ZlibDecoder::new(data).take(left + 1).read_to_end(&mut bytes);
    read.map_err(|error| format!("has damaged compressed data ({error})"))?;
    if bytes.len() as u64 > left {
        return Err(format!("unpacks to more than {MAX_RATIO} times its size"));
    }
    Ok(bytes)
}

/// The bytes that are still to be read.
struct Cursor<'a> {
    rest: &'a [u8],
    is_big: bool,
}

impl<'a> Cursor<'a> {
    fn take(&mut self, count: usize) -> Parsed<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or("is cut off")?;
        self.rest = rest;
        Ok(taken)
    }

    fn u32_of(&self, bytes: &[u8]) -> u32 {
        let bytes = [bytes[0], bytes[1], bytes[2], bytes[3]];
        if self.is_big { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) }
    }

    /// The type and the data of the next element.
    fn element(&mut self) -> Parsed<(u32, &'a [u8])> {
        let tag = self.take(4)?;
        let kind = self.u32_of(tag);
        // A small element: the upper half of its type is its length, and its data takes the place of the length.
        if kind >> 16 != 0 {
            let data = self.take(4)?;
            let count = (kind >> 16) as usize;
            let data = data.get(..count).ok_or("has a small element of more than 4 bytes")?;
            return Ok((kind & 0xFFFF, data));
        }
        let count = self.take(4)?;
        let count = self.u32_of(count) as usize;
        let data = self.take(count)?;
        // Elements begin at multiples of 8 bytes, except behind compressed ones. Some writers leave the padding of
        // the last one out.
        if kind != COMPRESSED {
            let padding = count.next_multiple_of(8) - count;
            self.take(padding.min(self.rest.len()))?;
        }
        Ok((kind, data))
    }

    /// The name and the values of an array. `None` if it is of a kind that is not read.
    fn matrix(&mut self, depth: usize) -> Parsed<Option<(String, Array)>> {
        if depth == 0 {
            return Err(format!("nests cells deeper than {MAX_DEPTH}"));
        }
        if self.rest.is_empty() {
            let values = Values::Numbers(Vec::new());
            return Ok(Some((String::new(), Array { dims: vec![0, 0], values })));
        }
        let (_, flags) = self.element()?;
        let flags = self.u32_of(flags.get(..4).ok_or("has an array without flags")?);
        let class = (flags & 0xFF) as u8;
        let (_, dims) = self.element()?;
        let dims: Vec<usize> =
            dims.as_chunks::<4>().0.iter().map(|dim| self.u32_of(dim) as usize).collect();
        let count = dims.iter().try_fold(1_usize, |product, &dim| product.checked_mul(dim));
        let count = count.ok_or_else(|| format!("announces impossible dimensions {dims:?}"))?;
        let (_, name) = self.element()?;
        let name = String::from_utf8_lossy(name).into_owned();
        let values = match class {
            CLASS_CELL => Values::Cells(self.arrays(count, depth)?),
            CLASS_STRUCT => {
                let (_, width) = self.element()?;
                let width = self.u32_of(width.get(..4).ok_or("has a struct without names")?);
                let (_, names) = self.element()?;
                let width = (width as usize).max(1);
                let name = |bytes: &[u8]| {
                    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
                    String::from_utf8_lossy(&bytes[..end]).into_owned()
                };
                let names: Vec<String> = names.chunks_exact(width).map(name).collect();
                let fields = count.checked_mul(names.len()).ok_or("announces too many structs")?;
                Values::Structs(names, self.arrays(fields, depth)?)
            }
            CLASS_CHAR => {
                let (kind, data) = self.element()?;
                Values::Text(self.text(kind, data))
            }
            6..=15 => {
                let (kind, data) = self.element()?;
                let values = self.numbers(kind, data)?;
                let found = values.len();
                if found != count {
                    return Err(format!("has {found} values in `{name}`, expected {dims:?}"));
                }
                values
            }
            _ => return Ok(None),
        };
        Ok(Some((name, Array { dims, values })))
    }

    /// The arrays of a cell or struct.
    fn arrays(&mut self, count: usize, depth: usize) -> Parsed<Vec<Array>> {
        let mut arrays = Vec::new();
        for _ in 0..count {
            let (kind, data) = self.element()?;
            let mut inner = Cursor { rest: data, is_big: self.is_big };
            let array = if kind == MATRIX { inner.matrix(depth - 1)? } else { None };
            let (_, array) = array.ok_or("has a cell of a kind that is not read")?;
            arrays.push(array);
        }
        Ok(arrays)
    }

    fn text(&self, kind: u32, data: &[u8]) -> String {
        match kind {
            UINT16 | UTF16 => {
                let units = data.as_chunks::<2>().0.iter().map(|&unit| {
                    if self.is_big { u16::from_be_bytes(unit) } else { u16::from_le_bytes(unit) }
                });
                String::from_utf16_lossy(&units.collect::<Vec<u16>>())
            }
            _ => String::from_utf8_lossy(data).into_owned(),
        }
    }

    /// Numbers of any type. MATLAB stores arrays of `double` as bytes if their values allow it.
    fn numbers(&self, kind: u32, data: &[u8]) -> Parsed<Values> {
        macro_rules! numbers {
            ($type:ty, $size:literal) => {
                Values::Numbers(
                    data.as_chunks::<$size>()
                        .0
                        .iter()
                        .map(|&b| {
                            let number = if self.is_big {
                                <$type>::from_be_bytes(b)
                            } else {
                                <$type>::from_le_bytes(b)
                            };
                            number as f64
                        })
                        .collect(),
                )
            };
        }
        Ok(match kind {
            UINT8 | UTF8 => Values::Bytes(data.to_vec()),
            INT8 => numbers!(i8, 1),
            INT16 => numbers!(i16, 2),
            UINT16 => numbers!(u16, 2),
            INT32 => numbers!(i32, 4),
            UINT32 => numbers!(u32, 4),
            INT64 => numbers!(i64, 8),
            UINT64 => numbers!(u64, 8),
            SINGLE => numbers!(f32, 4),
            DOUBLE => numbers!(f64, 8),
            other => return Err(format!("has numbers of the unknown type {other}")),
        })
    }
}

impl Values {
    fn len(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::Numbers(numbers) => numbers.len(),
            Self::Text(text) => text.len(),
            Self::Cells(cells) => cells.len(),
            Self::Structs(_, fields) => fields.len(),
        }
    }
}
