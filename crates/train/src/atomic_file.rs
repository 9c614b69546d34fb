//! Files that are either as before or wholly new, whatever happens in between.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use tempfile::{Builder, NamedTempFile};

use crate::{Error, Result};

/// How our temporary files begin, so that those of a killed process can be told and removed.
const PREFIX: &str = ".candle-vision-";
const SUFFIX: &str = ".tmp";

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

fn temporary_in(folder: &Path) -> io::Result<NamedTempFile> {
    let mut builder = Builder::new();
    builder.prefix(PREFIX).suffix(SUFFIX);
    // The default is a file that no other user can read, which a result should not be.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    builder.tempfile_in(folder)
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

/// Removes what a killed process left in a folder that no other process writes to.
///
/// # Errors
/// If the folder cannot be read or a file cannot be removed.
pub(crate) fn remove_leftovers(folder: &Path) -> Result<()> {
    for entry in std::fs::read_dir(folder).map_err(Error::io("read", folder))? {
        let path = entry.map_err(Error::io("read", folder))?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name.starts_with(PREFIX) && name.ends_with(SUFFIX) {
            std::fs::remove_file(&path).map_err(Error::io("remove", &path))?;
        }
    }
    Ok(())
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
