//! Parquet files with a column of images, as Hugging Face stores data sets.

mod columns;
mod files;
mod footer;
mod pages;
mod thrift;

use std::collections::VecDeque;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use columns::{Columns, Images};
pub(super) use files::holds_parquet;
use files::{Parts, is_part, parts};
use serde::Deserialize;

use super::image_table::labelling::{Label, Labelling, occurring};
use super::image_table::{kept_for_validation, rest_of};
use super::shards::order;
use super::table::own_path;
use super::{DataSetEntry, OpenRequest, Opened};
use crate::dataset::{Dataset, Fingerprint, Sample, Split, check_index};
use crate::error::{Error, Result};
use crate::image::{ChoosePart, Image, ReadOptions};
use crate::subset::Subset;

const NAME: &str = "parquet";
/// Row groups are kept up to this size, so that neighbouring samples need no second decompression.
const KEPT_BYTES: usize = 512 << 20;

pub(super) fn entry() -> DataSetEntry {
    let summary = "Parquet files with a column of images and one of labels";
    DataSetEntry::new(NAME, summary, open).lies_at_path().has_test_images_if(has_test)
}

/// Which columns of Parquet files are read.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct ParquetOptions {
    /// The column of the images: bytes, or a group with a field `bytes`.
    image: String,
    /// The column of the labels: whole numbers or names.
    label: String,
    /// The names of the classes. By default those that Hugging Face's metadata has, or else the labels that occur.
    classes: Option<Vec<String>>,
    /// How many samples the window of the shuffle has.
    window: usize,
}

impl Default for ParquetOptions {
    fn default() -> Self {
        // A row group usually has 100 to 1,000 images. A window over many of them would decompress each many times.
        Self { image: "image".to_owned(), label: "label".to_owned(), classes: None, window: 1_000 }
    }
}

/// Whether there are test images.
pub(super) fn has_test(request: &OpenRequest) -> Result<bool> {
    Ok(!parts(own_path(request, NAME)?)?.test.is_empty())
}

pub(super) fn open(request: &OpenRequest) -> Result<Opened> {
    let path = own_path(request, NAME)?;
    let options: ParquetOptions = request.settings(NAME)?;
    let Parts { train, val, test } = parts(path)?;
    let train_set = || ParquetImages::open(&train, &options, None, request.read);
    let of_split = |files: &[PathBuf]| {
        let classes = train_set()?.classes;
        ParquetImages::open(files, &options, Some(classes), request.read)
    };
    let mut opened: Opened = match request.split {
        Split::Val if !val.is_empty() => of_split(&val)?.into(),
        Split::Test if !test.is_empty() => of_split(&test)?.into(),
        Split::Train if !val.is_empty() => train_set()?.into(),
        _ => {
            let set = train_set()?;
            let chosen = rest_of(&set.labels, request)?;
            let part = Subset::new(Arc::new(set), chosen)?;
            Opened { remarks: vec![kept_for_validation(request)], ..part.into() }
        }
    };
    opened.remarks.extend(is_part(path));
    Ok(opened)
}

/// The images of Parquet files.
struct ParquetImages {
    groups: Vec<Group>,
    labels: Vec<u32>,
    classes: Vec<String>,
    options: ParquetOptions,
    read: ReadOptions,
    /// The row groups that are kept, the last used first.
    kept: Mutex<VecDeque<(usize, Arc<OnceLock<Images>>)>>,
}

/// A row group of a file.
struct Group {
    file: PathBuf,
    number: usize,
    rows: Range<usize>,
}

impl ParquetImages {
    fn open(
        files: &[PathBuf],
        options: &ParquetOptions,
        classes: Option<Vec<String>>,
        read: ReadOptions,
    ) -> Result<Self> {
        let (mut groups, mut labels): (Vec<Group>, Vec<Label>) = (Vec::new(), Vec::new());
        let mut classes = classes.or_else(|| options.classes.clone());
        for file in files {
            let columns = Columns::open(file, &options.image, &options.label)?;
            if classes.is_none() {
                classes = columns.class_names();
            }
            for number in 0..columns.groups() {
                let start = labels.len();
                labels.extend(columns.labels(number)?);
                groups.push(Group { file: file.clone(), number, rows: start..labels.len() });
            }
        }
        let Some(first) = files.first().filter(|_| !labels.is_empty()) else {
            return Err(Error::NotFound {
                path: files.first().cloned().unwrap_or_default(),
                expected: "Parquet files with at least one row".to_owned(),
                remedy: "check the path".to_owned(),
            });
        };
        let classes = match classes {
            Some(classes) => classes,
            None => occurring(first, labels.iter())?,
        };
        let labelling = Labelling::of_classes(classes);
        let label = |(row, label): (usize, &Label)| {
            labelling.label(label).map_err(|problem| {
                let place = groups.partition_point(|group| group.rows.end <= row);
                let group = &groups[place];
                let row = row - group.rows.start;
                Error::Invalid {
                    path: group.file.clone(),
                    problem: format!("row {row} of group {} {problem}", group.number),
                    remedy: "correct the label, or name all classes with `options.classes`"
                        .to_owned(),
                }
            })
        };
        let labels = labels.iter().enumerate().map(label).collect::<Result<Vec<u32>>>()?;
        let classes = labelling.classes().to_vec();
        Ok(Self { groups, labels, classes, options: options.clone(), read, kept: Mutex::default() })
    }

