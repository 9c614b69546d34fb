//! Finds all images below a folder, in torchvision's order.

use std::collections::HashSet;
use std::fs::{self, Metadata};
use std::path::{Path, PathBuf};

use super::left_out::LeftOut;
use super::names::{is_system_file, is_system_folder};
use super::readable::is_image;
use crate::error::{Error, Result};

/// A file that the decoder can be expected to read.
#[derive(Clone, Debug)]
pub(super) struct ImageFile {
    pub(super) path: PathBuf,
    /// The size in bytes.
    pub(super) size: u64,
}

/// All images below `folder`, grouped by folder. Files and folders that are left out are counted.
///
/// Links are followed, as in torchvision, except to a folder that is read anyway or that lies above. In such a case
/// torchvision would read images twice, or not terminate.
pub(super) fn images_below(folder: &Path, left_out: &mut LeftOut) -> Result<Vec<ImageFile>> {
    images_of(folder, &mut Entered::at(folder)?, left_out)
}

/// The same for a folder that a walk has entered.
pub(super) fn images_of(
    folder: &Path,
    entered: &mut Entered,
    left_out: &mut LeftOut,
) -> Result<Vec<ImageFile>> {
    let mut walk = Walk { entered, found: Vec::new(), left_out };
    walk.read(folder)?;
    // Paths are compared as text, not by components, because Python sorts them so.
    walk.found.sort_by(|(a, _), (b, _)| a.as_os_str().cmp(b.as_os_str()));
    Ok(walk.found.into_iter().flat_map(|(_, files)| files).collect())
}

/// The folders that a walk enters, each of them once.
pub(crate) struct Entered {
    /// The folder where the walk started, without links in its path.
    top: PathBuf,
    seen: HashSet<PathBuf>,
}

impl Entered {
    /// A walk that starts in a folder.
    pub(crate) fn at(top: &Path) -> Result<Self> {
        let top = top.canonicalize().map_err(Error::io(top))?;
        Ok(Self { seen: HashSet::from([top.clone()]), top })
    }

    /// Whether a folder is entered now. It is not if it was before, or if it is a link to a folder above or to one that
    /// the walk comes to without the link. So it does not matter which of the two comes first.
    pub(crate) fn enter(&mut self, folder: &Path) -> Result<bool> {
        let place = folder.canonicalize().map_err(Error::io(folder))?;
        let above = folder.parent().unwrap_or(folder);
        if folder.is_symlink() && (leads_up(above, folder) || self.reaches(&place)) {
            return Ok(false);
        }
        Ok(self.seen.insert(place))
    }

    /// Whether the walk comes to a place without a link.
    fn reaches(&self, place: &Path) -> bool {
        place.strip_prefix(&self.top).is_ok_and(|inside| {
            !inside.components().any(|part| is_system_folder(Path::new(part.as_os_str())))
        })
    }
}

struct Walk<'a> {
    entered: &'a mut Entered,
    /// Folders, each with its images.
    found: Vec<(PathBuf, Vec<ImageFile>)>,
    left_out: &'a mut LeftOut,
}

impl Walk<'_> {
    /// Reads a folder that was entered.
    fn read(&mut self, folder: &Path) -> Result<()> {
        let entries = match entries(folder) {
            Ok(entries) => entries,
            Err(error) if self.found.is_empty() => return Err(error),
            Err(_) => {
                self.left_out.unreadable += 1;
                return Ok(());
            }
        };
        let (mut images, mut folders) = (Vec::new(), Vec::new());
        for (path, entry) in entries {
            match entry {
                Entry::Folder if is_system_folder(&path) => self.left_out.hidden += 1,
                Entry::Folder if self.entered.enter(&path)? => folders.push(path),
                Entry::Folder => self.left_out.repeated_links += 1,
                Entry::File(file) => images.extend(self.image(path, &file)),
                Entry::Dangling => self.left_out.dangling_links += 1,
                Entry::Special => self.left_out.special += 1,
                Entry::Unreadable => self.left_out.unreadable += 1,
            }
        }
        self.found.push((folder.to_path_buf(), images));
        folders.iter().try_for_each(|folder| self.read(folder))
    }

    fn image(&mut self, path: PathBuf, file: &Metadata) -> Option<ImageFile> {
        if is_system_file(&path) {
            self.left_out.hidden += 1;
            return None;
        }
        match is_image(&path) {
            Ok(true) if file.len() == 0 => self.left_out.empty += 1,
            Ok(true) => return Some(ImageFile { path, size: file.len() }),
            Ok(false) => self.left_out.add_file(&path),
            Err(_) => self.left_out.unreadable += 1,
        }
        None
    }
}

