//! Decides whether a folder is divided into splits or is one folder of classes. The contents decide, not only
//! the names.

mod faults;

use std::path::{Path, PathBuf};

pub(super) use faults::single_class;

use super::names::{last_name, split_called};
use super::scan::check_is_folder;
use super::walk::{folders_in, holds_images, holds_images_below};
use crate::dataset::Split;
use crate::error::Result;

/// The layout of an image folder: divided into splits, or one folder of classes.
///
/// A folder is a split if it has a usual name and contains class folders. Usual names, in any case, are `train`
/// or `training`; `val`, `valid`, `validation` or `dev`; `test` or `testing`. A folder `train` that contains
/// images itself, next to other folders with images, is a class with the name `train`.
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
    /// The folder of each split. All are `None` for one folder of classes.
    splits: [Option<PathBuf>; 3],
    /// Folders next to the splits that belong to no split.
    unused: Vec<PathBuf>,
}

impl FolderLayout {
    /// Determines the layout of a folder. It looks only as deep as needed to find class folders with images.
    ///
    /// # Errors
    /// If the folder does not exist, or the layout is ambiguous: two folders for one split, splits without
    /// class folders, class folders next to splits, a data set one folder below, or images without class
    /// folders.
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
            // A single folder `train` with one subfolder is a class with a subfolder.
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

    /// The folder whose layout this is.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The folder of a split. `None` if it has none.
    pub fn split(&self, split: Split) -> Option<&Path> {
        self.splits[split as usize].as_deref()
    }

    /// Whether there are folders for splits. If not, it is one folder of classes.
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
    /// Whether the folder itself contains images.
    images: bool,
    /// Its subfolders with images, at most two.
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

    /// Whether it contains class folders. A few stray images next to several class folders do not make it a
    /// class.
    fn holds_classes(&self) -> bool {
        self.classes.len() > 1 || (self.classes.len() == 1 && !self.images)
    }
}

/// The first `most` subfolders that contain images.
fn class_folders(folder: &Path, most: usize) -> Vec<PathBuf> {
    let folders = folders_in(folder).unwrap_or_default();
    folders.into_iter().filter(|path| holds_images_below(path)).take(most).collect()
}