    fn group_of(&self, index: usize) -> usize {
        self.groups.partition_point(|group| group.rows.end <= index)
    }

    /// The images of a row group, which is read if it is not kept.
    fn images(&self, place: usize) -> Result<Arc<OnceLock<Images>>> {
        let slot = {
            let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            let found = kept.iter().position(|(of, _)| *of == place);
            let entry = found.and_then(|at| kept.remove(at));
            let entry = entry.unwrap_or_else(|| (place, Arc::default()));
            let slot = Arc::clone(&entry.1);
            kept.push_front(entry);
            slot
        };
        if slot.get().is_none() {
            let group = &self.groups[place];
            let columns = Columns::open(&group.file, &self.options.image, &self.options.label)?;
            let images = columns.images(group.number)?;
            if images.len() != group.rows.len() {
                return Err(Error::Invalid {
                    path: group.file.clone(),
                    problem: format!(
                        "has {} images in row group {}, expected {}",
                        images.len(),
                        group.number,
                        group.rows.len()
                    ),
                    remedy: "fetch it again".to_owned(),
                });
            }
            // Another thread may have been faster. Its images are the same.
            let _ = slot.set(images);
            self.drop_oldest();
        }
        Ok(slot)
    }

    /// Drops the row groups that were not used for longest, until the others fit.
    fn drop_oldest(&self) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut bytes, mut count) = (0_usize, 0);
        for (_, slot) in kept.iter() {
            bytes = bytes.saturating_add(slot.get().map_or(0, Images::bytes));
            if count > 0 && bytes > KEPT_BYTES {
                break;
            }
            count += 1;
        }
        kept.truncate(count);
    }
}

impl ParquetImages {
    /// Reads a sample. `read` gets the bytes of its image and its name.
    fn read<T>(&self, index: usize, read: impl FnOnce(&[u8], &str) -> Result<T>) -> Result<T> {
        check_index(index, self.len())?;
        let place = self.group_of(index);
        let images = self.images(place)?;
        let row = index - self.groups[place].rows.start;
        let bytes = images.get().and_then(|images| images.get(row)).unwrap_or_default();
        read(bytes, &self.name(index))
    }
}

impl Dataset for ParquetImages {
    fn len(&self) -> usize {
        self.labels.len()
    }

    fn sample(&self, index: usize) -> Result<Sample> {
        let image = self.read(index, |bytes, name| Image::decode_with(bytes, name, &self.read))?;
        Ok(Sample::new(image, self.label(index)))
    }

    fn sample_part(&self, index: usize, choose: &mut ChoosePart<'_>) -> Result<Sample> {
        let decode =
            |bytes: &[u8], name: &str| Image::decode_part_with(bytes, name, &self.read, choose);
        Ok(Sample::new(self.read(index, decode)?, self.label(index)))
    }

    fn image_file(&self, index: usize) -> Result<Option<Vec<u8>>> {
        self.read(index, |bytes, _| Ok(Some(bytes.to_vec())))
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn label(&self, index: usize) -> u32 {
        self.labels[index]
    }

    fn name(&self, index: usize) -> String {
        let group = &self.groups[self.group_of(index)];
        let first = self.groups.iter().find(|other| other.file == group.file);
        let row = index - first.map_or(0, |first| first.rows.start);
        format!("{}[{row}]", group.file.display())
    }

    fn fingerprint(&self) -> String {
        let kind = if self.read.exif_orientation { "upright parquet" } else { "parquet" };
        let hash = self.classes.iter().fold(Fingerprint::new(kind), |hash, class| hash.text(class));
        let mut files: Vec<&Path> = self.groups.iter().map(|group| group.file.as_path()).collect();
        files.dedup();
        let size = |file: &Path| file.metadata().map_or(0, |metadata| metadata.len());
        let hash = files.into_iter().fold(hash, |hash, file| hash.number(size(file)));
        self.labels.iter().fold(hash, |hash, &label| hash.number(u64::from(label))).finish()
    }

    fn shuffled_order(&self, seed: u64, epoch: usize) -> Option<Vec<usize>> {
        let blocks: Vec<Range<usize>> =
            self.groups.iter().map(|group| group.rows.clone()).collect();
        let window = self.options.window;
        (window > 0).then(|| order::windowed(&blocks, window, seed, epoch))
    }

    fn exif_orientation(&self) -> bool {
        self.read.exif_orientation
    }

    fn is_cacheable(&self) -> bool {
        true
    }
}
