//! The Parquet files of a data set, by split.

use std::collections::{BTreeMap, BTreeSet};
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

/// What the name of a file says of it: `train-00001-of-00002` is part 1 of the 2 of `train`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Series {
    folder: PathBuf,
    name: String,
    /// The number of parts, as it is written.
    count: String,
}

impl Series {
    /// The series of a file, the number of the file in it, and how many there are.
    fn of(file: &Path) -> Option<(Self, usize, usize)> {
        let (start, end) = file.file_stem()?.to_str()?.rsplit_once("-of-")?;
        let (name, number) = start.rsplit_once('-')?;
        // Older files have a hash behind it.
        let count = end.split('-').next()?;
        let folder = file.parent()?.to_path_buf();
        let series = Self { folder, name: name.to_owned(), count: count.to_owned() };
        Some((series, number.parse().ok()?, count.parse().ok()?))
    }
}

/// Says that a file alone is a part of a series.
pub(super) fn is_part(path: &Path) -> Option<String> {
    let (_, _, count) = Series::of(path).filter(|_| is_parquet(path) && path.is_file())?;
    let line =
        || format!("`{}` is one of {count} files; name its folder to use all", path.display());
    (count > 1).then(line)
}

/// Fails if a file is missing whose number lies among those of others: a download may have ended early.
fn check_whole(files: &[PathBuf]) -> Result<()> {
    let mut series = BTreeMap::<(Series, usize), BTreeSet<usize>>::new();
    for (of, number, count) in files.iter().filter_map(|file| Series::of(file)) {
        series.entry((of, count)).or_default().insert(number);
    }
    for ((of, count), numbers) in series {
        let mut missing = (0..count).filter(|number| !numbers.contains(number));
        let Some(first) = missing.next() else { continue };
        let digits = of.count.len();
        let name = |n: usize| format!("{}-{n:0digits$}-of-{}.parquet", of.name, of.count);
        let more: Vec<String> = missing.take(4).map(|n| format!("`{}`", name(n))).collect();
        let more =
            if more.is_empty() { String::new() } else { format!(" ({} too)", more.join(", ")) };
        return Err(Error::NotFound {
            path: of.folder.join(name(first)),
            expected: format!("{} of {count} files are there{more}", numbers.len()),
            remedy: "fetch all files, or name a single file to use it alone".to_owned(),
        });
    }
    Ok(())
}

/// The files of a path by split. Files whose names say no split are training images.
pub(super) fn parts(path: &Path) -> Result<Parts> {
    if is_parquet(path) && path.is_file() {
        return Ok(Parts { train: vec![path.to_path_buf()], ..Parts::default() });
    }
    let files = files_below(path, MAX_DEPTH)?;
    check_whole(&files)?;
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
