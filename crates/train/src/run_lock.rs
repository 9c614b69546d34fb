//! One writer a run: a second process is refused.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::Path;

use crate::{Error, Result};

/// Who holds the lock of this file writes to the run. It is there from the start and never written
/// again, so that all processes open the same file. On Windows nobody could read it meanwhile.
const NAME: &str = if cfg!(windows) { ".lock" } else { "environment.json" };

/// The right to write to a run's folder, given back when it is dropped or the process ends, however it
/// ends.
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
            // Some network file systems have no locks; renames keep files whole there too.
            Err(TryLockError::Error(error)) if error.kind() != std::io::ErrorKind::Unsupported => {
                Err(Error::io("lock", &path)(error))
            }
            _ => Ok(Self { _file: file }),
        }
    }
}
