//! The hub's cache on disk. It holds the bytes as `blobs/ETAG`, links to them as `snapshots/COMMIT/FILE`,
//! and the commit in `refs/REVISION`.

use std::fs;
use std::path::{Path, PathBuf};

use hf_hub::{Cache, CacheRepo, Repo};

use super::{HubFile, is_hex, is_safetensors};
use crate::checksum::{FileSpec, Sha256Sum};
use crate::disk;
use crate::error::{Error, Result};
use crate::safetensors_header::check_safetensors_header;

/// The part of the cache for one file of one repository.
pub(super) struct RepoCache<'a> {
    root: PathBuf,
    repo: CacheRepo,
    file: &'a HubFile,
}

impl<'a> RepoCache<'a> {
    pub(super) fn new(cache: Cache, repo: Repo, file: &'a HubFile) -> Self {
        Self { root: cache.path().join(repo.folder_name()), repo: cache.repo(repo), file }
    }

    pub(super) fn folder(&self) -> PathBuf {
        self.root.clone()
    }

    pub(super) fn blobs(&self) -> PathBuf {
        self.root.join("blobs")
    }

    /// `etag` has been checked to be hexadecimal, so it cannot lead out of the cache.
    pub(super) fn blob(&self, etag: &str) -> PathBuf {
        self.repo.blob_path(etag)
    }

    /// The cached file if it is there and passes verification. A file that fails is removed.
    pub(super) fn verified(&self) -> Result<Option<PathBuf>> {
        let Some(path) = self.cached() else {
            return Ok(None);
        };
        match self.verify(&path) {
            Ok(()) => Ok(Some(path)),
            Err(error @ Error::Io { .. }) => Err(error),
            Err(_) => {
                if let Some(blob) = self.own_blob(&path) {
                    disk::remove_file(&blob)?;
                }
                disk::remove_file(&path)?;
                Ok(None)
            }
        }
    }

    /// The blob behind a snapshot's name. `None` if a user linked the name to a file elsewhere.
    fn own_blob(&self, path: &Path) -> Option<PathBuf> {
        let blob = fs::canonicalize(path).ok()?;
        let blobs = fs::canonicalize(self.blobs()).ok()?;
        blob.starts_with(blobs).then_some(blob)
    }

    fn cached(&self) -> Option<PathBuf> {
        // Python writes no `refs` entry for a commit, because the snapshot has the commit's name anyway.
        let by_commit = self.repo.pointer_path(&self.file.revision).join(&self.file.spec.name);
        if is_hex(&self.file.revision, &[40]) && by_commit.is_file() {
            return Some(by_commit);
        }
        self.repo.get(&self.file.spec.name)
    }

    fn verify(&self, path: &Path) -> Result<()> {
        let spec = &self.file.spec;
        let sha256 = spec.sha256.clone().or_else(|| sum_of_blob(path));
        let spec = FileSpec { sha256, ..spec.clone() };
        spec.verify(path)?;
        if is_safetensors(self.file) {
            check_safetensors_header(path)?;
        }
        Ok(())
    }

    /// Links a downloaded blob under its snapshot's name and notes the revision's commit.
    pub(super) fn link(&self, etag: &str, commit: &str) -> Result<PathBuf> {
        let pointer = self.repo.pointer_path(commit).join(&self.file.spec.name);
        if let Some(parent) = pointer.parent() {
            disk::create_folder(parent)?;
        }
        disk::remove_file(&pointer)?;
        link_file(&self.blob(etag), &pointer, self.depth())?;
        let reference = self.root.join("refs").join(&self.file.revision);
        disk::write(&reference, commit.as_bytes())?;
        Ok(pointer)
    }

    /// Number of folders between the repository's folder and the file's name in a snapshot.
    fn depth(&self) -> usize {
        2 + self.file.spec.name.matches('/').count()
    }
}

/// The sum in a blob's name, for large files.
fn sum_of_blob(path: &Path) -> Option<Sha256Sum> {
    let blob = fs::canonicalize(path).ok()?;
    let name = blob.file_name()?.to_str()?;
    is_hex(name, &[64]).then(|| Sha256Sum::new(name).ok())?
}

/// Makes a relative link, so that the cache can be moved as a whole.
#[cfg(unix)]
fn link_file(blob: &Path, pointer: &Path, depth: usize) -> Result<()> {
    let name = blob.file_name().unwrap_or_default();
    let target: PathBuf =
        std::iter::repeat_n("..", depth).collect::<PathBuf>().join("blobs").join(name);
    std::os::unix::fs::symlink(target, pointer).map_err(Error::io("link", pointer))
}

/// Links need a privilege on Windows. The file is moved into its snapshot instead, as Python does there.
#[cfg(not(unix))]
fn link_file(blob: &Path, pointer: &Path, _depth: usize) -> Result<()> {
    fs::rename(blob, pointer).map_err(Error::io("rename to", pointer))
}
