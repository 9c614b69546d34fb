//! Finds the files of a folder: those that training reads, and those that it leaves out although they look like images.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Component, Path, PathBuf};

use crate::dataset::{Dataset, Split};
use crate::datasets::image_folder::{
    Entered, Entry, class_name, entries, is_system_file, is_system_folder, split_called,
};
use crate::datasets::{FolderLayout, FolderSplit, ImageFolder, is_image};
use crate::error::{Error, Result};
use crate::image::Format;

/// A file before it is read.
pub(super) struct Found {
    pub(super) path: PathBuf,
    pub(super) bytes: u64,
    pub(super) split: Option<Split>,
    pub(super) class: Option<String>,
    /// Why training leaves it out, if it does.
    pub(super) left_out: Option<String>,
}

/// All files of a folder that are images or look like some, sorted by path.
pub(super) fn scan(
    root: &Path,
    layout: Option<&FolderLayout>,
    shares: &FolderSplit,
) -> Result<Vec<Found>> {
    let mut found = Vec::new();
    let splits = [Split::Train, Split::Val, Split::Test].into_iter();
    let folders: Vec<(Split, &Path)> =
        splits.filter_map(|split| Some((split, layout?.split(split)?))).collect();
    if folders.is_empty() {
        Walk { found: &mut found, entered: Entered::at(root)? }.read(root)?;
        for file in &mut found {
            let inside = file.path.strip_prefix(root).unwrap_or(&file.path);
            (file.split, file.class) = match layout {
                Some(_) => (None, first_folder(inside)),
                None => guessed(inside),
            };
        }
    }
    for (split, folder) in folders {
        let before = found.len();
        Walk { found: &mut found, entered: Entered::at(folder)? }.read(folder)?;
        let listed = listed(layout, split, shares);
        for file in &mut found[before..] {
            let inside = file.path.strip_prefix(folder).unwrap_or(&file.path);
            file.split = Some(split);
            file.class = match &listed {
                Some(listed) => listed.get(&file.path).cloned(),
                None => first_folder(inside),
            };
        }
    }
    found.sort_by(|a, b| a.path.as_os_str().cmp(b.path.as_os_str()));
    Ok(found)
}

/// The class of each image of a split whose classes a list names.
fn listed(
    layout: Option<&FolderLayout>,
    split: Split,
    shares: &FolderSplit,
) -> Option<BTreeMap<PathBuf, String>> {
    let layout = layout.filter(|layout| layout.list(split).is_some())?;
    let set = ImageFolder::open_layout(layout, split, *shares).ok()?;
    let class = |index| set.classes()[set.label(index) as usize].clone();
    Some((0..set.len()).map(|index| (set.path(index).to_path_buf(), class(index))).collect())
}

/// The name of the first folder of a path below the class folders.
fn first_folder(inside: &Path) -> Option<String> {
    let mut parts = inside.components();
    match (parts.next(), parts.next()) {
        (Some(Component::Normal(folder)), Some(_)) => Some(class_name(&folder.to_string_lossy())),
        _ => None,
    }
}

/// Split and class by the names of the folders, where the layout is unclear.
fn guessed(inside: &Path) -> (Option<Split>, Option<String>) {
    let folders = inside.parent().into_iter().flat_map(Path::components);
    let names: Vec<String> =
        folders.map(|part| part.as_os_str().to_string_lossy().into_owned()).collect();
    let split = names.iter().find_map(|name| split_called(name));
    let class = names.iter().rev().find(|name| split_called(name).is_none());
    (split, class.map(|name| class_name(name)))
}

struct Walk<'a> {
    found: &'a mut Vec<Found>,
    entered: Entered,
}

impl Walk<'_> {
    /// Reads a folder that was entered. The folders in it are entered before any of them is read, as in training.
    fn read(&mut self, folder: &Path) -> Result<()> {
        let mut folders = Vec::new();
        for (path, entry) in entries(folder)? {
            match entry {
                Entry::Folder if is_system_folder(&path) => {}
                Entry::Folder if self.entered.enter(&path)? => folders.push(path),
                Entry::Folder => {
                    let reason = "it is a link to a folder that is read already".to_owned();
                    self.note(path, 0, Some(reason));
                }
                Entry::File(_) if is_system_file(&path) => {}
                Entry::File(file) => {
                    if let Some(left_out) = verdict(&path, &file) {
                        self.note(path, file.len(), left_out);
                    }
                }
                Entry::Dangling => {
                    self.note(path, 0, Some("it is a link whose target does not exist".to_owned()));
                }
                Entry::Special => {}
                Entry::Unreadable => {
                    self.note(path, 0, Some("the system does not let it be read".to_owned()));
                }
            }
        }
        for path in folders {
            match self.read(&path) {
                Err(Error::Io { source, .. }) => {
                    self.note(path, 0, Some(format!("the folder cannot be read: {source}")));
                }
                read => read?,
            }
        }
        Ok(())
    }

    fn note(&mut self, path: PathBuf, bytes: u64, left_out: Option<String>) {
        self.found.push(Found { path, bytes, split: None, class: None, left_out });
    }
}

/// Whether training reads a file (`Some(None)`), leaves it out (with the reason), or whether it has nothing to do with
/// images (`None`).
fn verdict(path: &Path, file: &fs::Metadata) -> Option<Option<String>> {
    match is_image(path) {
        Ok(true) if file.len() == 0 => Some(Some("the file is empty".to_owned())),
        Ok(true) => Some(None),
        Err(error) => Some(Some(format!("it cannot be read: {error}"))),
        Ok(false) => {
            let extension = path.extension()?.to_string_lossy().to_lowercase();
            let named = Format::of_extension(&extension)?;
            let held = Format::of_file(path).ok().flatten();
            let what = held.map_or_else(|| "no known format".to_owned(), |held| held.to_string());
            match held == Some(named) {
                true => Some(Some(format!("it holds {named}, which cannot be read"))),
                false => Some(Some(format!("it is named as {named}, but holds {what}"))),
            }
        }
    }
}
