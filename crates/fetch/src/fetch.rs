//! Brings one item into the data folder. Files that are there stay. Missing files come from a local folder
//! or from the network. The result is checked as a whole.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::archive::{ArchiveKind, Limits, unpack};
use crate::checksum::FileSpec;
use crate::disk;
use crate::error::{Attempt, Error, Result};
use crate::event::{Event, Progress, ignore};
use crate::http::{Download, HttpClient, HttpOptions};
use crate::hub::{Hub, HubOptions};
use crate::item::{Content, Depth, Item, Layout, Source};
use crate::local;
use crate::lock::Lock;
use crate::record::{self, RECORD_FILE};

const LOCK_FILE: &str = ".candle-vision-fetch.lock";

/// How to fetch.
#[derive(Clone)]
pub struct FetchOptions<'a> {
    /// The data folder. It is made if needed.
    pub data_dir: PathBuf,
    /// Take the item from this folder and do not use the network.
    pub from: Option<PathBuf>,
    /// Use only what is in the data folder, `from` and the hub's cache.
    pub offline: bool,
    /// Receives the progress.
    pub progress: &'a Progress<'a>,
    /// Time-outs and limits.
    pub http: HttpOptions,
    /// The Hugging Face hub and its cache.
    pub hub: HubOptions,
    /// How long to wait for another process that fetches into the same folder.
    pub lock_patience: Duration,
}

impl FetchOptions<'_> {
    /// The defaults: the network is allowed, the environment sets up the hub, and progress is dropped.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            from: None,
            offline: false,
            progress: &ignore,
            http: HttpOptions::default(),
            hub: HubOptions::from_env(),
            lock_patience: Duration::from_secs(1800),
        }
    }
}

/// What [`fetch`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// The item's files, or its folder if it has too many files to name.
    pub files: Vec<PathBuf>,
    /// Where they came from.
    pub origin: Origin,
    /// The conversion that is still needed before the item is present.
    pub conversion: Option<Conversion>,
}

/// Where an item came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// It was there and passed verification. Nothing was done.
    AlreadyPresent,
    /// It was there with the right number of files. Nothing was done. The contents of the files cannot be
    /// checked, because this version did not fetch them and there is no record of their sums.
    Counted,
    /// A local folder.
    Local,
    /// The network, or the hub's cache.
    Network,
}

/// A verified PyTorch pickle. A program that can read it must convert it to safetensors weights.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conversion {
    /// The pickle. It may be deleted after the conversion.
    pub pickle: PathBuf,
    /// The file to write.
    pub safetensors: PathBuf,
}

/// Whether an item is in the data folder. Checks names, lengths, counts and headers, and does not read all
/// bytes. [`fetch`] checks more closely.
pub fn is_present(item: &Item, data_dir: &Path) -> bool {
    present(item, data_dir, Depth::Quick).is_some()
}

/// Brings an item into the data folder and verifies it. Fetching again does nothing.
///
/// With [`FetchOptions::from`], the item is looked for in that folder. Any of the item's layouts is
/// accepted, with or without the layout's folder. So is the archive or pickle that the network would have
/// sent.
///
/// # Errors
/// Any [`Error`]. The data folder then holds whatever it held before, plus complete verified files and
/// `.part` files. The next attempt continues from the `.part` files.
pub fn fetch(item: &Item, options: &FetchOptions<'_>) -> Result<Fetched> {
    if let Some(fetched) = already_present(item, options) {
        return Ok(fetched);
    }
    if is_nowhere(item, options) {
        return Err(Error::Offline { what: item.name.clone(), folder: options.data_dir.clone() });
    }
    disk::create_folder(&options.data_dir)?;
    let lock = options.data_dir.join(LOCK_FILE);
    let _lock = Lock::acquire(&lock, options.lock_patience, options.progress)?;
    remove_leftovers(item, &options.data_dir)?;
    // Another process may have fetched it while this one waited.
    if let Some(fetched) = already_present(item, options) {
        return Ok(fetched);
    }
    tell_of_damage(item, options);
    match &options.from {
        Some(from) => {
            let conversion = local::take(item, from, options)?;
            finish(item, options, Origin::Local, conversion)
        }
        None => from_network(item, options),
    }
}

/// Checks quickly that none of an item's files is missing or has changed since it was fetched. This works
/// for items that were fetched as folders and have a record. Items of single files and folders without a
/// record pass, because whoever reads them checks them.
///
/// # Errors
/// [`Error::Mismatch`] with the first file that differs.
pub fn check_fetched(item: &Item, data_dir: &Path) -> Result<()> {
    item.layouts.iter().try_for_each(|layout| check_records(layout, data_dir))
}

