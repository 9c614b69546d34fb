//! Files that are either as before or wholly new, whatever happens in between.
//!
//! [`write()`] writes bytes. [`NewFile`] takes them piece by piece and gets its name at the end. [`publish`] gives
//! the final name to a file that was written otherwise. A killed process leaves at most temporary names, which
//! [`remove_leftovers`] removes.
#![doc = include_str!("../README.md")]

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use tempfile::{Builder, NamedTempFile, TempDir};

/// How temporary names begin and end, so that they can be told from a user's files.
const PREFIX: &str = ".candle-vision-";
const SUFFIX: &str = ".tmp";
/// How those of earlier versions began, which had no such end.
const EARLIER_PREFIX: &str = ".candle-vision-tmp-";
/// How often a temporary file may be lost to a process that clears up.
const ATTEMPTS: usize = 8;

/// Writes a file: a reader finds the old file or the new one, never a part. A missing folder is made.
///
/// # Errors
/// If it cannot be written. What was there before is intact then, and nothing is left over.
pub fn write(path: impl AsRef<Path>, bytes: &[u8]) -> io::Result<()> {
    let mut file = NewFile::create(path)?;
    file.write_all(bytes)?;
    file.commit()
}

/// A file that gets its name when all of it is on the disk. Dropped before, it is removed.
///
/// # Example
/// ```
/// use std::io::Write;
///
/// use candle_vision_files::NewFile;
///
/// # let folder = tempfile::tempdir()?;
/// let path = folder.path().join("list.txt");
/// let mut file = NewFile::create(&path)?;
/// writeln!(file, "one line")?;
/// assert!(!path.exists());
/// file.commit()?;
/// assert_eq!(std::fs::read_to_string(&path)?, "one line\n");
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct NewFile {
    temporary: NamedTempFile,
    target: PathBuf,
}

impl NewFile {
    /// A file that will be `target`. A missing folder is made.
    ///
    /// # Errors
    /// If nothing can be written into the folder.
    pub fn create(target: impl AsRef<Path>) -> io::Result<Self> {
        let target = target.as_ref().to_path_buf();
        let folder = parent(&target);
        fs::create_dir_all(folder)?;
        Ok(Self { temporary: temporary_file(folder)?, target })
    }

    /// Where its bytes are until it gets its name.
    pub fn path(&self) -> &Path {
        self.temporary.path()
    }

    /// Brings it to the disk and gives it its name.
    ///
    /// # Errors
    /// If that fails; what had the name before is intact then.
    pub fn commit(self) -> io::Result<()> {
        self.temporary.as_file().sync_all()?;
        self.temporary.persist(&self.target).map_err(|error| error.error)?;
        sync_folder(parent(&self.target))
    }
}

impl Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.temporary.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.temporary.flush()
    }
}

/// Brings the finished file `part` to the disk and renames it to `target`, in the same file system.
///
/// # Errors
/// If that fails.
pub fn publish(part: impl AsRef<Path>, target: impl AsRef<Path>) -> io::Result<()> {
    let (part, target) = (part.as_ref(), target.as_ref());
    File::options().write(true).open(part)?.sync_all()?;
    fs::rename(part, target)?;
    sync_folder(parent(target))
}

/// Makes renames in `folder` survive a loss of power.
///
/// # Errors
/// If the folder cannot be opened or synced.
pub fn sync_folder(folder: impl AsRef<Path>) -> io::Result<()> {
    // Other systems give no handle to a folder; their file systems journal the rename.
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

/// The folder that `path` lies in; `.` for a plain name.
pub fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// A new folder in `parent`, on the same file system as what it will become. Dropped, it is removed.
///
/// # Errors
/// If it cannot be made.
pub fn temporary_folder(parent: impl AsRef<Path>) -> io::Result<TempDir> {
    Builder::new().prefix(PREFIX).suffix(SUFFIX).tempdir_in(parent)
}

/// Removes the files that killed processes left in `folder`. A temporary file that a live process is writing
/// stays.
///
/// # Errors
/// If the folder cannot be read or a file cannot be removed.
pub fn remove_leftovers(folder: impl AsRef<Path>) -> io::Result<()> {
    for path in leftovers(folder.as_ref())? {
        // The lock is held until the file is gone, so that its writer cannot begin in between.
        let file = match File::open(&path) {
            Ok(file) if is_locked_elsewhere(&file) => continue,
            Ok(file) if file.metadata()?.is_dir() => continue,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            file => file,
        };
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => drop(file),
        }
    }
    Ok(())
}

