//! PyTorch's files. Newer ones are a zip archive of a pickle and its storages. Older ones hold the same parts
//! one after the other.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;

use candle_core::Tensor;

use super::WeightFile;
use super::archive::Archive;
use super::dictionary::{self, Found};
use super::elements::{gathered, swap_bytes};
use super::pickle::{self, Pickle, TensorRef, Value};

/// The bytes that tensors may take beyond eight times the file size. An expanded tensor repeats its numbers, so
/// it can be larger than the file.
const SPARE_BYTES: usize = 64 << 20;
/// The number that a legacy file begins with.
const LEGACY_MAGIC: i128 = 0x1950_a86a_20f9_469c_fc6c;

type Result<T> = std::result::Result<T, String>;

/// Reads a zip archive that `torch.save` wrote.
pub(super) fn read_zip(file: File, file_len: u64) -> Result<WeightFile> {
    let mut archive = Archive::open(file, budget(file_len))?;
    let pickle = archive.pickle()?;
    let swapped = archive.is_big_endian()?;
    let storages = |key: &str, len: usize| archive.storage(key, len);
    tensors(&pickle, swapped, budget(file_len), storages)
}

/// Reads a file that `torch.save` wrote before version 1.6, or with
/// `_use_new_zipfile_serialization=False`.
pub(super) fn read_legacy(bytes: &[u8]) -> Result<WeightFile> {
    let magic = pickle::read(bytes, 0)?;
    if !matches!(magic.values.get(magic.root), Value::Int(LEGACY_MAGIC)) {
        return Err(not_by_torch(&magic));
    }
    let version = pickle::read(bytes, magic.end)?;
    let system = pickle::read(bytes, version.end)?;
    let pickle = pickle::read(bytes, system.end)?;
    let keys = pickle::read(bytes, pickle.end)?;
    let ranges = legacy_storages(bytes, &pickle, &keys)?;
    let storage = |key: &str, len: usize| {
        let stored = ranges.get(key).and_then(|(start, end)| bytes.get(*start..*end));
        let stored = stored.ok_or_else(|| format!("its storage `{key}` is missing"))?;
        Ok(stored.get(..len).ok_or_else(|| too_short(key, stored.len(), len))?.to_vec())
    };
    tensors(&pickle, is_big_endian(&system), budget(bytes.len() as u64), storage)
}

fn not_by_torch(pickle: &Pickle) -> String {
    match pickle.values.get(pickle.root) {
        Value::Object(object) => format!(
            "it is a plain pickle of a `{}`; save the network's weights with \
             `torch.save(model.state_dict(), \"weights.pth\")`",
            object.class
        ),
        _ => "it is a plain pickle, not written by `torch.save`; save the network's weights with \
              `torch.save(model.state_dict(), \"weights.pth\")`"
            .to_owned(),
    }
}

fn is_big_endian(system: &Pickle) -> bool {
    let Value::Dict(pairs) = system.values.get(system.root) else {
        return false;
    };
    pairs.iter().any(|(key, value)| {
        system.values.text(*key) == Some("little_endian")
            && matches!(system.values.get(*value), Value::Bool(false))
    })
}

/// The start and end of every storage in `bytes`. A storage is a count of eight bytes, followed by its numbers.
fn legacy_storages(
    bytes: &[u8],
    pickle: &Pickle,
    keys: &Pickle,
) -> Result<HashMap<String, (usize, usize)>> {
    let cut = || "it is cut short: a storage is missing; fetch or copy it again".to_owned();
    let mut at = keys.end;
    let mut ranges = HashMap::new();
    for key in keys.values.items(keys.root).unwrap_or_default() {
        let key = keys.values.text(*key).ok_or("its list of storages is damaged")?;
        let storage = pickle.values.storages.get(key).ok_or_else(|| {
            format!(
                "its storage `{key}` is of a number type that is not read; save it after `.float()`"
            )
        })?;
        let count = bytes.get(at..).and_then(<[u8]>::first_chunk::<8>).ok_or_else(cut)?;
        let count = usize::try_from(u64::from_le_bytes(*count)).map_err(|_| cut())?;
        let size = storage.element.map_or(1, super::elements::Element::size);
        let start = at + 8;
        let len = count.checked_mul(size);
        let end = len.and_then(|len| start.checked_add(len)).filter(|end| *end <= bytes.len());
        at = end.ok_or_else(cut)?;
        ranges.insert(key.to_owned(), (start, at));
    }
    Ok(ranges)
}

