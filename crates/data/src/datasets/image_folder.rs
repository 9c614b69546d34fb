//! Pictures in folders that are named after their classes.

mod scan;

use std::path::{Path, PathBuf};

use scan::{Scan, scan};

use crate::dataset::{Dataset, Fingerprint, Sample, Split, check_index};
use crate::error::{Error, Result};
use crate::picture::Picture;
use crate::subset::stratified_split;

/// Pictures in folders that are named after their classes, as torchvision's `ImageFolder`.
///
/// Classes are in order of their names, and the pictures of a class in order of their paths, at
/// any depth. Files without a picture's extension (torchvision's list: a `.gif` has none) are left
/// out and counted.
pub struct ImageFolder {
    files: Vec<(PathBuf, u32)>,
    classes: Vec<String>,
    ignored: usize,
}

/// How one folder of classes is dealt out to splits, the same for the same seed.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FolderSplit {
    /// Share of each class for [`Split::Val`], in `0.0..1.0`.
    pub val: f64,
    /// Share of each class for [`Split::Test`], in `0.0..1.0`.
    pub test: f64,
    /// Chooses the pictures.
    pub seed: u64,
}

impl Default for FolderSplit {
    fn default() -> Self {
        Self { val: 0.2, test: 0.0, seed: 0 }
    }
}

impl ImageFolder {
    /// All pictures of one folder of classes.
    ///
    /// # Errors
    /// If the folder is missing or holds no class folders, or a class has no picture.
    pub fn new(folder: impl AsRef<Path>) -> Result<Self> {
        Ok(Self::from_scan(scan(folder.as_ref())?))
    }

    /// One split of `root`: its folder `train`, `val` or `test` if `root` has a folder `train`; else
    /// `root` is one folder of classes, which is dealt out as `split_of_one` says.
    ///
    /// # Errors
    /// As [`ImageFolder::new`]; if the split has no folder or no share; or if its classes are not
    /// those of `train`.
    pub fn open(root: impl AsRef<Path>, split: Split, split_of_one: FolderSplit) -> Result<Self> {
        let root = root.as_ref();
        if !root.join(Split::Train.name()).is_dir() {
            return Self::deal_out(root, split, split_of_one);
        }
        let folder = root.join(split.name());
        if !folder.is_dir() {
            return Err(Error::NotFound {
                path: folder,
                expected: "a folder of classes beside `train`".to_owned(),
                remedy: "add it, or name one folder of classes to have it split".to_owned(),
            });
        }
        let found = scan(&folder)?;
        if split != Split::Train {
            let trained = scan::class_folders(&root.join(Split::Train.name()))?;
            check_same_classes(&folder, &found.classes, &trained)?;
        }
        Ok(Self::from_scan(found))
    }

    fn deal_out(root: &Path, split: Split, shares: FolderSplit) -> Result<Self> {
        let mut whole = scan(root)?;
        let labels: Vec<u32> = whole.files.iter().map(|(_, label)| *label).collect();
        let fractions = [1.0 - shares.val - shares.test, shares.val, shares.test];
        let part = split as usize;
        // NaN is caught by the split itself.
        if fractions[part] <= 0.0 {
            let reason = format!(
                "of `{}` has no share: train {}, val {}, test {}",
                root.display(),
                fractions[0],
                fractions[1],
                fractions[2]
            );
            return Err(Error::InvalidSetting { setting: split.name(), reason });
        }
        let indices = &stratified_split(&labels, &fractions, shares.seed)?[part];
        whole.files = indices.iter().map(|&index| whole.files[index].clone()).collect();
        Ok(Self::from_scan(whole))
    }

    fn from_scan(Scan { files, classes, ignored }: Scan) -> Self {
        Self { files, classes, ignored }
    }

    /// How many files were left out because of their extension.
    pub fn ignored(&self) -> usize {
        self.ignored
    }

    /// The file of sample `index`.
    ///
    /// # Panics
    /// If there is no such sample.
    pub fn path(&self, index: usize) -> &Path {
        &self.files[index].0
    }
}

impl Dataset for ImageFolder {
    fn len(&self) -> usize {
        self.files.len()
    }

    fn sample(&self, index: usize) -> Result<Sample> {
        check_index(index, self.len())?;
        let (path, label) = &self.files[index];
        Ok(Sample { picture: Picture::open(path)?, label: *label, mask: None })
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn label(&self, index: usize) -> u32 {
        self.files[index].1
    }

    fn name(&self, index: usize) -> String {
        self.files[index].0.display().to_string()
    }

    fn fingerprint(&self) -> String {
        let classes = self.classes.iter().fold(Fingerprint::new("folder"), |f, c| f.text(c));
        let add_file = |hash: Fingerprint, (path, label): &(PathBuf, u32)| {
            // Without the folder in front, so that a copy of the data is the same data.
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let size = std::fs::metadata(path).map_or(0, |file| file.len());
            hash.text(&name).number(size).number(u64::from(*label))
        };
        self.files.iter().fold(classes, add_file).finish()
    }
}

fn check_same_classes(folder: &Path, found: &[String], trained: &[String]) -> Result<()> {
    let without = |a: &[String], b: &[String]| a.iter().find(|name| !b.contains(name)).cloned();
    let problem = match (without(trained, found), without(found, trained)) {
        (Some(missing), _) => format!("has no class `{missing}`, which `train` has"),
        (None, Some(extra)) => format!("has a class `{extra}`, which `train` has not"),
        (None, None) => return Ok(()),
    };
    let remedy = "give both the same class folders".to_owned();
    Err(Error::Invalid { path: folder.to_path_buf(), problem, remedy })
}