fn check_records(layout: &Layout, folder: &Path) -> Result<()> {
    let folder = folder.join(&layout.folder);
    match &layout.content {
        Content::Tree { .. } => record::check(&folder, Depth::Quick),
        Content::Parts(parts) => parts.iter().try_for_each(|part| check_records(part, &folder)),
        Content::Files(_) | Content::Weights { .. } => Ok(()),
    }
}

/// Whether the network may not be used and no part of the item is here. The data folder, which may be
/// read-only, need not be touched then.
fn is_nowhere(item: &Item, options: &FetchOptions<'_>) -> bool {
    let data_dir = &options.data_dir;
    let is_here = |source: &Source| is_here(source, data_dir, options);
    options.offline && options.from.is_none() && !item.sources.iter().any(is_here)
}

fn is_here(source: &Source, data_dir: &Path, options: &FetchOptions<'_>) -> bool {
    match source {
        Source::Files { .. } => false,
        Source::Archive { file, .. } => data_dir.join(&file.name).exists(),
        Source::Parts(parts) => parts.iter().any(|part| is_here(part, data_dir, options)),
        Source::Hub { file, .. } => Hub::has_cached(&options.hub, file),
        Source::Pth { file, to, .. } => conversion(file, to, data_dir).pickle.exists(),
    }
}

fn already_present(item: &Item, options: &FetchOptions<'_>) -> Option<Fetched> {
    let layout = complete_layout(item, &options.data_dir, Depth::Full)?;
    let folder = options.data_dir.join(&layout.folder);
    let is_counted = matches!(layout.content, Content::Tree { .. }) && !record::is_there(&folder);
    let origin = if is_counted { Origin::Counted } else { Origin::AlreadyPresent };
    Some(Fetched { files: files_of(layout, &options.data_dir), origin, conversion: None })
}

fn from_network(item: &Item, options: &FetchOptions<'_>) -> Result<Fetched> {
    let mut attempts = Vec::new();
    let mut is_offline = false;
    for source in &item.sources {
        match from_source(source, options) {
            Ok(conversion) => return finish(item, options, Origin::Network, conversion),
            Err(Error::Download { attempts: failed, .. }) => attempts.extend(failed),
            Err(Error::Offline { .. }) => is_offline = true,
            // The hub's cache lies elsewhere. Trouble with it says nothing about other sources.
            Err(error) => match source {
                Source::Hub { file, .. } => attempts.push(Attempt {
                    url: format!("{}/{}", file.repo, file.spec.name),
                    cause: error.to_string(),
                    kind: error.attempt_kind(),
                }),
                _ => return Err(error),
            },
        }
    }
    if is_offline && attempts.is_empty() {
        return Err(Error::Offline { what: item.name.clone(), folder: options.data_dir.clone() });
    }
    Err(Error::Download { file: item.name.clone(), attempts })
}

fn tell_of_damage(item: &Item, options: &FetchOptions<'_>) {
    for layout in &item.layouts {
        let folder = options.data_dir.join(&layout.folder);
        if !layout.content.is_begun_in(&folder) {
            continue;
        }
        if let Err(error) = layout.content.verify(&folder, Depth::Full) {
            (options.progress)(Event::Incomplete { item: &item.name, cause: &error.to_string() });
        }
    }
}

/// The files of a complete layout, if there is one.
fn present(item: &Item, data_dir: &Path, depth: Depth) -> Option<Vec<PathBuf>> {
    complete_layout(item, data_dir, depth).map(|layout| files_of(layout, data_dir))
}

fn complete_layout<'a>(item: &'a Item, data_dir: &Path, depth: Depth) -> Option<&'a Layout> {
    let is_complete =
        |layout: &&Layout| layout.content.verify(&data_dir.join(&layout.folder), depth).is_ok();
    item.layouts.iter().find(is_complete)
}

fn files_of(layout: &Layout, data_dir: &Path) -> Vec<PathBuf> {
    let folder = data_dir.join(&layout.folder);
    match &layout.content {
        Content::Files(files) => files.iter().map(|file| folder.join(&file.name)).collect(),
        Content::Tree { .. } | Content::Parts(_) => vec![folder],
        Content::Weights { name, .. } => vec![folder.join(name)],
    }
}