fn budget(file_len: u64) -> usize {
    usize::try_from(file_len).unwrap_or(usize::MAX).saturating_mul(8).saturating_add(SPARE_BYTES)
}

fn too_short(key: &str, found: usize, expected: usize) -> String {
    format!("its storage `{key}` has {found} bytes, expected {expected}: the file is damaged")
}

/// The tensors of the dictionary that holds the weights. `storage` gives the first bytes of a storage.
fn tensors(
    pickle: &Pickle,
    swapped: bool,
    budget: usize,
    mut storage: impl FnMut(&str, usize) -> Result<Vec<u8>>,
) -> Result<WeightFile> {
    let (found, left_out) = dictionary::find(pickle)?;
    let wanted = by_storage(pickle, &found, budget)?;
    let mut tensors = HashMap::new();
    for (key, views) in wanted {
        let len = views.keys().map(|view| bytes_needed(view)).max().unwrap_or(0);
        let bytes = if len == 0 { Vec::new() } else { storage(key, len)? };
        for (view, names) in views {
            let tensor = tensor(view, &bytes, swapped).map_err(|error| {
                format!("its tensor `{}` cannot be read: {error}", names.first().unwrap_or(&""))
            })?;
            // Tied weights share their memory here as well.
            tensors.extend(names.into_iter().map(|name| (name.to_owned(), tensor.clone())));
        }
    }
    let dictionary = (!found.path.is_empty()).then_some(found.path);
    Ok(WeightFile { tensors, dictionary, left_out, other_network: None })
}

/// How many bytes of its storage a tensor needs, from the start of the storage.
fn bytes_needed(view: &TensorRef) -> usize {
    if view.shape.contains(&0) {
        return 0;
    }
    let places = view.shape.iter().zip(&view.stride);
    let last = places.fold(view.offset, |last, (size, stride)| {
        last.saturating_add(size.saturating_sub(1).saturating_mul(*stride))
    });
    last.saturating_add(1).saturating_mul(view.element.size())
}

/// The views of one storage, each with its names.
type Views<'a> = BTreeMap<&'a TensorRef, Vec<&'a str>>;

/// All wanted tensors, grouped by storage, so that only one storage at a time is in memory.
fn by_storage<'a>(
    pickle: &'a Pickle,
    found: &'a Found,
    budget: usize,
) -> Result<BTreeMap<&'a str, Views<'a>>> {
    let mut wanted: BTreeMap<&str, Views<'_>> = BTreeMap::new();
    let mut total = 0usize;
    for (name, id) in &found.tensors {
        let view = match pickle.values.get(*id) {
            Value::Tensor(view) => view.as_ref(),
            Value::Unreadable(reason) => return Err(format!("its tensor `{name}` {reason}")),
            _ => continue,
        };
        let views = wanted.entry(view.key.as_str()).or_default();
        let names = views.entry(view).or_default();
        if names.is_empty() {
            let count = view.shape.iter().try_fold(1usize, |count, size| count.checked_mul(*size));
            let bytes = count.and_then(|count| count.checked_mul(view.element.size()));
            total = bytes.and_then(|bytes| total.checked_add(bytes)).unwrap_or(usize::MAX);
            if total > budget {
                return Err(format!(
                    "its tensor `{name}` of shape {:?} is too large for the file: it is damaged",
                    view.shape
                ));
            }
        }
        names.push(name);
    }
    Ok(wanted)
}

fn tensor(view: &TensorRef, bytes: &[u8], swapped: bool) -> Result<Tensor> {
    let size = view.element.size();
    let gathered = gathered(bytes, size, view.offset, &view.shape, &view.stride);
    let mut numbers = gathered.ok_or("it reaches beyond its storage")?;
    if swapped {
        swap_bytes(&mut numbers, size);
    }
    view.element.tensor(&numbers, &view.shape).map_err(|error| error.to_string())
}
