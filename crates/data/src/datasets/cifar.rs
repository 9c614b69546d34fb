//! CIFAR-10 in its binary format: records of one label byte and 3072 pixel bytes.

use std::path::{Path, PathBuf};

use super::{DataSetEntry, OpenRequest, Opened, find_folder, names_in, remedy};
use crate::dataset::{Dataset, Fingerprint, Sample, Split, check_index};
use crate::error::{Error, Result};
use crate::image::Image;

const SIDE: usize = 32;
const PLANE: usize = SIDE * SIDE;
const RECORD: usize = 1 + 3 * PLANE;

/// Number of records in each of the official files.
const OFFICIAL_RECORDS: usize = 10_000;

const CLASSES: [&str; 10] =
    ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];

/// The usual names of the folder inside a data folder, best first.
const FOLDERS: [&str; 2] = ["cifar-10-batches-bin", "cifar10"];

pub(super) fn entry() -> DataSetEntry {
    DataSetEntry::new("cifar10", "photos of ten classes, 32x32", open)
        .lies_in(FOLDERS)
        .fetched_as("cifar10")
        .image_shape([3, SIDE, SIDE])
}

fn open(request: &OpenRequest) -> Result<Opened> {
    let is_there = |folder: &Path| folder.is_dir();
    let folder = find_folder(&request.data_dir, &FOLDERS, is_there);
    let folder = folder.unwrap_or_else(|| request.data_dir.join(FOLDERS[1]));
    Ok(Cifar10::open(folder, request.split)?.into())
}

/// CIFAR-10 in memory: 32x32 RGB images of ten classes.
///
/// The files are the official `data_batch_1.bin` to `data_batch_5.bin` and `test_batch.bin`. Without them, all
/// files `train_*.bin` and `test_*.bin` are read, each with any number of whole records. There is no validation
/// part, so [`Split::Val`] and [`Split::Test`] are both the test images.
pub struct Cifar10 {
    split: Split,
    records: Vec<u8>,
    classes: Vec<String>,
}

impl Cifar10 {
    /// Reads a split from `folder`, or from `cifar-10-batches-bin/` or `cifar10/` in it.
    ///
    /// # Errors
    /// If a file is missing, does not consist of whole records, or has a label above 9.
    pub fn open(folder: impl AsRef<Path>, split: Split) -> Result<Self> {
        let root = folder.as_ref();
        let places = ["", "cifar-10-batches-bin", "cifar10", "cifar10/cifar-10-batches-bin"];
        let has_files = |folder: &Path| split_files(folder, split).is_ok_and(|f| !f.is_empty());
        let folder = find_folder(root, &places, has_files).unwrap_or_else(|| root.to_path_buf());
        let files = split_files(&folder, split)?;
        if files.is_empty() {
            let name = if split == Split::Train { "data_batch_1.bin" } else { "test_batch.bin" };
            return Err(not_found(folder.join(name)));
        }
        let mut records = Vec::new();
        for file in &files {
            read_records(file, &mut records)?;
        }
        let classes =
            names_in(&folder.join("batches.meta.txt"), CLASSES.map(str::to_owned).to_vec())?;
        Ok(Self { split, records, classes })
    }
}

impl std::fmt::Debug for Cifar10 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut text = f.debug_struct("Cifar10");
        text.field("split", &self.split).field("len", &self.len()).finish_non_exhaustive()
    }
}

impl Dataset for Cifar10 {
    fn len(&self) -> usize {
        self.records.len() / RECORD
    }

    fn sample(&self, index: usize) -> Result<Sample> {
        check_index(index, self.len())?;
        let planes = &self.records[index * RECORD + 1..][..3 * PLANE];
        let interleaved = |i: usize| [planes[i], planes[PLANE + i], planes[2 * PLANE + i]];
        let pixels = (0..PLANE).flat_map(interleaved).collect();
        let image = Image::new(SIDE, SIDE, 3, pixels)?;
        Ok(Sample { image, label: self.label(index), mask: None })
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn label(&self, index: usize) -> u32 {
        u32::from(self.records[index * RECORD])
    }

    fn name(&self, index: usize) -> String {
        format!("{}[{index}]", self.split)
    }

    fn fingerprint(&self) -> String {
        let labels: Vec<u8> = self.records.iter().step_by(RECORD).copied().collect();
        Fingerprint::new("cifar10").bytes(&labels).finish()
    }

    fn in_memory(&self) -> bool {
        true
    }

    fn is_cacheable(&self) -> bool {
        true
    }
}

/// The files of a split. If the first official file is there, these are all official files. Otherwise they are
/// the other files.
fn split_files(folder: &Path, split: Split) -> Result<Vec<PathBuf>> {
    let official: Vec<PathBuf> = match split {
        Split::Train => (1..=5).map(|n| folder.join(format!("data_batch_{n}.bin"))).collect(),
        Split::Val | Split::Test => vec![folder.join("test_batch.bin")],
    };
    if official.iter().any(|path| path.is_file()) {
        return match official.iter().find(|path| !path.is_file()) {
            Some(missing) => Err(not_found(missing.clone())),
            None => Ok(official),
        };
    }
    let prefix = if split == Split::Train { "train_" } else { "test_" };
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Ok(Vec::new());
    };
    let mut files: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            name.starts_with(prefix) && name.ends_with(".bin")
        })
        .collect();
    files.sort();
    Ok(files)
}

fn read_records(path: &Path, records: &mut Vec<u8>) -> Result<()> {
    let bytes = std::fs::read(path).map_err(Error::io(path))?;
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let is_official = name.starts_with("data_batch_") || name == "test_batch.bin";
    let expected = if is_official && bytes.len() != OFFICIAL_RECORDS * RECORD {
        Some(format!("{}", OFFICIAL_RECORDS * RECORD))
    } else if bytes.is_empty() || !bytes.len().is_multiple_of(RECORD) {
        Some(format!("whole records of {RECORD}"))
    } else {
        None
    };
    if let Some(expected) = expected {
        let remedy = remedy::AGAIN.to_owned();
        let found = bytes.len() as u64;
        return Err(Error::FileSize { path: path.to_path_buf(), found, expected, remedy });
    }
    let labels = bytes.iter().step_by(RECORD);
    if let Some((record, label)) = labels.enumerate().find(|(_, label)| **label > 9) {
        return Err(Error::Invalid {
            path: path.to_path_buf(),
            problem: format!("has label {label} in record {record}, above 9"),
            remedy: remedy::AGAIN.to_owned(),
        });
    }
    records.extend_from_slice(&bytes);
    Ok(())
}

fn not_found(path: PathBuf) -> Error {
    let expected = "a file of CIFAR-10's binary version".to_owned();
    Error::NotFound { path, expected, remedy: remedy::FETCH.to_owned() }
}