/// Removes the folders that killed processes left in `folder`. A folder cannot be locked, so only who keeps
/// all others out of `folder` may call this.
///
/// # Errors
/// If the folder cannot be read or a folder in it cannot be removed.
pub fn remove_leftover_folders(folder: impl AsRef<Path>) -> io::Result<()> {
    for path in leftovers(folder.as_ref())? {
        // A link to a folder is none of ours.
        if fs::symlink_metadata(&path)?.is_dir() {
            fs::remove_dir_all(&path)?;
        }
    }
    Ok(())
}

/// A temporary file that is locked for as long as it is open: this tells one that is being written
/// from one that a killed process left behind, whose lock went with the process.
fn temporary_file(folder: &Path) -> io::Result<NamedTempFile> {
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

fn leftovers(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let is_own = name.starts_with(PREFIX) && name.ends_with(SUFFIX);
        if is_own || name.starts_with(EARLIER_PREFIX) {
            found.push(path);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn a_file_is_replaced_and_nothing_is_left_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("best.safetensors");
        for text in ["first", "second, longer"] {
            write(&path, text.as_bytes()).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        assert_eq!(names(folder.path()), ["best.safetensors"]);
    }

    #[test]
    fn a_failed_write_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("taken");
        fs::create_dir(&path).unwrap();
        write(&path, b"text").unwrap_err();
        assert_eq!(names(folder.path()), ["taken"]);
    }

    #[test]
    fn a_file_that_is_given_up_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = NewFile::create(folder.path().join("new/list.txt")).unwrap();
        file.write_all(b"half").unwrap();
        drop(file);
        assert!(names(&folder.path().join("new")).is_empty());
    }

    #[test]
    fn a_finished_part_replaces_its_target() {
        let folder = tempfile::tempdir().unwrap();
        let (part, target) = (folder.path().join("a.part"), folder.path().join("a"));
        fs::write(&part, "new").unwrap();
        fs::write(&target, "old").unwrap();
        publish(&part, &target).unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"new");
        assert_eq!(names(folder.path()), ["a"]);
    }

    #[test]
    fn leftovers_of_a_killed_process_go_and_other_files_stay() {
        let folder = tempfile::tempdir().unwrap();
        let (_, kept) = temporary_file(folder.path()).unwrap().keep().unwrap();
        fs::write(folder.path().join(".candle-vision-notes"), "mine").unwrap();
        fs::write(folder.path().join(".candle-vision-tmp-a1b2"), "of an earlier version").unwrap();
        assert!(kept.exists());
        let unpacked = temporary_folder(folder.path()).unwrap().keep();
        fs::write(unpacked.join("half"), "").unwrap();
        remove_leftovers(folder.path()).unwrap();
        assert!(!kept.exists() && unpacked.exists());
        remove_leftover_folders(folder.path()).unwrap();
        assert_eq!(names(folder.path()), [".candle-vision-notes"]);
    }

    #[test]
    fn a_file_that_is_being_written_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("last.safetensors");
        let mut live = NewFile::create(&path).unwrap();
        remove_leftovers(folder.path()).unwrap();
        live.write_all(b"whole").unwrap();
        live.commit().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"whole");
        assert_eq!(names(folder.path()), ["last.safetensors"]);
    }

    #[test]
    fn writers_and_those_who_clear_up_do_not_hurt_each_other() {
        let folder = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            for writer in 0..2 {
                let path = folder.path().join(format!("{writer}"));
                scope.spawn(move || (0..50).for_each(|_| write(&path, b"x").unwrap()));
            }
            scope.spawn(|| (0..200).for_each(|_| remove_leftovers(folder.path()).unwrap()));
        });
        assert_eq!(names(folder.path()).len(), 2);
    }
}
