//! Weights in several files, with an index of which file holds which tensor: `model.safetensors.index.json`, as
//! Hugging Face's libraries write it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Deserialize;

use super::WeightFile;

/// How the name of an index ends.
const SUFFIX: &str = ".index.json";
/// The largest index that is read, in bytes: ten thousand times a network's.
const MAX_BYTES: u64 = 64 << 20;

#[derive(Deserialize)]
struct Index {
    /// The file of each tensor, beside the index.
    weight_map: BTreeMap<String, String>,
}

/// Whether `path` is called as an index is.
pub(super) fn is_index(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().ends_with(SUFFIX))
}

/// The tensors of all files of the index.
pub(super) fn read(path: &Path, len: u64) -> Result<WeightFile, String> {
    if len > MAX_BYTES {
        return Err(format!("its {len} bytes are more than an index of weights has"));
    }
    let text = std::fs::read(path).map_err(|error| error.to_string())?;
    let Index { weight_map } = serde_json::from_slice(&text)
        .map_err(|error| format!("it is no index of weight files ({error})"))?;
    let files: BTreeSet<&String> = weight_map.values().collect();
    let mut whole = WeightFile {
        tensors: Default::default(),
        dictionary: None,
        left_out: Vec::new(),
        other_network: None,
    };
    for file in files {
        // A name with a folder in it could lead anywhere, and that of an index back to this one.
        let is_name = Path::new(file).file_name().is_some_and(|name| name == file.as_str());
        if !is_name || is_index(Path::new(file)) {
            return Err(format!("its file `{file}` is no file of weights beside it"));
        }
        let part =
            WeightFile::read(path.with_file_name(file)).map_err(|error| error.to_string())?;
        whole.tensors.extend(part.tensors);
    }
    match weight_map.keys().find(|name| !whole.tensors.contains_key(*name)) {
        Some(name) => Err(format!("its tensor `{name}` is in none of its files")),
        None => Ok(whole),
    }
}
