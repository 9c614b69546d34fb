//! Files that are either as before or wholly new, whatever happens in between.

use std::fs::{File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use tempfile::{Builder, NamedTempFile};

use crate::{Error, Result};

/// How our temporary files begin, so that those of a killed process can be told and removed.
const PREFIX: &str = ".candle-vision-";
const SUFFIX: &str = ".tmp";
/// How often a temporary file may be lost to a process that clears up.
const ATTEMPTS: usize = 8;

/// Writes a file under a temporary name in the same folder and renames it when all of it is on the
/// disk: a reader, also after a kill or a loss of power, finds the old file or the new one, never a
/// part. A missing folder is made.
///
/// # Errors
/// If it cannot be written; what was there before is intact then, and nothing is left over.
pub fn write_atomically(path: impl AsRef<Path>, bytes: &[u8]) -> Result<()> {
    let path = path.as_ref();
    let folder = parent(path);
    write_and_rename(folder, path, bytes).map_err(|error| describe(error, path, bytes.len()))
}

fn write_and_rename(folder: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    std::fs::create_dir_all(folder)?;
    let mut file = temporary_in(folder)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    sync_folder(folder)
}

/// A temporary file that is locked for as long as it is open: this tells one that is being written
/// from one that a killed process left behind, whose lock went with the process.
fn temporary_in(folder: &Path) -> io::Result<NamedTempFile> {
    let mut builder = Builder::new();
    builder.prefix(PREFIX).suffix(SUFFIX);
    // The default is a file that no other user can read, which a result should not be.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    // Another process may take a new file for a leftover before it is locked.
    for _ in 0..ATTEMPTS {
        let file = builder.tempfile_in(folder)?;
        if !is_locked_elsewhere(file.as_file()) && file.path().exists() {
            return Ok(file);
        }
    }
    Err(io::Error::other("other processes keep removing its temporary file"))
}

/// Locks a file unless another process has locked it. A file system without locks tells nothing, and
/// nothing is locked there.
fn is_locked_elsewhere(file: &File) -> bool {
    matches!(file.try_lock(), Err(TryLockError::WouldBlock))
}

/// Makes the rename itself survive a loss of power.
fn sync_folder(folder: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

fn describe(source: io::Error, path: &Path, bytes: usize) -> Error {
    let full = [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded];
    if full.contains(&source.kind()) {
        return Error::DiskFull { path: path.to_path_buf(), needed: bytes as u64, source };
    }
    Error::io("write", path)(source)
}

/// Removes what killed processes left in a folder. A temporary file that a live process is writing
/// stays.
///
/// # Errors
/// If the folder cannot be read or a file cannot be removed.
pub(crate) fn remove_leftovers(folder: &Path) -> Result<()> {
    for path in temporary_files(folder)? {
        // The lock is held until the file is gone, so that its writer cannot begin in between.
        let file = match File::open(&path) {
            Ok(file) if is_locked_elsewhere(&file) => continue,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            file => file,
        };
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(Error::io("remove", &path)(error));
            }
            _ => drop(file),
        }
    }
    Ok(())
}

fn temporary_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(Error::io("read", folder))? {
        let path = entry.map_err(Error::io("read", folder))?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name.starts_with(PREFIX) && name.ends_with(SUFFIX) {
            found.push(path);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(folder).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn a_file_is_replaced_and_nothing_is_left_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("best.safetensors");
        for text in ["first", "second, longer"] {
            write_atomically(&path, text.as_bytes()).unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
        assert_eq!(names(folder.path()), ["best.safetensors"]);
    }

    #[test]
    fn a_failed_write_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("taken");
        std::fs::create_dir(&path).unwrap();
        let error = write_atomically(&path, b"text").unwrap_err();
        assert!(matches!(error, Error::Io { action: "write", .. }), "{error:?}");
        assert_eq!(names(folder.path()), ["taken"]);
    }

    #[test]
    fn leftovers_of_a_killed_process_go_and_other_files_stay() {
        let folder = tempfile::tempdir().unwrap();
        let (_, kept) = temporary_in(folder.path()).unwrap().keep().unwrap();
        std::fs::write(folder.path().join(".candle-vision-notes"), "mine").unwrap();
        assert!(kept.exists());
        remove_leftovers(folder.path()).unwrap();
        assert_eq!(names(folder.path()), [".candle-vision-notes"]);
    }

    #[test]
    fn a_file_that_is_being_written_stays() {
        let folder = tempfile::tempdir().unwrap();
        let mut live = temporary_in(folder.path()).unwrap();
        remove_leftovers(folder.path()).unwrap();
        live.write_all(b"whole").unwrap();
        let path = folder.path().join("last.safetensors");
        live.persist(&path).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"whole");
        assert_eq!(names(folder.path()), ["last.safetensors"]);
    }

    #[test]
    fn writers_and_those_who_clear_up_do_not_hurt_each_other() {
        let folder = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            for writer in 0..2 {
                let path = folder.path().join(format!("{writer}"));
                scope.spawn(move || (0..50).for_each(|_| write_atomically(&path, b"x").unwrap()));
            }
            scope.spawn(|| (0..200).for_each(|_| remove_leftovers(folder.path()).unwrap()));
        });
        assert_eq!(names(folder.path()).len(), 2);
    }

    /// A device that is always full stands in for a full disk.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_is_told_apart() {
        let mut full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let source = full.write_all(b"x").unwrap_err();
        let error = describe(source, Path::new("runs/a/001/best.safetensors"), 44_780_000);
        assert_eq!(
            error.to_string(),
            "no space left to write `runs/a/001/best.safetensors`: 44780000 bytes are needed; free \
             some space and resume, the file as last written is intact"
        );
    }
}
