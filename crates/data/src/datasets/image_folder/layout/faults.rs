//! The errors for ambiguous layouts. Each names a remedy.

use std::path::{Path, PathBuf};

use super::super::names::{last_name, listed, split_called};
use super::super::walk::{folders_in, holds_images, holds_images_below};
use super::{Candidate, class_folders};
use crate::dataset::Split;
use crate::error::{Error, Result};

/// How many levels below a folder the intended data set is searched.
const DEEPEST: usize = 8;

fn invalid(path: &Path, problem: impl Into<String>, remedy: impl Into<String>) -> Error {
    Error::Invalid { path: path.to_path_buf(), problem: problem.into(), remedy: remedy.into() }
}

/// The only folder with class folders for a split. `None` if there is none.
pub(super) fn only_one(root: &Path, split: Split, named: &[Candidate]) -> Result<Option<PathBuf>> {
    let mut found: Vec<&Path> = Vec::new();
    for folder in named.iter().filter(|folder| folder.split == Some(split)) {
        // Two names of the same folder, one a link to the other, are not ambiguous.
        let is_new = !found.iter().any(|other| is_same(other, &folder.path));
        if folder.holds_classes() && is_new {
            found.push(&folder.path);
        }
    }
    match found.as_slice() {
        [] => Ok(None),
        [only] => Ok(Some(only.to_path_buf())),
        several => {
            let names: Vec<String> = several.iter().map(|path| last_name(path)).collect();
            Err(invalid(
                root,
                format!("has {} folders for one split ({split}): {}", names.len(), listed(&names)),
                "keep one of them, or rename the others",
            ))
        }
    }
}

