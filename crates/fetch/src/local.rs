//! Takes the files from a local folder instead of the network.
//!
//! The folder may be another data folder, the item's own folder, or a place with the downloads as they
//! come: archives and pickles. Copies pass the same checks as downloads.

use std::path::{Path, PathBuf};

use crate::checksum::FileSpec;
use crate::disk;
use crate::error::{Error, Result};
use crate::event::{Event, Progress};
use crate::fetch::{Conversion, FetchOptions, conversion, install_archive, install_recorded};
use crate::item::{Content, Depth, Item, Layout, Source};

/// Copies the item out of `from`. Returns the conversion that is still needed, if any.
pub(crate) fn take(
    item: &Item,
    from: &Path,
    options: &FetchOptions<'_>,
) -> Result<Option<Conversion>> {
    let mut incomplete = None;
    for layout in &item.layouts {
        for folder in candidates(layout, from) {
            if !layout.content.is_begun_in(&folder) {
                continue;
            }
            match layout.content.verify(&folder, Depth::Quick) {
                Ok(()) => return copy(layout, &folder, options).map(|()| None),
                Err(error) => incomplete = incomplete.or(Some(error)),
            }
        }
    }
    for source in &item.sources {
        if let Some(taken) = take_download(source, from, options)? {
            return Ok(taken);
        }
    }
    Err(incomplete.unwrap_or_else(|| Error::NotInFolder {
        item: item.name.clone(),
        folder: from.to_path_buf(),
        wanted: wanted(item),
        holds: Vec::new(),
    }))
}

/// Whether `folder` has the item, or a part of it, in a form that [`FetchOptions::from`] takes. Nothing is verified.
pub fn is_in_folder(item: &Item, folder: &Path) -> bool {
    let is_begun = |layout: &Layout| {
        let folders = candidates(layout, folder);
        folders.iter().any(|folder| layout.content.is_begun_in(folder))
    };
    item.layouts.iter().any(is_begun)
        || item.sources.iter().any(|source| has_download(source, folder))
}

fn has_download(source: &Source, folder: &Path) -> bool {
    match source {
        Source::Archive { file, .. } => folder.join(&file.name).is_file(),
        Source::Pth { file, .. } => pickle(file, folder).is_some(),
        Source::Parts(parts) => parts.iter().any(|part| has_download(part, folder)),
        Source::Files { .. } | Source::Hub { .. } => false,
    }
}

/// Where a pickle lies in `from`, as it was downloaded.
fn pickle(file: &FileSpec, from: &Path) -> Option<PathBuf> {
    let places = [from.join(&file.name), from.join("weights").join(&file.name)];
    places.into_iter().find(|place| place.is_file())
}

/// The places where a layout may lie: in its own folder as in a data folder, or directly in `from`.
fn candidates(layout: &Layout, from: &Path) -> [PathBuf; 2] {
    [from.join(&layout.folder), from.to_path_buf()]
}

fn copy(layout: &Layout, source: &Path, options: &FetchOptions<'_>) -> Result<()> {
    copy_to(layout, source, &options.data_dir.join(&layout.folder), options)
}

fn copy_to(
    layout: &Layout,
    source: &Path,
    target: &Path,
    options: &FetchOptions<'_>,
) -> Result<()> {
    match &layout.content {
        Content::Files(files) => {
            for file in files {
                let from = source.join(&file.name);
                copying(&file.name, source, options.progress, || {
                    disk::copy_verified(&from, &target.join(&file.name), file)
                })?;
            }
            Ok(())
        }
        Content::Tree { .. } => copying(&layout.folder, source, options.progress, || {
            layout.content.verify(source, Depth::Full)?;
            let temporary = disk::temporary_folder(&options.data_dir)?;
            let copied = temporary.path().join("copied");
            disk::copy_tree(source, &copied)?;
            layout.content.verify(&copied, Depth::Full)?;
            install_recorded(&copied, target, options)
        }),
        Content::Parts(parts) => parts.iter().try_for_each(|part| {
            let (from, to) = (source.join(&part.folder), target.join(&part.folder));
            copy_to(part, &from, &to, options)
        }),
        Content::Weights { name, .. } => {
            layout.content.verify(source, Depth::Full)?;
            let file = FileSpec::named(name.clone());
            copying(name, source, options.progress, || {
                disk::copy_verified(&source.join(name), &target.join(name), &file)
            })
        }
    }
}

/// Takes the source's file in its downloaded form, if `from` has it. The outer option tells whether it was
/// there.
fn take_download(
    source: &Source,
    from: &Path,
    options: &FetchOptions<'_>,
) -> Result<Option<Option<Conversion>>> {
    match source {
        Source::Archive { file, kind, root, folder, limits, .. } => {
            // An archive may itself come out of another one, which was unpacked before.
            let places = [from.join(&file.name), options.data_dir.join(&file.name)];
            let Some(archive) = places.into_iter().find(|place| place.is_file()) else {
                return Ok(None);
            };
            file.verify(&archive)?;
            let target = options.data_dir.join(folder);
            install_archive(&archive, *kind, limits, root, &target, options)?;
            Ok(Some(None))
        }
        Source::Pth { file, to, .. } => {
            let Some(pickle) = pickle(file, from) else { return Ok(None) };
            let conversion = conversion(file, to, &options.data_dir);
            copying(&file.name, from, options.progress, || {
                disk::copy_verified(&pickle, &conversion.pickle, file)
            })?;
            Ok(Some(Some(conversion)))
        }
        Source::Parts(parts) => {
            for part in parts {
                if take_part(part, from, options)?.is_none() {
                    return Ok(None);
                }
            }
            Ok(Some(None))
        }
        _ => Ok(None),
    }
}

/// Takes one of several parts. Single files lie directly in `from` or in their folder there.
fn take_part(
    source: &Source,
    from: &Path,
    options: &FetchOptions<'_>,
) -> Result<Option<Option<Conversion>>> {
    let Source::Files { folder, files, .. } = source else {
        return take_download(source, from, options);
    };
    for file in files {
        let places = [from.join(folder).join(&file.name), from.join(&file.name)];
        let Some(place) = places.iter().find(|place| place.is_file()) else { return Ok(None) };
        let target = options.data_dir.join(folder).join(&file.name);
        copying(&file.name, from, options.progress, || disk::copy_verified(place, &target, file))?;
    }
    Ok(Some(None))
}

/// Reports the begin and the end of a copy and runs it in between.
fn copying(
    name: &str,
    from: &Path,
    progress: &Progress<'_>,
    copy: impl FnOnce() -> Result<()>,
) -> Result<()> {
    progress(Event::Started { file: name, from: &from.to_string_lossy(), resumed: 0, total: None });
    copy()?;
    progress(Event::Finished { file: name });
    Ok(())
}

/// The names of the files that the network would send, if a local folder may have them in that form.
fn download_of(source: &Source) -> Option<String> {
    match source {
        Source::Archive { file, .. } | Source::Pth { file, .. } => Some(format!("`{}`", file.name)),
        Source::Parts(parts) => {
            let names: Vec<String> = parts.iter().filter_map(download_of).collect();
            Some(names.join(" and ")).filter(|names| !names.is_empty())
        }
        Source::Files { .. } | Source::Hub { .. } => None,
    }
}

fn wanted(item: &Item) -> Vec<String> {
    let layouts = item.layouts.iter().map(|layout| layout.content.wanted(&layout.folder));
    let downloads = item.sources.iter().filter_map(download_of);
    layouts.chain(downloads).collect()
}
