//! Finds what is wrong with an image folder before it is trained on: the doctor of `candle-vision data check`.
//!
//! [`check_folder`] reads every file as training would. It reports files that cannot be read, odd files, images that
//! come twice (within a split, across splits, under two classes), sizes, mean and standard deviation, the balance of the
//! classes, and class names that differ only in how they are written. [`FolderCheck::write_cleaned`] writes a copy
//! without what can be left out safely. Nothing here changes the folder itself.
//!
//! ```
//! use candle_vision_data::check::{CheckOptions, Severity, check_folder};
//!
//! # let folder = tempfile::tempdir()?;
//! # for class in ["ants", "bees"] {
//! #     std::fs::create_dir(folder.path().join(class))?;
//! #     for i in 0..3 {
//! #         std::fs::write(folder.path().join(format!("{class}/{i}.pgm")), format!("P2 2 2 255 {i} 9 9 90"))?;
//! #     }
//! # }
//! std::fs::write(folder.path().join("bees/cut.png"), b"\x89PNG\r\n\x1a\n")?;
//! let check = check_folder(folder.path(), &CheckOptions::new(), |_, _| {})?;
//! assert!(check.fails_training());
//! let error = check.findings.iter().find(|finding| finding.severity == Severity::Error).unwrap();
//! assert_eq!(check.files[error.files[0]].path.to_str(), Some("bees/cut.png"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod classes;
mod clean;
mod duplicates;
mod files;
mod findings;
mod hash;
mod scan;
mod sizes;

use std::path::{Path, PathBuf};

use serde::{Serialize, Serializer};

pub use classes::ClassCounts;
pub use clean::{Action, Cleaned, CleaningStep};
pub use duplicates::Duplicate;
pub use files::{CheckedFile, FileState, ImageFacts};
pub use findings::{Finding, Severity};
pub use hash::{PerceptualHash, Thumbnail};
pub use sizes::{Sizes, Spread};

use crate::dataset::Split;
use crate::datasets::image_folder::check_is_folder;
use crate::datasets::{FolderLayout, FolderSplit, ImageFolder};
use crate::error::Result;
use crate::image::ReadOptions;
use crate::statistics::Statistics;
use findings::Facts;

/// How a folder is checked.
///
/// ```
/// use candle_vision_data::check::CheckOptions;
///
/// assert_eq!(CheckOptions::new().distance(3).distance, 3);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct CheckOptions {
    /// How images are read. By default photos are turned upright, as `train --folder` does.
    pub read: ReadOptions,
    /// How a folder without validation images would be divided.
    pub shares: FolderSplit,
    /// In how many of their 64 bits the hashes of near-duplicates may differ. 8 by default.
    pub distance: u32,
    /// Number of threads that read images. By default one for each core.
    pub threads: usize,
}

impl CheckOptions {
    /// The defaults.
    pub fn new() -> Self {
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let read = ReadOptions::default().with_exif_orientation(true);
        Self { read, shares: FolderSplit::default(), distance: 8, threads }
    }

    /// Sets how images are read.
    pub fn read(self, read: ReadOptions) -> Self {
        Self { read, ..self }
    }

    /// Sets in how many bits the hashes of near-duplicates may differ, at most 32. With 0 only equal hashes count.
    pub fn distance(self, distance: u32) -> Self {
        Self { distance: distance.min(32), ..self }
    }

    /// Sets the number of threads.
    pub fn threads(self, threads: usize) -> Self {
        Self { threads: threads.max(1), ..self }
    }
}

impl Default for CheckOptions {
    fn default() -> Self {
        Self::new()
    }
}

/// What was found in an image folder. It does not depend on the number of threads.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct FolderCheck {
    /// The folder.
    #[serde(serialize_with = "as_text")]
    pub root: PathBuf,
    /// How it is split, in one line, if that is clear.
    pub layout: Option<String>,
    /// Every file that is an image, or looks like one but is left out. Sorted by path.
    pub files: Vec<CheckedFile>,
    /// Number of images of each class in each split.
    pub classes: Vec<ClassCounts>,
    /// Width, height and aspect of the images. `None` if none can be read.
    pub sizes: Option<Sizes>,
    /// Mean and standard deviation of the training images, or of all images if nothing says which are for training.
    pub statistics: Option<Statistics>,
    /// Pairs of images that are the same or nearly so: those across splits first.
    pub duplicates: Vec<Duplicate>,
    /// What is wrong or worth knowing, the worst first.
    pub findings: Vec<Finding>,
}

/// Checks an image folder. `progress` gets the number of files done and of all files.
///
/// A folder may be so wrong that nothing can be trained on it. That is a finding and no error.
///
/// # Errors
/// If the folder is not there or cannot be listed.
pub fn check_folder(
    root: impl AsRef<Path>,
    options: &CheckOptions,
    mut progress: impl FnMut(usize, usize),
) -> Result<FolderCheck> {
    let root = root.as_ref();
    check_is_folder(root)?;
    let layout = FolderLayout::find(root);
    let found = scan::scan(root, layout.as_ref().ok(), &options.shares)?;
    let (mut files, sums) = files::read_all(root, found, options, &mut progress)?;
    files.iter_mut().for_each(CheckedFile::relative_to(root));
    let duplicates = duplicates::find(&files, options.distance);
    let classes = classes::count(&files);
    let sizes = Sizes::of(&files);
    let facts = Facts {
        files: &files,
        classes: &classes,
        duplicates: &duplicates,
        refusals: refusals(&layout, options),
        is_split: layout.as_ref().is_ok_and(FolderLayout::is_split),
    };
    let findings = facts.findings();
    Ok(FolderCheck {
        root: root.to_path_buf(),
        layout: layout.ok().map(|layout| layout.to_string()),
        classes,
        sizes,
        statistics: sums.and_then(|sums| sums.finish().ok()),
        duplicates,
        findings,
        files,
    })
}

/// Why training would refuse the folder before it reads an image. Its own code says so.
fn refusals(layout: &Result<FolderLayout>, options: &CheckOptions) -> Vec<String> {
    let layout = match layout {
        Ok(layout) => layout,
        Err(error) => return vec![error.to_string()],
    };
    let has_test = layout.split(Split::Test).is_some();
    let splits = [Split::Train, Split::Val].into_iter().chain(has_test.then_some(Split::Test));
    let mut reasons: Vec<String> = splits
        .filter_map(|split| ImageFolder::open_layout(layout, split, options.shares).err())
        .map(|error| error.to_string())
        .collect();
    reasons.dedup();
    reasons
}

impl FolderCheck {
    /// Whether training on the folder would end with an error.
    pub fn fails_training(&self) -> bool {
        self.findings.iter().any(|finding| finding.severity == Severity::Error)
    }

    /// The images that can be read.
    pub fn images(&self) -> impl Iterator<Item = (&CheckedFile, &ImageFacts)> {
        self.files.iter().filter_map(|file| Some((file, file.image()?)))
    }

    /// The place of a file on the disk.
    pub fn path(&self, file: &CheckedFile) -> PathBuf {
        self.root.join(&file.path)
    }
}

/// Paths are for people. One that is not UTF-8 shows its unreadable parts as `�`.
fn as_text<S: Serializer>(path: &Path, to: S) -> std::result::Result<S::Ok, S::Error> {
    to.serialize_str(&path.to_string_lossy())
}
