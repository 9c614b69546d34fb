//! Files that are either as before or completely new. The errors name a remedy.

use std::io;
use std::path::Path;

use crate::{Error, Result};

/// Writes a file under a temporary name in the same folder and renames it when all of it is on the disk. A
/// reader finds the old file or the new one, never a part, even after a kill or a loss of power. A missing
/// folder is made.
///
/// # Errors
/// If the file cannot be written. The old file is intact then, and nothing is left over.
pub fn write_atomically(path: impl AsRef<Path>, bytes: &[u8]) -> Result<()> {
    let path = path.as_ref();
    candle_vision_files::write(path, bytes).map_err(|error| describe(error, path, bytes.len()))
}

pub(crate) fn describe(source: io::Error, path: &Path, bytes: usize) -> Error {
    let full = [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded];
    if full.contains(&source.kind()) {
        return Error::DiskFull { path: path.to_path_buf(), needed: bytes as u64, source };
    }
    Error::io("write", path)(source)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_names_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("taken");
        std::fs::create_dir(&path).unwrap();
        let error = write_atomically(&path, b"text").unwrap_err();
        assert!(matches!(&error, Error::Io { action: "write", .. }), "{error:?}");
        assert!(error.to_string().contains("taken"), "{error}");
    }

    /// A device that is always full stands in for a full disk.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_is_told_apart() {
        use std::io::Write;

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
