//! Whether a folder is split, or one folder of classes: what is inside decides, not names alone.

mod faults;

use std::path::{Path, PathBuf};

pub(super) use faults::single_class;

use super::names::{last_name, split_called};
use super::scan::check_is_folder;
use super::walk::{folders_in, holds_images, holds_images_below};
use crate::dataset::Split;
use crate::error::Result;

/// How an image folder is laid out: in splits, or as one folder of classes.
///
/// Folders are splits if they are called so, in any case (`train` or `training`; `val`, `valid`,
/// `validation` or `dev`; `test` or `testing`), and hold class folders. A folder `train` that holds
/// images itself, among others that do, is a class of that name.
///
/// `Display` gives one line.
///
/// # Example
/// ```no_run
/// use candle_vision_data::{FolderLayout, Split};
///
/// let layout = FolderLayout::find("photos")?;
/// println!("{layout}: {:?}", layout.split(Split::Val));
/// # Ok::<(), candle_vision_data::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FolderLayout {
    root: PathBuf,
    /// The folder of each split; all `None` in one folder of classes.
    splits: [Option<PathBuf>; 3],
    /// Folders beside the splits that belong to none.
    unused: Vec<PathBuf>,
}

impl FolderLayout {
    /// Looks at a folder, no deeper than it takes to find class folders with images in them.
    ///
    /// # Errors
    /// If there is no such folder, or it cannot be told what is meant: two folders for one split,
    /// splits without class folders, class folders beside splits, a data set one folder below,
    /// images without class folders.
    pub fn find(root: impl AsRef<Path>) -> Result<Self> {
        let root = root.as_ref();
        check_is_folder(root)?;
        let folders = folders_in(root)?;
        let (named, others): (Vec<_>, Vec<_>) =
            folders.into_iter().map(Candidate::of).partition(|folder| folder.split.is_some());
        let splits = [Split::Train, Split::Val, Split::Test]
            .map(|split| faults::only_one(root, split, &named));
        let [train, val, test] = splits;
        let splits = [train?, val?, test?];
        let is_split = |split: Split| splits[split as usize].is_some();
        if !splits.iter().any(Option::is_some) {
            faults::check_not_flat(root, &named)?;
            return Self::one_folder(root, named, others);
        }
        let is_certain = is_split(Split::Train) && (is_split(Split::Val) || is_split(Split::Test));
        if !is_certain && others.iter().any(|folder| holds_images_below(&folder.path)) {
            // One folder called `train` with a single folder inside is a class with a subfolder.
            if named.iter().all(|folder| folder.classes.len() < 2) {
                return Self::one_folder(root, named, others);
            }
            return Err(faults::splits_or_classes(root, &splits, &others));
        }
        faults::check_unused_splits(&named)?;
        faults::check_different(&splits)?;
        let is_used = |path: &PathBuf| splits.iter().flatten().any(|used| used == path);
        let unused = named.into_iter().chain(others).map(|folder| folder.path);
        let unused = unused.filter(|path| !is_used(path)).collect();
        Ok(Self { root: root.to_path_buf(), splits, unused })
    }

    fn one_folder(root: &Path, named: Vec<Candidate>, others: Vec<Candidate>) -> Result<Self> {
        let mut folders: Vec<PathBuf> =
            named.into_iter().chain(others).map(|folder| folder.path).collect();
        folders.sort();
        faults::check_classes(root, &folders)?;
        Ok(Self { root: root.to_path_buf(), splits: [None, None, None], unused: Vec::new() })
    }

    /// The folder that was looked at.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The folder of a split, if there is one.
    pub fn split(&self, split: Split) -> Option<&Path> {
        self.splits[split as usize].as_deref()
    }

    /// Whether there are folders for splits; otherwise it is one folder of classes.
    pub fn is_split(&self) -> bool {
        self.splits.iter().any(Option::is_some)
    }
}

impl std::fmt::Display for FolderLayout {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "`{}`: ", self.root.display())?;
        if !self.is_split() {
            return f.write_str("one folder of classes");
        }
        let named = |split: Split| {
            let folder = self.split(split)?;
            let purpose = match split {
                Split::Train => "to train on",
                Split::Val => "to validate on",
                Split::Test => "to test on",
            };
            Some(format!("`{}` {purpose}", last_name(folder)))
        };
        let parts: Vec<String> =
            [Split::Train, Split::Val, Split::Test].into_iter().filter_map(named).collect();
        f.write_str(&parts.join(", "))?;
        if !self.unused.is_empty() {
            let names: Vec<String> = self.unused.iter().map(|path| last_name(path)).collect();
            write!(f, "; not used: {}", super::names::listed(&names))?;
        }
        Ok(())
    }
}

/// A folder that may be a split.
struct Candidate {
    path: PathBuf,
    split: Option<Split>,
    /// Whether it holds images itself.
    images: bool,
    /// Folders in it that have images, up to two.
    classes: Vec<PathBuf>,
}

impl Candidate {
    fn of(path: PathBuf) -> Self {
        let split = split_called(&last_name(&path));
        if split.is_none() {
            return Self { path, split, images: false, classes: Vec::new() };
        }
        let images = holds_images(&path);
        let classes = class_folders(&path, 2);
        Self { path, split, images, classes }
    }

    /// Whether class folders lie in it. A few stray images beside them make it no class.
    fn holds_classes(&self) -> bool {
        self.classes.len() > 1 || (self.classes.len() == 1 && !self.images)
    }
}

/// The first few folders in a folder that have images.
fn class_folders(folder: &Path, most: usize) -> Vec<PathBuf> {
    let folders = folders_in(folder).unwrap_or_default();
    folders.into_iter().filter(|path| holds_images_below(path)).take(most).collect()
}
