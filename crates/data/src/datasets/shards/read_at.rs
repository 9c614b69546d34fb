//! Bytes that can be read from any place: a local file, or a file on a server.

use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{Error, Result};

/// Bytes that can be read from any place and any thread: a local file, or a file on a server.
///
/// A program that reads shards from elsewhere implements it and sets [`OpenRequest::remote`](crate::OpenRequest).
pub trait ReadAt: Send + Sync {
    /// The number of bytes.
    fn size(&self) -> u64;

    /// Fills `buffer` with the bytes from `offset` on.
    ///
    /// # Errors
    /// If they cannot be read, or end before the buffer is full.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()>;
}

type OpenUrl = dyn Fn(&str) -> Result<Arc<dyn ReadAt>> + Send + Sync;

/// How files on servers are opened. This crate itself uses only the local disk.
#[derive(Clone)]
pub struct Remote(Arc<OpenUrl>);

impl Remote {
    /// A function that opens an address.
    pub fn new(open: impl Fn(&str) -> Result<Arc<dyn ReadAt>> + Send + Sync + 'static) -> Self {
        Self(Arc::new(open))
    }

    /// Opens an address.
    ///
    /// # Errors
    /// Those of the function.
    pub fn open(&self, url: &str) -> Result<Arc<dyn ReadAt>> {
        (self.0)(url)
    }
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Remote")
    }
}

/// A local file.
pub(in crate::datasets) struct LocalFile {
    path: PathBuf,
    file: File,
    size: u64,
}

impl LocalFile {
    pub(in crate::datasets) fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(Error::io(path))?;
        let metadata = file.metadata().map_err(Error::io(path))?;
        if metadata.is_dir() {
            let error = std::io::Error::from(std::io::ErrorKind::IsADirectory);
            return Err(Error::io(path)(error));
        }
        Ok(Self { path: path.to_path_buf(), file, size: metadata.len() })
    }
}

impl ReadAt for LocalFile {
    fn size(&self) -> u64 {
        self.size
    }

    #[cfg(unix)]
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        use std::os::unix::fs::FileExt;
        self.file.read_exact_at(buffer, offset).map_err(Error::io(&self.path))
    }

    // Reads of several threads may move the file's own position between each other, which nothing uses.
    #[cfg(windows)]
    fn read_at(&self, mut offset: u64, mut buffer: &mut [u8]) -> Result<()> {
        use std::os::windows::fs::FileExt;
        while !buffer.is_empty() {
            match self.file.seek_read(buffer, offset).map_err(Error::io(&self.path))? {
                0 => {
                    let error = std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
                    return Err(Error::io(&self.path)(error));
                }
                read => {
                    offset += read as u64;
                    buffer = &mut buffer[read..];
                }
            }
        }
        Ok(())
    }
}
