//! The idx format of MNIST: a big-endian header followed by bytes, plain or gzipped.

use std::fs::File;
use std::io::{BufReader, ErrorKind, Read};
use std::path::Path;

use flate2::read::MultiGzDecoder;

use crate::error::{Error, Result};
use crate::image::MAX_SIDE;

const REMEDY: &str = "fetch it again";

/// The largest file that is read, in bytes. It is more than any data set of this kind has, so a damaged header
/// cannot ask for huge amounts of memory.
const MAX_FILE_BYTES: u64 = 8 << 30;

/// How much larger than a gzipped file its content may be, and how much any may hold. Digits compress to a fifth, and zeros
/// to a thousandth.
const MAX_RATIO: u64 = 100;
const SPARE_BYTES: u64 = 16 << 20;

/// An array of bytes with its dimensions.
pub(super) struct Idx {
    pub(super) dims: Vec<usize>,
    pub(super) bytes: Vec<u8>,
}

/// Reads an idx file of unsigned bytes that has `rank` dimensions.
pub(super) fn read(path: &Path, rank: u8) -> Result<Idx> {
    let file = File::open(path).map_err(Error::io(path))?;
    let size = file.metadata().map_err(Error::io(path))?.len();
    let file = BufReader::new(file);
    if path.extension().is_some_and(|extension| extension == "gz") {
        let most = size.saturating_mul(MAX_RATIO).saturating_add(SPARE_BYTES);
        read_from(MultiGzDecoder::new(file), path, rank, most.min(MAX_FILE_BYTES))
    } else {
        read_from(file, path, rank, MAX_FILE_BYTES)
    }
}

/// `most` is the largest number of bytes that a header may state.
fn read_from(mut reader: impl Read, path: &Path, rank: u8, most: u64) -> Result<Idx> {
    let header_bytes = 4 + 4 * usize::from(rank);
    let header = read_up_to(&mut reader, header_bytes as u64, path)?;
    let size_error = |found: usize, expected: String| Error::FileSize {
        path: path.to_path_buf(),
        found: found as u64,
        expected,
        remedy: REMEDY.to_owned(),
    };
    if header.len() < header_bytes {
        let expected = format!("an idx header of {header_bytes} and then data");
        return Err(size_error(header.len(), expected));
    }
    let numbers: Vec<u32> =
        header.as_chunks::<4>().0.iter().map(|&bytes| u32::from_be_bytes(bytes)).collect();
    let magic = 0x0800 | u32::from(rank);
    if numbers[0] != magic {
        let problem = format!("begins with {:#010x}, an idx file with {magic:#010x}", numbers[0]);
        return Err(invalid(path, problem));
    }
    let count = data_bytes(&numbers[1..], path)?;
    if count > most {
        let problem = format!("states {count} bytes, more than {MAX_RATIO} times its size");
        return Err(invalid(path, problem));
    }
    // One byte more than the header states is read, to notice a file that is too long.
    let bytes = read_up_to(&mut reader, count + 1, path)?;
    if bytes.len() as u64 != count {
        let more = if bytes.len() as u64 > count { " and no more" } else { "" };
        let expected = format!("{}{more} by its header", header_bytes as u64 + count);
        return Err(size_error(header_bytes + bytes.len(), expected));
    }
    Ok(Idx { dims: numbers[1..].iter().map(|&n| n as usize).collect(), bytes })
}

/// The number of bytes that the header states.
fn data_bytes(dims: &[u32], path: &Path) -> Result<u64> {
    let possible = dims[0] > 0 && dims[1..].iter().all(|&d| (1..=MAX_SIDE as u32).contains(&d));
    let bytes = dims.iter().try_fold(1u64, |product, &d| product.checked_mul(u64::from(d)));
    match bytes {
        Some(bytes) if possible && bytes <= MAX_FILE_BYTES => Ok(bytes),
        _ => Err(invalid(path, format!("announces impossible dimensions {dims:?}"))),
    }
}

/// Reads at most `limit` bytes. If a gzip stream ends early, its decoded part is returned.
fn read_up_to(reader: &mut impl Read, limit: u64, path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    match reader.take(limit).read_to_end(&mut bytes) {
        Ok(_) => Ok(bytes),
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(bytes),
        Err(error) if matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::InvalidData) => {
            Err(invalid(path, format!("is not a sound gzip file ({error})")))
        }
        Err(error) => Err(Error::io(path)(error)),
    }
}

fn invalid(path: &Path, problem: String) -> Error {
    Error::Invalid { path: path.to_path_buf(), problem, remedy: REMEDY.to_owned() }
}