/// Called when a source is done. Checks whether the item is complete now.
fn finish(
    item: &Item,
    options: &FetchOptions<'_>,
    origin: Origin,
    conversion: Option<Conversion>,
) -> Result<Fetched> {
    let data_dir = &options.data_dir;
    if let Some(conversion) = conversion {
        return Ok(Fetched {
            files: vec![conversion.pickle.clone()],
            origin,
            conversion: Some(conversion),
        });
    }
    if let Some(files) = present(item, data_dir, Depth::Full) {
        return Ok(Fetched { files, origin, conversion: None });
    }
    // Report what is wrong with the layout that was begun.
    let begun = |layout: &&Layout| layout.content.is_begun_in(&data_dir.join(&layout.folder));
    for layout in item.layouts.iter().filter(begun).chain(&item.layouts) {
        layout.content.verify(&data_dir.join(&layout.folder), Depth::Full)?;
    }
    Err(Error::NotInFolder {
        item: item.name.clone(),
        folder: data_dir.clone(),
        wanted: Vec::new(),
        holds: Vec::new(),
    })
}

fn from_source(source: &Source, options: &FetchOptions<'_>) -> Result<Option<Conversion>> {
    let data_dir = &options.data_dir;
    match source {
        Source::Files { folder, files, mirrors } => {
            let folder = data_dir.join(folder);
            for file in files {
                let target = folder.join(&file.name);
                if file.verify(&target).is_err() {
                    download(file, &target, mirrors, options)?;
                }
            }
            Ok(None)
        }
        Source::Archive { file, kind, mirrors, root, folder, limits } => {
            // Another part of the item may have failed after this one was unpacked.
            let target = data_dir.join(folder);
            if record::is_there(&target) && record::check(&target, Depth::Full).is_ok() {
                return Ok(None);
            }
            let archive = data_dir.join(&file.name);
            if file.verify(&archive).is_err() {
                download(file, &archive, mirrors, options)?;
            }
            install_archive(&archive, *kind, limits, root, &target, options)?;
            disk::remove_file(&archive)?;
            Ok(None)
        }
        Source::Parts(parts) => {
            for part in parts {
                from_source(part, options)?;
            }
            Ok(None)
        }
        Source::Hub { file, to } => {
            let mut hub = options.hub.clone();
            hub.offline |= options.offline;
            let cached = Hub::new(options.http.clone(), hub).get(file, options.progress)?;
            disk::copy_verified(&cached, &data_dir.join(to), &file.spec)?;
            Ok(None)
        }
        Source::Pth { file, mirrors, to } => {
            let conversion = conversion(file, to, data_dir);
            if file.verify(&conversion.pickle).is_err() {
                download(file, &conversion.pickle, mirrors, options)?;
            }
            Ok(Some(conversion))
        }
    }
}

/// The conversion of a pickle that lies beside the file it becomes.
pub(crate) fn conversion(file: &FileSpec, to: &str, data_dir: &Path) -> Conversion {
    let safetensors = data_dir.join(to);
    Conversion { pickle: safetensors.with_file_name(&file.name), safetensors }
}

fn download(
    file: &FileSpec,
    target: &Path,
    mirrors: &[String],
    options: &FetchOptions<'_>,
) -> Result<()> {
    if options.offline {
        return Err(Error::Offline { what: file.name.clone(), folder: options.data_dir.clone() });
    }
    let urls: Vec<String> = mirrors.iter().map(|mirror| format!("{mirror}{}", file.name)).collect();
    let download = Download { target, urls: &urls, spec: file, check: None, bearer_token: None };
    HttpClient::new(options.http.clone()).download(&download, options.progress)
}

/// Unpacks `archive` and turns its folder `root` into the folder `target`.
pub(crate) fn install_archive(
    archive: &Path,
    kind: ArchiveKind,
    limits: &Limits,
    root: &str,
    target: &Path,
    options: &FetchOptions<'_>,
) -> Result<()> {
    (options.progress)(Event::Unpacking { archive });
    let temporary = disk::temporary_folder(&options.data_dir)?;
    let unpacked = temporary.path().join("unpacked");
    unpack(archive, kind, &unpacked, limits)?;
    let content = unpacked.join(root);
    if !content.is_dir() {
        return Err(Error::Archive {
            archive: archive.to_path_buf(),
            entry: root.to_owned(),
            reason: "is missing".to_owned(),
        });
    }
    install_recorded(&content, target, options)
}

/// Records the contents of `finished` and turns it into the folder `target`. Reports which files of an
/// existing folder were repaired by that.
pub(crate) fn install_recorded(
    finished: &Path,
    target: &Path,
    options: &FetchOptions<'_>,
) -> Result<()> {
    record::write(finished)?;
    for path in disk::install_tree(finished, target)? {
        if path.file_name().is_some_and(|name| name != RECORD_FILE) {
            (options.progress)(Event::Repaired { path: &path });
        }
    }
    Ok(())
}

fn remove_leftovers(item: &Item, data_dir: &Path) -> Result<()> {
    disk::remove_leftovers(data_dir)?;
    for layout in &item.layouts {
        disk::remove_leftovers(&data_dir.join(&layout.folder))?;
    }
    Ok(())
}