/// The kind of a directory entry. Links are followed.
#[derive(Debug)]
pub(crate) enum Entry {
    Folder,
    File(Metadata),
    /// A link whose target does not exist.
    Dangling,
    Special,
    Unreadable,
}

/// The entries of a folder, sorted by name.
pub(crate) fn entries(folder: &Path) -> Result<Vec<(PathBuf, Entry)>> {
    let entries = fs::read_dir(folder).map_err(Error::io(folder))?;
    let entries: Result<Vec<_>> = entries
        .map(|entry| {
            let path = entry.map_err(Error::io(folder))?.path();
            let entry = match fs::metadata(&path) {
                Ok(found) if found.is_dir() => Entry::Folder,
                Ok(found) if found.is_file() => Entry::File(found),
                Ok(_) => Entry::Special,
                // A link in a circle of links has no target either.
                Err(_) if path.is_symlink() => Entry::Dangling,
                Err(_) => Entry::Unreadable,
            };
            Ok((path, entry))
        })
        .collect();
    let mut entries = entries?;
    entries.sort_by(|(a, _), (b, _)| a.file_name().cmp(&b.file_name()));
    Ok(entries)
}

/// The subfolders that people created, sorted by name. A link to a folder above would lead in a circle and is
/// left out.
pub(super) fn folders_in(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut folders = Vec::new();
    for entry in fs::read_dir(folder).map_err(Error::io(folder))? {
        let entry = entry.map_err(Error::io(folder))?;
        let path = entry.path();
        // The directory listing gives the kind as well. Asking for it again would cost one call for each of a
        // million files.
        let is_folder = match entry.file_type() {
            Ok(kind) if kind.is_symlink() => path.is_dir() && !leads_up(folder, &path),
            Ok(kind) => kind.is_dir(),
            Err(_) => false,
        };
        if is_folder && !is_system_folder(&path) {
            folders.push(path);
        }
    }
    folders.sort_by(|a, b| a.file_name().cmp(&b.file_name()));
    Ok(folders)
}

/// Whether `link`, which lies in `folder`, leads to that folder or to one above it.
fn leads_up(folder: &Path, link: &Path) -> bool {
    match (folder.canonicalize(), link.canonicalize()) {
        (Ok(folder), Ok(target)) => folder.starts_with(target),
        _ => false,
    }
}

/// Whether a folder directly contains an image.
pub(super) fn holds_images(folder: &Path) -> bool {
    let Ok(entries) = fs::read_dir(folder) else { return false };
    // The entries are not sorted, and the search ends at the first image. The folder may contain a million.
    entries
        .flatten()
        .map(|entry| entry.path())
        .any(|path| !is_system_file(&path) && is_image(&path).unwrap_or(false) && path.is_file())
}

/// Whether a folder contains an image at any depth.
pub(super) fn holds_images_below(folder: &Path) -> bool {
    fn look(folder: &Path, seen: &mut HashSet<PathBuf>) -> bool {
        let is_new = folder.canonicalize().is_ok_and(|place| seen.insert(place));
        is_new
            && (holds_images(folder)
                || folders_in(folder).is_ok_and(|below| below.iter().any(|path| look(path, seen))))
    }
    look(folder, &mut HashSet::new())
}
