//! ImageNet (ILSVRC 2012), as torchvision, the official archives or Kaggle's copy lay it out.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::caltech101::not_found;
use super::image_folder::class_names;
use super::labelled_files::text_of;
use super::{DataSetEntry, ImageFolder, OpenRequest, Opened, find_folder, mat5, remedy};
use crate::dataset::{Dataset, Split};
use crate::error::{Error, Result};

const NAME: &str = "imagenet";
/// Where the folders of the splits may lie, relative to the data set's folder.
const TRAIN: [&str; 3] = ["train", "ILSVRC2012_img_train", "ILSVRC/Data/CLS-LOC/train"];
const VAL: [&str; 3] = ["val", "ILSVRC2012_img_val", "ILSVRC/Data/CLS-LOC/val"];
/// The official list of classes, and that of the classes of the validation images, in the order of their names.
const META: &str = "ILSVRC2012_devkit_t12/data/meta.mat";
const TRUTH: &str = "ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt";
/// Kaggle's lists of both.
const KAGGLE_CLASSES: &str = "LOC_synset_mapping.txt";
const KAGGLE_TRUTH: &str = "LOC_val_solution.csv";

pub(super) fn entry() -> DataSetEntry {
    let summary =
        "photos of 1,000 classes (ILSVRC 2012): 1,281,167 to train on, 50,000 to validate on";
    DataSetEntry::new(NAME, summary, open).lies_in([NAME]).fetched_as(NAME)
}

fn open(request: &OpenRequest) -> Result<Opened> {
    request.no_settings(NAME)?;
    let root = request.data_dir.join(NAME);
    let folders = if request.split == Split::Train { &TRAIN } else { &VAL };
    let Some(images) = find_folder(&root, folders, Path::is_dir) else {
        return Err(not_found(request, &format!("{NAME}/{}", folders[0])));
    };
    let classes = Classes::find(&root, &images)?;
    let is_flat = request.split != Split::Train && class_names(&images).is_err();
    let images = if is_flat {
        classes.of_flat(&root, &images)?
    } else {
        ImageFolder::with_classes(&images, &classes.ids)?
    };
    let images = images.with_class_names(&classes.names)?;
    debug_assert_eq!(images.classes().len(), classes.ids.len());
    Ok(Opened::folder(images.with_read_options(request.read)))
}

/// The classes in the order of their labels, which is that of their identifiers.
struct Classes {
    /// Identifiers of WordNet, such as `n01440764`.
    ids: Vec<String>,
    /// Their first words, such as `tench`.
    names: Vec<String>,
    /// The identifier of each official number.
    by_number: BTreeMap<i64, String>,
}

impl Classes {
    fn find(root: &Path, images: &Path) -> Result<Self> {
        let meta = root.join(META);
        let (words, by_number) =
            if meta.is_file() { of_meta(&meta)? } else { (of_kaggle(root)?, BTreeMap::new()) };
        // A part of the classes may be there: the training images say which.
        let train = find_folder(root, &TRAIN, Path::is_dir);
        let of_folder = class_names(train.as_deref().unwrap_or(images));
        let ids = match of_folder {
            Ok(ids) => ids,
            Err(_) if !words.is_empty() => words.keys().cloned().collect(),
            Err(error) => return Err(error),
        };
        let first_of =
            |words: &String| words.split(',').next().unwrap_or_default().trim().to_owned();
        let name = |id: &String| words.get(id).map_or_else(|| id.clone(), first_of);
        let names = ids.iter().map(name).collect();
        Ok(Self { ids, names, by_number })
    }

    /// The validation images, if they lie in one folder.
    fn of_flat(&self, root: &Path, folder: &Path) -> Result<ImageFolder> {
        let kaggle = root.join(KAGGLE_TRUTH);
        let truth = root.join(TRUTH);
        if truth.is_file() && !self.by_number.is_empty() {
            return self.of_truth(folder, &truth);
        }
        let list = if kaggle.is_file() { Some(kaggle) } else { ImageFolder::find_list(folder) };
        let Some(list) = list else {
            return Err(Error::NotFound {
                path: truth,
                expected: "the classes of the validation images, which lie in no class folders"
                    .to_owned(),
                remedy: format!(
                    "unpack ILSVRC2012_devkit_t12.tar.gz beside `{}`, or put {KAGGLE_TRUTH} there",
                    folder.display()
                ),
            });
        };
        ImageFolder::with_list(folder, list, &self.ids, &[])
    }

    fn of_truth(&self, folder: &Path, truth: &Path) -> Result<ImageFolder> {
        let invalid = |problem: String| Error::Invalid {
            path: truth.to_path_buf(),
            problem,
            remedy: remedy::AGAIN.to_owned(),
        };
        let (files, _) = super::find_images(folder)?;
        let text = text_of(truth)?;
        let numbers: Vec<&str> = text.split_whitespace().collect();
        if numbers.len() != files.len() {
            let there = folder.display();
            let problem =
                format!("has {} classes for {} images in `{there}`", numbers.len(), files.len());
            return Err(invalid(problem));
        }
        let label = |(line, number): (usize, &&str)| {
            let id = number.parse().ok().and_then(|number: i64| self.by_number.get(&number));
            let label = id.and_then(|id| self.ids.iter().position(|known| known == id));
            label.map(|label| label as u32).ok_or_else(|| {
                invalid(format!("line {} has `{number}`, which is none of the classes", line + 1))
            })
        };
        let labels = numbers.iter().enumerate().map(label).collect::<Result<Vec<_>>>()?;
        let rows: Vec<(PathBuf, u32)> = files.into_iter().zip(labels).collect();
        ImageFolder::of_rows(folder, rows, &self.ids)
    }
}

/// Words of the classes by identifier, and the identifiers by number.
type Words = (BTreeMap<String, String>, BTreeMap<i64, String>);

fn of_meta(path: &Path) -> Result<Words> {
    let invalid = || Error::Invalid {
        path: path.to_path_buf(),
        problem: "has no list `synsets` of classes".to_owned(),
        remedy: remedy::AGAIN.to_owned(),
    };
    let file = mat5::read(path)?;
    let synsets = file.get("synsets").ok_or_else(invalid)?;
    let field = |name: &str| synsets.field(name).ok_or_else(invalid);
    let (numbers, ids) = (field("ILSVRC2012_ID")?, field("WNID")?);
    let (words, children) = (field("words")?, field("num_children")?);
    let (mut of_ids, mut by_number) = Words::default();
    for (i, id) in ids.iter().enumerate() {
        let id = id.text().ok_or_else(invalid)?.to_owned();
        let text = words.get(i).and_then(|words| words.text()).ok_or_else(invalid)?.to_owned();
        let number = numbers.get(i).and_then(|number| first(number)).ok_or_else(invalid)?;
        // The list also has the groups above the classes.
        if children.get(i).and_then(|count| first(count)) == Some(0) {
            by_number.insert(number, id.clone());
            of_ids.insert(id, text);
        }
    }
    Ok((of_ids, by_number))
}

fn first(array: &mat5::Array) -> Option<i64> {
    array.integers()?.first().copied()
}

fn of_kaggle(root: &Path) -> Result<BTreeMap<String, String>> {
    let path = root.join(KAGGLE_CLASSES);
    if !path.is_file() {
        return Ok(BTreeMap::new());
    }
    let text = text_of(&path)?;
    let pair = |line: &str| line.trim().split_once(' ').map(|(a, b)| (a.to_owned(), b.to_owned()));
    Ok(text.lines().filter_map(pair).collect())
}
