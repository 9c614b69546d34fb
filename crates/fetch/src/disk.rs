//! File operations on the data folder. Their errors name the file or folder.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use candle_vision_files::{NewFile, parent, sync_folder};
use tempfile::TempDir;

use crate::checksum::{FileSpec, sha256_of_file};
use crate::error::{Error, Result};

/// No data set nests folders deeper than this. A cycle of links does.
const MAX_DEPTH: usize = 16;

/// Makes a new temporary folder in `parent`, so that it is on the same file system as its final place.
pub(crate) fn temporary_folder(parent: &Path) -> Result<TempDir> {
    candle_vision_files::temporary_folder(parent)
        .map_err(Error::io("create a temporary folder in", parent))
}

/// Removes what killed processes left in `folder`. Only the holder of the folder's lock may call this.
pub(crate) fn remove_leftovers(folder: &Path) -> Result<()> {
    if !folder.is_dir() {
        return Ok(());
    }
    candle_vision_files::remove_leftovers(folder)
        .and_then(|()| candle_vision_files::remove_leftover_folders(folder))
        .map_err(Error::io("remove what a killed process left in", folder))
}

/// Makes `folder` and its parents.
pub(crate) fn create_folder(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).map_err(Error::io("create the folder", folder))
}

/// Removes a file. It is no error if there is none.
pub(crate) fn remove_file(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::io("remove", path)(error))
        }
        _ => Ok(()),
    }
}

/// Gives a finished file its final name in a way that survives a power cut.
pub(crate) fn publish(part: &Path, target: &Path) -> Result<()> {
    candle_vision_files::publish(part, target).map_err(Error::io("write", target))
}

/// Writes a small file atomically.
pub(crate) fn write(target: &Path, bytes: &[u8]) -> Result<()> {
    candle_vision_files::write(target, bytes).map_err(Error::io("write", target))
}

/// Copies a file atomically. The copy is checked against `spec` before it gets its final name.
pub(crate) fn copy_verified(source: &Path, target: &Path, spec: &FileSpec) -> Result<()> {
    spec.verify_length(source)?;
    let copy = NewFile::create(target).map_err(Error::io("write", target))?;
    copy_bytes(source, copy.path(), target)?;
    spec.verify(copy.path()).map_err(|error| at(source, error))?;
    copy.commit().map_err(Error::io("write", target))
}

/// Copies a folder with all its files and subfolders into `target`, which must not exist.
pub(crate) fn copy_tree(source: &Path, target: &Path) -> Result<()> {
    copy_tree_at(source, target, MAX_DEPTH)
}

fn copy_tree_at(source: &Path, target: &Path, depth: usize) -> Result<()> {
    if depth == 0 {
        let error = io::Error::other(format!("folders nest deeper than {MAX_DEPTH}"));
        return Err(Error::io("copy", source)(error));
    }
    fs::create_dir(target).map_err(Error::io("create the folder", target))?;
    for entry in fs::read_dir(source).map_err(Error::io("list", source))? {
        let entry = entry.map_err(Error::io("list", source))?;
        let (from, to) = (entry.path(), target.join(entry.file_name()));
        // Follows links on purpose, because a user may keep the images elsewhere.
        let metadata = fs::metadata(&from).map_err(Error::io("read", &from))?;
        if metadata.is_dir() {
            copy_tree_at(&from, &to, depth - 1)?;
        } else if metadata.is_file() {
            copy_bytes(&from, &to, &to)?;
        }
    }
    Ok(())
}

/// Copies contents and length only. Permissions and times are not part of the data.
fn copy_bytes(source: &Path, to: &Path, named: &Path) -> Result<()> {
    let mut from = File::open(source).map_err(Error::io("open", source))?;
    let expected = from.metadata().map_err(Error::io("read", source))?.len();
    let mut file = File::create(to).map_err(Error::io("write", named))?;
    let copied = io::copy(&mut from, &mut file).map_err(Error::io("write", named))?;
    if copied != expected {
        let error = io::Error::other("the file changed while it was copied");
        return Err(Error::io("copy", source)(error));
    }
    file.sync_all().map_err(Error::io("sync", named))
}

