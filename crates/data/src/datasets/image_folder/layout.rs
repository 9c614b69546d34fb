//! Decides whether a folder is divided into splits or is one folder of classes. The contents decide, not only
//! the names.

mod faults;

use std::path::{Path, PathBuf};

pub(super) use faults::single_class;

use super::list;
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
    /// The list of the classes of a split whose folder has no class folders.
    lists: [Option<PathBuf>; 3],
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
        Self::find_with_list(root, None)
    }

    /// The same, where `val_list` names the classes of the validation images, if they lie in no class folders
    /// ([`ImageFolder::with_list`](super::ImageFolder::with_list)). Without it, a list is looked for under its usual
    /// names.
    ///
    /// # Errors
    /// As [`FolderLayout::find`], or if there is no folder of images that `val_list` could be for.
    pub fn find_with_list(root: impl AsRef<Path>, val_list: Option<&Path>) -> Result<Self> {
        let root = root.as_ref();
        check_is_folder(root)?;
        let folders = folders_in(root)?;
        let (named, others): (Vec<_>, Vec<_>) = folders
            .into_iter()
            .map(|path| Candidate::of(path, val_list))
            .partition(|folder| folder.split.is_some());
        if let Some(list) = val_list.filter(|_| named.iter().all(|folder| folder.list.is_none())) {
            return Err(faults::list_without_images(root, list));
        }
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
        let list = |split: &Option<PathBuf>| {
            let of_split = named.iter().find(|folder| Some(&folder.path) == split.as_ref());
            of_split.and_then(|folder| folder.list.clone())
        };
        let lists = splits.each_ref().map(list);
        let is_used = |path: &PathBuf| splits.iter().flatten().any(|used| used == path);
        let unused = named.into_iter().chain(others).map(|folder| folder.path);
        let unused = unused.filter(|path| !is_used(path)).collect();
        Ok(Self { root: root.to_path_buf(), splits, lists, unused })
    }

    fn one_folder(root: &Path, named: Vec<Candidate>, others: Vec<Candidate>) -> Result<Self> {
        let mut folders: Vec<PathBuf> =
            named.into_iter().chain(others).map(|folder| folder.path).collect();
        folders.sort();
        faults::check_classes(root, &folders)?;
        let none = || [None, None, None];
        Ok(Self { root: root.to_path_buf(), splits: none(), lists: none(), unused: Vec::new() })
    }

    /// The folder whose layout this is.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The folder of a split. `None` if it has none.
    pub fn split(&self, split: Split) -> Option<&Path> {
        self.splits[split as usize].as_deref()
    }

    /// The list that names the classes of a split's images. `None` if they lie in class folders.
    pub fn list(&self, split: Split) -> Option<&Path> {
        self.lists[split as usize].as_deref()
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
            let by = self.list(split).map(|list| format!(" by the list `{}`", last_name(list)));
            Some(format!("`{}` {purpose}{}", last_name(folder), by.unwrap_or_default()))
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
    /// The list of its images' classes, if it is not one to train on.
    list: Option<PathBuf>,
}

impl Candidate {
    fn of(path: PathBuf, val_list: Option<&Path>) -> Self {
        let split = split_called(&last_name(&path));
        let Some(is) = split else {
            return Self { path, split, images: false, classes: Vec::new(), list: None };
        };
        let images = holds_images(&path);
        let classes = class_folders(&path, 2);
        let given = val_list.filter(|_| is == Split::Val).map(Path::to_path_buf);
        let is_listed = is != Split::Train && images && classes.is_empty();
        let list = is_listed.then(|| given.or_else(|| list::find(&path))).flatten();
        Self { path, split, images, classes, list }
    }

    /// Whether the classes of its images are known, by class folders or by a list. A few stray images next to several class folders do not make it a
    /// class.
    fn holds_classes(&self) -> bool {
        self.list.is_some() || self.classes.len() > 1 || (self.classes.len() == 1 && !self.images)
    }
}

/// Whether a folder has images itself and no class folders.
pub(super) fn is_flat(folder: &Path) -> bool {
    holds_images(folder) && class_folders(folder, 1).is_empty()
}

/// The first `most` subfolders that contain images.
fn class_folders(folder: &Path, most: usize) -> Vec<PathBuf> {
    let folders = folders_in(folder).unwrap_or_default();
    folders.into_iter().filter(|path| holds_images_below(path)).take(most).collect()
}
