//! The shards that are open. Few are at a time, because systems limit the number of open files.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use super::read_at::LocalFile;
use super::{CLASSES, File, Remote, index_file, pattern};
use crate::datasets::image_table::labelling::names_in_text;
use crate::datasets::labelled_files::utf8;
use crate::error::{Error, Result};

/// The most shards that are open at a time.
const MOST: usize = 64;
/// The largest file of class names that a server may have beside its shards.
const MAX_CLASSES_BYTES: u64 = 64 << 20;

pub(super) struct OpenShards {
    remote: Option<Remote>,
    /// The last used comes first.
    open: Mutex<VecDeque<(String, File)>>,
}

impl OpenShards {
    pub(super) fn new(remote: Option<Remote>) -> Self {
        Self { remote, open: Mutex::default() }
    }

    /// Opens a shard, unless it is open already.
    pub(super) fn open(&self, name: &str) -> Result<File> {
        let lock = || self.open.lock().unwrap_or_else(PoisonError::into_inner);
        {
            let mut open = lock();
            if let Some(place) = open.iter().position(|(of, _)| of == name) {
                let found = open.remove(place).expect("it was found there");
                let file = Arc::clone(&found.1);
                open.push_front(found);
                return Ok(file);
            }
        }
        // Not under the lock: a server may take its time.
        let file = self.fresh(name)?;
        let mut open = lock();
        open.push_front((name.to_owned(), Arc::clone(&file)));
        open.truncate(MOST);
        Ok(file)
    }

    fn fresh(&self, name: &str) -> Result<File> {
        if !pattern::is_url(name) {
            return Ok(Arc::new(LocalFile::open(Path::new(name))?));
        }
        let remote = self.remote.as_ref().ok_or_else(|| Error::NotFound {
            path: name.into(),
            expected: "a local file, because nothing here opens addresses".to_owned(),
            remedy: "set `OpenRequest::remote`, or download the shard".to_owned(),
        })?;
        remote.open(name)
    }

    /// The index of a shard and its name, if there is one.
    pub(super) fn open_index(&self, shard: &str) -> Result<Option<(File, String)>> {
        let name = index_file::index_of(shard);
        if pattern::is_url(shard) {
            // A server that has no index says so. Then the shard itself is read, and any other trouble shows there.
            return Ok(self.fresh(&name).ok().map(|file| (file, name)));
        }
        if !Path::new(&name).is_file() {
            return Ok(None);
        }
        Ok(Some((self.fresh(&name)?, name)))
    }

    /// The names of the classes in a file beside a shard on a server, if there is one. A server that has none says so.
    pub(super) fn classes_beside(&self, shard: &str) -> Result<Option<Vec<String>>> {
        // What stands behind a question mark is of the shard alone.
        let address = shard.split(['?', '#']).next().unwrap_or_default();
        let Some((folder, _)) = address.rsplit_once('/') else { return Ok(None) };
        let name = format!("{folder}/{CLASSES}");
        let Ok(file) = self.fresh(&name) else { return Ok(None) };
        let path = Path::new(&name);
        if file.size() > MAX_CLASSES_BYTES {
            return Err(Error::Invalid {
                path: path.to_path_buf(),
                problem: format!("has {} bytes, more than any list of classes", file.size()),
                remedy: "write one name in each line".to_owned(),
            });
        }
        let mut bytes = vec![0; file.size() as usize];
        file.read_at(0, &mut bytes)?;
        names_in_text(path, &utf8(path, bytes)?).map(Some)
    }
}