/// Gives a finished folder its final name. If a folder of that name exists, moves into it every file that
/// it lacks or that has other bytes there, and returns the paths of these files. Files that only the
/// existing folder holds stay.
pub(crate) fn install_tree(finished: &Path, target: &Path) -> Result<Vec<PathBuf>> {
    create_folder(parent(target))?;
    if !target.exists() {
        fs::rename(finished, target).map_err(Error::io("rename to", target))?;
        sync(parent(target))?;
        return Ok(Vec::new());
    }
    let mut moved = Vec::new();
    complete_tree(finished, target, &mut moved)?;
    Ok(moved)
}

fn complete_tree(finished: &Path, target: &Path, moved: &mut Vec<PathBuf>) -> Result<()> {
    create_folder(target)?;
    let mut entries = Vec::new();
    for entry in fs::read_dir(finished).map_err(Error::io("list", finished))? {
        entries.push(entry.map_err(Error::io("list", finished))?.path());
    }
    // Folders first: the record of a folder's files must not be there before the files.
    entries.sort_by_key(|path| (!path.is_dir(), path.clone()));
    for from in entries {
        let to = target.join(from.file_name().unwrap_or_default());
        if from.is_dir() {
            complete_tree(&from, &to, moved)?;
        } else if !same_bytes(&from, &to)? {
            fs::rename(&from, &to).map_err(Error::io("rename to", &to))?;
            moved.push(to);
        }
    }
    sync(target)
}

fn same_bytes(a: &Path, b: &Path) -> Result<bool> {
    match (fs::metadata(a), fs::metadata(b)) {
        (Ok(a), Ok(b)) if b.is_file() && a.len() == b.len() => {}
        _ => return Ok(false),
    }
    Ok(sha256_of_file(a)? == sha256_of_file(b)?)
}

fn sync(folder: &Path) -> Result<()> {
    sync_folder(folder).map_err(Error::io("sync", folder))
}

/// The same error, but for the file that the user knows instead of its temporary copy.
fn at(source: &Path, error: Error) -> Error {
    match error {
        Error::Mismatch { what, expected, found, remedy, .. } => {
            Error::Mismatch { path: source.to_path_buf(), what, expected, found, remedy }
        }
        other => other,
    }
}

/// `path` with `suffix` appended to its whole name.
pub(crate) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_existing_folder_is_completed_and_keeps_its_own_files() {
        let folder = tempfile::tempdir().unwrap();
        let (new, old) = (folder.path().join("new"), folder.path().join("old"));
        fs::create_dir_all(new.join("a")).unwrap();
        fs::create_dir_all(old.join("a")).unwrap();
        fs::write(new.join("a/whole"), "four").unwrap();
        fs::write(new.join("a/missing"), "here").unwrap();
        fs::write(new.join("a/flipped"), "four").unwrap();
        fs::write(new.join("a/same"), "same").unwrap();
        fs::write(old.join("a/whole"), "fo").unwrap();
        fs::write(old.join("a/flipped"), "fonr").unwrap();
        fs::write(old.join("a/same"), "same").unwrap();
        fs::write(old.join("a/mine"), "mine").unwrap();
        let moved = install_tree(&new, &old).unwrap();
        assert_eq!(moved, ["flipped", "missing", "whole"].map(|name| old.join("a").join(name)));
        assert_eq!(fs::read(old.join("a/flipped")).unwrap(), b"four");
        assert_eq!(fs::read(old.join("a/whole")).unwrap(), b"four");
        assert_eq!(fs::read(old.join("a/missing")).unwrap(), b"here");
        assert_eq!(fs::read(old.join("a/mine")).unwrap(), b"mine");
    }

    #[test]
    fn a_copy_that_fails_its_check_leaves_the_old_file() {
        let folder = tempfile::tempdir().unwrap();
        let (source, target) = (folder.path().join("source"), folder.path().join("target"));
        fs::write(&source, "new").unwrap();
        fs::write(&target, "old").unwrap();
        let spec = FileSpec {
            sha256: Some(crate::Sha256Sum::new("00000000").unwrap()),
            ..FileSpec::named("target")
        };
        let error = copy_verified(&source, &target, &spec).unwrap_err().to_string();
        assert!(error.contains("source"), "{error}");
        assert_eq!(fs::read(&target).unwrap(), b"old");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }
}
