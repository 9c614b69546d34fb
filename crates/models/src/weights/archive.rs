//! The zip archives that `torch.save` writes. The sizes that an entry states may be wrong.

use std::fs::File;
use std::io::{BufReader, Read};

use zip::{CompressionMethod, ZipArchive};

use super::dictionary;
use super::pickle::{self, Pickle, Value};

/// The largest pickle that is read, in bytes. It holds names and numbers, but no weights.
const MAX_PICKLE_BYTES: u64 = 256 << 20;
/// How much larger than its compressed size an entry may be. Weights compress by only about a tenth.
const MAX_RATIO: u64 = 100;
/// Entries up to this size, in bytes, are never rejected for their compression ratio, because zeros compress
/// much better.
const SMALL_BYTES: u64 = 16 << 20;

type Result<T> = std::result::Result<T, String>;

/// A zip archive as `torch.save` writes it: all entries lie in one folder.
pub(super) struct Archive {
    zip: ZipArchive<BufReader<File>>,
    folder: String,
    /// How many bytes of storages may still be unpacked.
    budget: u64,
}

impl Archive {
    /// `budget` is how many bytes all storages may have together. Many entries may be the same few packed bytes, and to
    /// unpack them all would take minutes.
    pub(super) fn open(file: File, budget: usize) -> Result<Self> {
        let mut zip = ZipArchive::new(BufReader::new(file)).map_err(|error| {
            format!(
                "it is a zip archive that is cut short or damaged ({error}); fetch or copy it again"
            )
        })?;
        let names: Vec<String> = zip.file_names().flatten().map(|name| name.into_owned()).collect();
        let pickle = names.iter().find(|name| {
            name.as_str() == "data.pkl"
                || name.matches('/').count() == 1 && name.ends_with("/data.pkl")
        });
        let Some(pickle) = pickle else {
            return Err(other_archive(&names));
        };
        let folder = pickle.trim_end_matches("data.pkl").to_owned();
        let is_program = |name: &String| {
            name.strip_prefix(&folder)
                .is_some_and(|name| name == "constants.pkl" || name.starts_with("code/"))
        };
        if names.iter().any(is_program) {
            return Err(program(&mut zip, pickle));
        }
        Ok(Self { zip, folder, budget: budget as u64 })
    }

    pub(super) fn pickle(&mut self) -> Result<Pickle> {
        let name = format!("{}data.pkl", self.folder);
        let bytes = entry(&mut self.zip, &name, None)?;
        pickle::read(&bytes, 0)
    }

    pub(super) fn is_big_endian(&mut self) -> Result<bool> {
        let name = format!("{}byteorder", self.folder);
        if self.zip.index_for_name(&name).is_none() {
            return Ok(false);
        }
        let order = entry(&mut self.zip, &name, None)?;
        match order.trim_ascii() {
            b"little" => Ok(false),
            b"big" => Ok(true),
            _ => Err("its byte order is neither little nor big: the file is damaged".to_owned()),
        }
    }

    pub(super) fn storage(&mut self, key: &str, len: usize) -> Result<Vec<u8>> {
        let name = format!("{}data/{key}", self.folder);
        if let Some(place) = self.zip.index_for_name(&name) {
            let size = self.zip.by_index_raw(place).map_or(0, |entry| entry.size());
            let left = self.budget.checked_sub(size);
            self.budget = left.ok_or_else(|| {
                format!("its entries unpack to too many bytes for the file, `{name}` at the latest: the file is damaged")
            })?;
        }
        entry(&mut self.zip, &name, Some(len))
    }
}

/// The bytes of an entry. With `len`, the first `len` bytes of a storage. The size that the entry states is
/// checked first, and memory is allocated only as bytes arrive.
fn entry(zip: &mut ZipArchive<BufReader<File>>, name: &str, len: Option<usize>) -> Result<Vec<u8>> {
    let damaged = |what: String| format!("its entry `{name}` {what}: the file is damaged");
    let mut entry =
        zip.by_name(name).map_err(|error| damaged(format!("cannot be read ({error})")))?;
    let (size, stored) = (entry.size(), entry.compressed_size());
    if entry.compression() == CompressionMethod::Stored && size != stored {
        return Err(damaged(format!("has {stored} bytes, expected {size}")));
    }
    if size > SMALL_BYTES && size / MAX_RATIO > stored {
        return Err(damaged(format!("grows from {stored} to {size} bytes")));
    }
    if len.is_none() && size > MAX_PICKLE_BYTES {
        return Err(damaged(format!("is a pickle of {size} bytes")));
    }
    if let Some(len) = len.filter(|len| size < *len as u64) {
        return Err(damaged(format!("has {size} bytes, expected {len}")));
    }
    let mut bytes = Vec::new();
    // The entry is read to its end, even if less is needed, because the checksum is compared there.
    let read = entry.by_ref().take(size.saturating_add(1)).read_to_end(&mut bytes);
    read.map_err(|error| damaged(format!("cannot be read ({error})")))?;
    if bytes.len() as u64 != size {
        return Err(damaged(format!("has {} bytes, expected {size}", bytes.len())));
    }
    bytes.truncate(len.unwrap_or(bytes.len()));
    Ok(bytes)
}

fn program(zip: &mut ZipArchive<BufReader<File>>, pickle: &str) -> String {
    let read = entry(zip, pickle, None).and_then(|bytes| pickle::read(&bytes, 0));
    let class = read.ok().and_then(|pickle| match pickle.values.get(pickle.root) {
        Value::Object(object) => Some(object.class.to_string()),
        _ => None,
    });
    dictionary::torchscript(class.as_deref().unwrap_or("of unknown class"))
}

fn other_archive(names: &[String]) -> String {
    let has = |end: &str| names.iter().any(|name| name.ends_with(end));
    let what = if has("serialized_exported_program.json") || has("archive_format") {
        "an exported PyTorch program (`torch.export`)"
    } else if has("model.weights.h5") {
        "a Keras model"
    } else if has(".npy") {
        "an archive of NumPy arrays"
    } else {
        "a zip archive without PyTorch's `data.pkl`"
    };
    format!(
        "it is {what}; unpack it if the weights are inside, or save them with \
         `torch.save(model.state_dict(), \"weights.pth\")`"
    )
}
