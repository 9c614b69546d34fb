//! Unpacking that can write nothing outside its own new folder.
//!
//! The `tar` crate skips `..` entries in silence and creates symbolic links that point anywhere. The `zip`
//! crate keeps the last of two entries that share a name. This module looks at every entry before it writes
//! a byte. It accepts only regular files and folders, only plain relative names, and each name once. It
//! limits bytes, entries and the compression ratio. An entry that breaks a rule is an error that names the
//! entry, and nothing is kept.

mod tar_gz;
mod zip;

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use crate::disk;
use crate::error::{Error, Result};

/// The archive formats that data sets come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArchiveKind {
    /// A gzipped tar file.
    TarGz,
    /// A zip file with stored or deflated entries.
    Zip,
}

/// How much an archive may unpack to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Total bytes of all files.
    pub max_bytes: u64,
    /// Number of files and folders.
    pub max_entries: usize,
    /// Largest number of unpacked bytes per packed byte. The first MiB is exempt, because tiny files pack
    /// well.
    pub max_ratio: u64,
    /// Length of a name in bytes, folders included.
    pub max_name_bytes: usize,
}

impl Default for Limits {
    /// The limits are 4 GiB, 200,000 entries, a ratio of 200 to 1 and names of 512 bytes.
    fn default() -> Self {
        Self { max_bytes: 4 << 30, max_entries: 200_000, max_ratio: 200, max_name_bytes: 512 }
    }
}

const BYTES_FREE_OF_RATIO: u64 = 1 << 20;

/// Unpacks `archive` into the new folder `target`, which must not exist.
///
/// The files are first written to a temporary folder beside `target`. That folder gets its final name at
/// the end, so a `target` that exists is complete.
///
/// # Errors
/// - [`Error::Archive`] if the archive is damaged, an entry is neither a regular file nor a folder, a name
///   is absolute, contains `..` or occurs twice, or a limit is exceeded
/// - [`Error::Io`] if `target` exists or cannot be written
///
/// Nothing is kept in either case.
///
/// # Example
/// ```no_run
/// use candle_vision_fetch::{ArchiveKind, Limits, unpack};
/// use std::path::Path;
///
/// let archive = Path::new("hymenoptera_data.zip");
/// unpack(archive, ArchiveKind::Zip, Path::new("images"), &Limits::default())?;
/// # Ok::<(), candle_vision_fetch::Error>(())
/// ```
pub fn unpack(archive: &Path, kind: ArchiveKind, target: &Path, limits: &Limits) -> Result<()> {
    if target.symlink_metadata().is_ok() {
        let error = io::Error::from(io::ErrorKind::AlreadyExists);
        return Err(Error::io("unpack into", target)(error));
    }
    let parent = match target.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    disk::create_folder(parent)?;
    let temporary = disk::temporary_folder(parent)?;
    let content = temporary.path().join("content");
    disk::create_folder(&content)?;

    let file = File::open(archive).map_err(Error::io("open", archive))?;
    let packed_bytes = file.metadata().map_err(Error::io("read", archive))?.len();
    let mut unpacker = Unpacker {
        archive,
        root: content.clone(),
        limits: *limits,
        packed_bytes,
        unpacked_bytes: 0,
        seen: HashMap::new(),
    };
    match kind {
        ArchiveKind::TarGz => tar_gz::unpack(file, &mut unpacker)?,
        ArchiveKind::Zip => zip::unpack(file, &mut unpacker)?,
    }
    disk::install_tree(&content, target).map(|_| ())
}

/// How a name has been used so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    File,
    Folder,
    /// A folder that so far has occurred only as part of a file's name.
    ImpliedFolder,
}

/// Writes admitted entries below its root and keeps count.
struct Unpacker<'a> {
    archive: &'a Path,
    root: PathBuf,
    limits: Limits,
    packed_bytes: u64,
    unpacked_bytes: u64,
    /// Keyed by lower-case name, because many systems treat `A` and `a` as one file.
    seen: HashMap<String, Seen>,
}

