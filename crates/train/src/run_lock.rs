//! One writer per run. A second process gets an error.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::Path;

use crate::{Error, Result};

/// The holder of this file's lock may write to the run. The file exists from the start and is never written
/// again, so all processes open the same file. Windows uses another file, because nobody could read a
/// locked one there.
const NAME: &str = if cfg!(windows) { ".lock" } else { "environment.json" };

/// The right to write to a run's folder. It ends when this value is dropped or the process ends in any way.
#[derive(Debug)]
pub(crate) struct RunLock {
    _file: File,
}

impl RunLock {
    /// Takes the lock of the run in `folder`.
    ///
    /// # Errors
    /// [`Error::RunInUse`] if another trainer holds it; [`Error::Io`] if the folder cannot be written.
    pub(crate) fn acquire(folder: &Path) -> Result<Self> {
        let path = folder.join(NAME);
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
        let file = file.map_err(Error::io("write", &path))?;
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => Err(Error::RunInUse { folder: folder.to_path_buf() }),
            // Some network file systems have no locks. Renames keep files complete there too.
            Err(TryLockError::Error(error)) if error.kind() != std::io::ErrorKind::Unsupported => {
                Err(Error::io("lock", &path)(error))
            }
            _ => Ok(Self { _file: file }),
        }
    }
}