fn is_same(a: &Path, b: &Path) -> bool {
    matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

/// A list for the validation images, where no folder has images that lie in no class folders.
pub(super) fn list_without_images(root: &Path, list: &Path) -> Error {
    invalid(
        root,
        format!(
            "has no folder `val` with images outside class folders, whose classes `{}` could name",
            list.display()
        ),
        "name the folder that holds `train` and `val`, or leave the list out",
    )
}

/// Fails if `train` and `val` contain images but no class folders. They would become two wrong classes.
pub(super) fn check_not_flat(root: &Path, named: &[Candidate]) -> Result<()> {
    let flat: Vec<&Candidate> = named.iter().filter(|folder| folder.images).collect();
    let is_one_split = flat.windows(2).all(|pair| pair[0].split == pair[1].split);
    if is_one_split {
        return Ok(());
    }
    let names: Vec<String> = flat.iter().map(|folder| last_name(&folder.path)).collect();
    Err(invalid(
        root,
        format!("has splits ({}) that hold images, but no class folders", listed(&names)),
        "put the images of each class into a folder of its name in each of them",
    ))
}

/// Fails if there is a validation folder that cannot be used, because it must not count as missing. An unusable
/// test folder is accepted, because many test sets come without classes.
pub(super) fn check_unused_splits(named: &[Candidate]) -> Result<()> {
    let of_val = || named.iter().filter(|folder| folder.split == Some(Split::Val));
    if of_val().any(Candidate::holds_classes) {
        return Ok(());
    }
    let Some(folder) = of_val().next() else { return Ok(()) };
    let problem = if folder.images {
        "holds images, but no class folders"
    } else {
        "holds no class folders with images"
    };
    Err(invalid(
        &folder.path,
        problem,
        "give it a folder for each class or a list of the classes (`val.txt`), or remove it to keep a part of the training images for \
         validation",
    ))
}

/// Fails if the training folder is also used for validation or tests. A result on the training images would
/// mean nothing.
pub(super) fn check_different(splits: &[Option<PathBuf>; 3]) -> Result<()> {
    let [train, others @ ..] = splits;
    let Some(train) = train else { return Ok(()) };
    match others.iter().flatten().find(|other| is_same(train, other)) {
        None => Ok(()),
        Some(other) => Err(invalid(
            other,
            format!("is the same folder as `{}`", last_name(train)),
            "give it images of its own, or remove it",
        )),
    }
}

/// The error for a split with class folders next to folders that may be classes.
pub(super) fn splits_or_classes(
    root: &Path,
    splits: &[Option<PathBuf>; 3],
    beside: &[Candidate],
) -> Error {
    let names =
        |paths: &mut dyn Iterator<Item = &PathBuf>| paths.map(|path| last_name(path)).collect();
    let splits: Vec<String> = names(&mut splits.iter().flatten());
    let others: Vec<String> = names(
        &mut beside.iter().map(|folder| &folder.path).filter(|path| holds_images_below(path)),
    );
    invalid(
        root,
        format!(
            "may be split or may be one folder of classes: {} holds class folders, as a split does, \
             and {} may be classes",
            listed(&splits),
            listed(&others)
        ),
        "move the ones or the others out of it, or rename them",
    )
}

/// Fails unless one folder of classes has at least two classes, none of which is itself a data set.
pub(super) fn check_classes(root: &Path, folders: &[PathBuf]) -> Result<()> {
    let with_images: Vec<&PathBuf> =
        folders.iter().filter(|path| holds_images_below(path)).collect();
    let data_sets: Vec<&PathBuf> =
        with_images.iter().filter(|path| is_split_data_set(path)).copied().collect();
    match (with_images.as_slice(), data_sets.as_slice()) {
        ([], _) if folders.is_empty() => Err(no_class_folders(root)),
        ([only], _) => match meant(only) {
            Some(meant) => Err(too_high(root, &[&meant])),
            // The other folders are classes without images. The scan reports them.
            None if folders.len() > 1 => Ok(()),
            None => Err(single_class(root, &last_name(only))),
        },
        (_, []) => check_splits_not_inside(root, &with_images),
        (_, several) => Err(too_high(root, several)),
    }
}

fn no_class_folders(root: &Path) -> Error {
    if !holds_images(root) {
        return invalid(
            root,
            "holds no class folders",
            "put the images of each class into a folder of its name",
        );
    }
    let mut remedy = "put the images of each class into a folder of its name".to_owned();
    // Only the sibling folders are searched. The folder above may be somebody's home folder.
    let has_classes = |folder: &Path| {
        let folders = folders_in(folder).unwrap_or_default();
        folders.iter().filter(|path| holds_images(path)).take(2).count() > 1
    };
    let place = root.canonicalize().unwrap_or_default();
    if let Some(above) = place.parent().filter(|above| has_classes(above)) {
        remedy +=
            &format!(", or, if it is a class itself, name the folder above: `{}`", above.display());
    }
    invalid(root, "holds images, but no class folders", remedy)
}

/// The error for a folder with a single class.
pub(in super::super) fn single_class(folder: &Path, class: &str) -> Error {
    let remedy = match meant(&folder.join(class)) {
        Some(meant) => format!(
            "if the classes are the folders in `{}`, move them up to `{}`",
            meant.display(),
            folder.display()
        ),
        None => "add a folder with images of something else, or name the folder that has several \
                 classes"
            .to_owned(),
    };
    let problem = format!("has a single class, `{class}`: there is nothing to tell apart");
    invalid(folder, problem, remedy)
}

fn too_high(root: &Path, meant: &[&PathBuf]) -> Error {
    let names: Vec<String> = meant.iter().map(|path| path.display().to_string()).collect();
    let (what, remedy) = match names.len() {
        1 => ("the data set", "name that folder"),
        _ => ("data sets", "name one of them"),
    };
    invalid(root, format!("holds {what} {}, not classes", listed(&names)), remedy)
}

/// The data set inside the only folder with images: one that is split, or one with several classes.
fn meant(folder: &Path) -> Option<PathBuf> {
    let mut folder = folder.to_path_buf();
    for _ in 0..DEEPEST {
        if is_split_data_set(&folder) || class_folders(&folder, 2).len() > 1 {
            return Some(folder);
        }
        folder = class_folders(&folder, 1).pop()?;
    }
    None
}

/// Whether a folder is divided into splits: it has at least two of the training, validation and test splits.
fn is_split_data_set(folder: &Path) -> bool {
    let mut splits: Vec<Split> = folders_in(folder)
        .unwrap_or_default()
        .into_iter()
        .filter(|path| split_called(&last_name(path)).is_some())
        .map(|path| Candidate::of(path, None))
        .filter(Candidate::holds_classes)
        .filter_map(|folder| folder.split)
        .collect();
    splits.sort_by_key(|split| *split as usize);
    splits.dedup();
    splits.len() > 1
}

/// Fails for `cat/train`, `cat/val`, `dog/train`, `dog/val`. Read as two classes, the split would be lost.
fn check_splits_not_inside(root: &Path, classes: &[&PathBuf]) -> Result<()> {
    let splits_in = |folder: &Path| {
        let mut splits: Vec<Split> = folders_in(folder)
            .unwrap_or_default()
            .iter()
            .filter(|path| holds_images_below(path))
            .filter_map(|path| split_called(&last_name(path)))
            .collect();
        splits.sort_by_key(|split| *split as usize);
        splits.dedup();
        splits.len()
    };
    if classes.is_empty() || classes.iter().any(|class| splits_in(class) < 2) {
        return Ok(());
    }
    let class = classes.first().map_or_else(String::new, |path| last_name(path));
    Err(invalid(
        root,
        format!("has its splits inside of its classes, as `{class}/train`"),
        format!("turn them round, as `train/{class}`"),
    ))
}