impl Unpacker<'_> {
    fn refuse(&self, entry: &[u8], reason: impl Into<String>) -> Error {
        Error::Archive {
            archive: self.archive.to_path_buf(),
            entry: String::from_utf8_lossy(entry).into_owned(),
            reason: reason.into(),
        }
    }

    /// An error about the archive as a whole.
    fn damaged(&self, reason: impl std::fmt::Display) -> Error {
        self.refuse(b"", format!("the archive is damaged ({reason})"))
    }

    fn folder(&mut self, name: &[u8]) -> Result<()> {
        let parts = self.parts(name)?;
        if parts.is_empty() {
            return Ok(()); // `./`, the root itself
        }
        self.admit(name, &parts, Seen::Folder)?;
        let path = self.root.join(parts.join("/"));
        fs::create_dir_all(&path).map_err(Error::io("create the folder", &path))
    }

    fn file(&mut self, name: &[u8], declared_bytes: u64, content: &mut dyn Read) -> Result<()> {
        let parts = self.parts(name)?;
        if parts.is_empty() || name.ends_with(b"/") {
            return Err(self.refuse(name, "is a file with the name of a folder"));
        }
        self.admit(name, &parts, Seen::File)?;
        let path = self.root.join(parts.join("/"));
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(Error::io("create the folder", parent))?;
        }
        self.check_budget(name, declared_bytes)?;
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&path)
            .map_err(Error::io("write", &path))?;
        let written = self.copy(name, declared_bytes, content, &mut file, &path)?;
        if written != declared_bytes {
            let reason = format!("has {written} bytes where the archive promises {declared_bytes}");
            return Err(self.refuse(name, reason));
        }
        file.sync_all().map_err(Error::io("sync", &path))
    }

    /// Copies at most one byte more than the declared length, so that a wrong length costs nothing.
    fn copy(
        &mut self,
        name: &[u8],
        declared_bytes: u64,
        content: &mut dyn Read,
        file: &mut File,
        path: &Path,
    ) -> Result<u64> {
        let mut content = content.take(declared_bytes.saturating_add(1));
        let mut buffer = vec![0; 1 << 16];
        let mut written = 0;
        loop {
            let read = match content.read(&mut buffer) {
                Ok(0) => return Ok(written),
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(self.refuse(name, format!("is damaged ({error})"))),
            };
            written += read as u64;
            self.check_budget(name, read as u64)?;
            self.unpacked_bytes += read as u64;
            file.write_all(&buffer[..read]).map_err(Error::io("write", path))?;
        }
    }

    /// Checks that `more` bytes still fit the limits.
    fn check_budget(&self, name: &[u8], more: u64) -> Result<()> {
        let total = self.unpacked_bytes.saturating_add(more);
        if total > self.limits.max_bytes {
            let reason = format!("goes beyond the limit of {} bytes", self.limits.max_bytes);
            return Err(self.refuse(name, reason));
        }
        let by_ratio = self.packed_bytes.saturating_mul(self.limits.max_ratio);
        if total > by_ratio.saturating_add(BYTES_FREE_OF_RATIO) {
            let reason = format!("unpacks to more than {} times its size", self.limits.max_ratio);
            return Err(self.refuse(name, reason));
        }
        Ok(())
    }

    /// Splits a plain relative name into its parts. Names that Windows would read as paths are refused on
    /// every system, so that an archive means the same everywhere.
    fn parts(&self, name: &[u8]) -> Result<Vec<String>> {
        if name.len() > self.limits.max_name_bytes {
            let shown = &name[..self.limits.max_name_bytes.min(80)];
            let reason = format!("(shortened) has a name of {} bytes", name.len());
            return Err(self.refuse(shown, reason));
        }
        let Ok(text) = std::str::from_utf8(name) else {
            return Err(self.refuse(name, "has a name that is not UTF-8"));
        };
        if text.is_empty() {
            return Err(self.refuse(b"(no name)", "has no name"));
        }
        if text.starts_with('/') {
            return Err(self.refuse(name, "has an absolute name"));
        }
        if text.contains(['\\', ':']) || text.contains(char::is_control) {
            return Err(
                self.refuse(name, "has a backslash, colon or control character in its name")
            );
        }
        let mut parts = Vec::new();
        for part in text.strip_suffix('/').unwrap_or(text).split('/') {
            match part {
                "." => {}
                ".." => return Err(self.refuse(name, "leads out of the folder with `..`")),
                "" => return Err(self.refuse(name, "has an empty part in its name")),
                part if part.ends_with(['.', ' ']) => {
                    return Err(self.refuse(name, "has a part that ends with a dot or space"));
                }
                part => parts.push(part.to_owned()),
            }
        }
        Ok(parts)
    }

    /// Counts the entry. Refuses a name that was used before.
    fn admit(&mut self, name: &[u8], parts: &[String], kind: Seen) -> Result<()> {
        if self.seen.len() >= self.limits.max_entries {
            let reason = format!("is one more than the limit of {}", self.limits.max_entries);
            return Err(self.refuse(name, reason));
        }
        let mut path = String::new();
        for (depth, part) in parts.iter().enumerate() {
            if depth > 0 {
                path.push('/');
            }
            path.push_str(&part.to_lowercase());
            let is_last = depth + 1 == parts.len();
            let wanted = if is_last { kind } else { Seen::ImpliedFolder };
            match (self.seen.get(&path), wanted) {
                (None, _) | (Some(Seen::ImpliedFolder), Seen::Folder) => {
                    self.seen.insert(path.clone(), wanted);
                }
                (Some(Seen::Folder | Seen::ImpliedFolder), Seen::ImpliedFolder) => {}
                (Some(Seen::File), Seen::ImpliedFolder) => {
                    return Err(self.refuse(name, "lies below a name that is a file"));
                }
                (Some(_), Seen::File | Seen::Folder) => {
                    return Err(self.refuse(name, "occurs twice"));
                }
            }
        }
        Ok(())
    }
}
