//! One writer per folder. The second process waits for the first.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::event::{Event, Progress};

const POLL: Duration = Duration::from_millis(50);

/// An exclusive lock on a file. It is held until it is dropped or the process ends in any way.
///
/// The file itself stays. If it were removed, a third process could lock a new file of the same name while
/// a second process still waits for the old one.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    /// Locks `path`, waiting at most `patience` for another holder.
    pub(crate) fn acquire(
        path: &Path,
        patience: Duration,
        progress: &Progress<'_>,
    ) -> Result<Self> {
        let folder = path.parent().unwrap_or(path);
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path)
            .map_err(Error::io("create", path))?;
        let start = Instant::now();
        let mut told = false;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Self { _file: file }),
                Err(TryLockError::WouldBlock) if start.elapsed() < patience => {}
                Err(TryLockError::WouldBlock) => {
                    return Err(Error::Locked {
                        folder: folder.to_path_buf(),
                        waited: start.elapsed(),
                    });
                }
                // Some network file systems have no locks. Atomic renames still keep files complete there.
                Err(TryLockError::Error(error)) if unsupported(&error) => {
                    return Ok(Self { _file: file });
                }
                Err(TryLockError::Error(error)) => return Err(Error::io("lock", path)(error)),
            }
            if !told {
                progress(Event::Waiting { folder });
                told = true;
            }
            sleep(POLL);
        }
    }
}

fn unsupported(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::Unsupported
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::ignore;

    #[test]
    fn a_held_lock_is_an_error_after_the_patience() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(".lock");
        let held = Lock::acquire(&path, Duration::ZERO, &ignore).unwrap();
        let error = Lock::acquire(&path, Duration::from_millis(120), &ignore).unwrap_err();
        assert!(matches!(error, Error::Locked { .. }), "{error}");
        drop(held);
        Lock::acquire(&path, Duration::ZERO, &ignore).unwrap();
    }
}
