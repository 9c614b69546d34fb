//! Files that are whole or not there.

use std::io::{self, Write};
use std::path::Path;

use crate::{Error, Result};

/// Writes `bytes` to `path`: a reader, also after a kill or on a full disk, finds the old file or
/// the new one, never a part. Missing folders are made.
pub(crate) fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    replace(path, bytes).map_err(Error::write(path))
}

fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    std::fs::create_dir_all(folder)?;
    // Renaming is atomic within one file system only, so the draft lies beside its target.
    let mut draft = builder().tempfile_in(folder)?;
    draft.write_all(bytes)?;
    draft.as_file().sync_all()?;
    draft.persist(path).map_err(|error| error.error)?;
    sync_folder(folder)
}

fn builder() -> tempfile::Builder<'static, 'static> {
    let mut builder = tempfile::Builder::new();
    // The names that the trainer uses for its own: in a run's folder it removes what a killed
    // process left.
    builder.prefix(".candle-vision-").suffix(".tmp");
    // Drafts are private by default, but results are meant for whoever may read the folder; the
    // umask still applies.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    builder
}

/// A rename is kept after a power loss only once its folder is.
fn sync_folder(folder: &Path) -> io::Result<()> {
    if cfg!(unix) { std::fs::File::open(folder)?.sync_all() } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_a_file_and_leaves_no_draft() -> std::result::Result<(), Box<dyn std::error::Error>>
    {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("new/folder/file.txt");
        write_atomically(&path, b"first")?;
        write_atomically(&path, b"second")?;
        assert_eq!(std::fs::read(&path)?, b"second");
        assert_eq!(std::fs::read_dir(folder.path().join("new/folder"))?.count(), 1);
        Ok(())
    }

    #[test]
    fn an_error_names_the_path_and_its_cause() -> std::result::Result<(), Box<dyn std::error::Error>>
    {
        let folder = tempfile::tempdir()?;
        std::fs::write(folder.path().join("file"), "in the way")?;
        let error = write_atomically(&folder.path().join("file/curves.png"), b"")
            .expect_err("a file is no folder");
        assert!(error.to_string().contains("file/curves.png"), "{error}");
        assert!(std::error::Error::source(&error).is_some());
        Ok(())
    }
}
