//! The Parquet files of a data set, by split.

use std::path::{Path, PathBuf};

use crate::dataset::Split;
use crate::datasets::image_folder::split_called;
use crate::error::{Error, Result};

/// Hugging Face nests folders no deeper: `CONFIG/SPLIT/0000.parquet`.
const MAX_DEPTH: usize = 3;

/// The files of each split.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Parts {
    pub(super) train: Vec<PathBuf>,
    pub(super) val: Vec<PathBuf>,
    pub(super) test: Vec<PathBuf>,
}

fn is_parquet(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "parquet")
}

/// Whether this is a Parquet file or a folder with one.
pub(in crate::datasets) fn holds_parquet(path: &Path) -> bool {
    is_parquet(path) || files_below(path, MAX_DEPTH).is_ok_and(|files| !files.is_empty())
}

fn files_below(folder: &Path, depth: usize) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    if depth == 0 || !folder.is_dir() {
        return Ok(files);
    }
    for entry in std::fs::read_dir(folder).map_err(Error::io(folder))? {
        let path = entry.map_err(Error::io(folder))?.path();
        let is_hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes()[0] == b'.');
        if is_hidden {
            continue;
        }
        if path.is_dir() {
            files.extend(files_below(&path, depth - 1)?);
        } else if is_parquet(&path) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// The split in the name of a file (`train-00000-of-00002.parquet`) or of its folder (`train/0000.parquet`).
fn split_of(file: &Path) -> Option<Split> {
    let stem = file.file_stem()?.to_str()?;
    let word = stem.split(['-', '_', '.']).next().unwrap_or_default();
    let folder = || file.parent()?.file_name()?.to_str();
    split_called(word).or_else(|| split_called(folder()?))
}

/// The files of a path by split. Files whose names say no split are training images.
pub(super) fn parts(path: &Path) -> Result<Parts> {
    if is_parquet(path) && path.is_file() {
        return Ok(Parts { train: vec![path.to_path_buf()], ..Parts::default() });
    }
    let files = files_below(path, MAX_DEPTH)?;
    let mut parts = Parts::default();
    for file in files {
        match split_of(&file) {
            Some(Split::Val) => parts.val.push(file),
            Some(Split::Test) => parts.test.push(file),
            Some(Split::Train) | None => parts.train.push(file),
        }
    }
    if parts.train.is_empty() {
        return Err(Error::NotFound {
            path: path.to_path_buf(),
            expected: "Parquet files to train on, such as `data/train-00000-of-00001.parquet`"
                .to_owned(),
            remedy: "check the path".to_owned(),
        });
    }
    Ok(parts)
}
