//! The row `shards` of the table of data sets.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::opened::OpenShards;
use super::{CLASSES, ShardOptions, Shards, is_shard, pattern};
use crate::dataset::Split;
use crate::datasets::table::own_path;
use crate::datasets::{DataSetEntry, OpenRequest, Opened};
use crate::error::{Error, Result};

const NAME: &str = "shards";

pub(in crate::datasets) fn entry() -> DataSetEntry {
    let summary = "tar shards (WebDataset): a folder that `data pack` wrote, a pattern of paths, or addresses";
    DataSetEntry::new(NAME, summary, open).lies_at_pattern().has_test_images_if(|request| {
        let settings = settings(request)?;
        Ok(pattern_of(request, &settings, Split::Test)?.is_some())
    })
}

/// The settings of a recipe: those of [`ShardOptions`], and the shards of the other splits.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Settings {
    /// The shards of the validation images.
    val: Option<String>,
    /// The shards of the test images.
    test: Option<String>,
    /// A file with the names of the classes.
    classes_file: Option<PathBuf>,
    #[serde(flatten)]
    rest: serde_json::Map<String, serde_json::Value>,
}

fn settings(request: &OpenRequest) -> Result<Settings> {
    request.settings(NAME)
}

fn open(request: &OpenRequest) -> Result<Opened> {
    let settings = settings(request)?;
    // Unknown settings are refused with near names.
    let own = OpenRequest { options: settings.rest.clone(), ..request.clone() };
    let mut options: ShardOptions = own.settings(NAME)?;
    if let Some(file) = &settings.classes_file {
        options.classes = Some(super::names_of(&beside(request, file)?)?);
    }
    let pattern = pattern_of(request, &settings, request.split)?;
    let pattern = pattern.ok_or_else(|| Error::NotFound {
        path: request.path.clone().unwrap_or_default(),
        expected: format!("shards of the split `{}`", request.split),
        remedy: match request.split {
            Split::Train => {
                "call them `train-000000.tar` and so on, or give a pattern as `path`".to_owned()
            }
            split => format!("name them with `options.{split}`"),
        },
    })?;
    if request.split != Split::Train {
        // Every rank measures all of the images.
        (options.rank, options.world_size) = (0, 1);
        if options.classes.is_none() {
            options.classes = classes_of_training(request, &settings, &options)?;
        }
    }
    let shards = Shards::open_with(&pattern, &options, request.remote.clone())?;
    let shards = shards.with_read_options(request.read);
    let remarks = shards.remarks().to_vec();
    Ok(Opened { remarks, ..Opened::from(shards) })
}

/// The classes of the training shards, if no file beside the shards names them.
fn classes_of_training(
    request: &OpenRequest,
    settings: &Settings,
    options: &ShardOptions,
) -> Result<Option<Vec<String>>> {
    let Some(train) = pattern_of(request, settings, Split::Train)? else { return Ok(None) };
    use crate::dataset::Dataset;
    let files = OpenShards::new(request.remote.clone());
    if let Some(named) = super::classes_beside(&named(&train)?, options, &files)? {
        return Ok(Some(named.classes().to_vec()));
    }
    let train = Shards::open_with(&train, options, request.remote.clone())?;
    Ok(Some(train.classes().to_vec()))
}

/// The pattern of the shards of a split.
fn pattern_of(request: &OpenRequest, settings: &Settings, split: Split) -> Result<Option<String>> {
    let path = own_path(request, NAME)?;
    let named = match split {
        Split::Train => None,
        Split::Val => settings.val.as_ref(),
        Split::Test => settings.test.as_ref(),
    };
    if let Some(named) = named {
        if pattern::is_url(named) {
            return Ok(Some(named.clone()));
        }
        return Ok(Some(utf8(&beside(request, Path::new(named))?)?));
    }
    if !path.is_dir() {
        return (split == Split::Train).then(|| utf8(path)).transpose();
    }
    let mut shards = Vec::new();
    for entry in std::fs::read_dir(path).map_err(Error::io(path))? {
        let shard = entry.map_err(Error::io(path))?.path();
        let stem = shard.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let prefix =
            stem.trim_end_matches(|c: char| c.is_ascii_digit()).trim_end_matches(['-', '_']);
        if is_shard(&shard) && super::super::image_folder::split_called(prefix) == Some(split) {
            shards.push(utf8(&shard)?);
        }
    }
    shards.sort();
    // A name with a comma or a brace would be read as a pattern.
    if shards.iter().any(|shard| shard.contains(['{', '}', ','])) {
        return Err(Error::Invalid {
            path: path.to_path_buf(),
            problem: "has a brace or a comma in its path".to_owned(),
            remedy: "rename it".to_owned(),
        });
    }
    Ok((!shards.is_empty()).then(|| format!("{{{}}}", shards.join(","))))
}

/// A path that is relative to the folder of the training shards.
fn beside(request: &OpenRequest, path: &Path) -> Result<PathBuf> {
    let own = own_path(request, NAME)?;
    let folder = if own.is_dir() { Some(own) } else { own.parent() };
    Ok(folder.unwrap_or(Path::new("")).join(path))
}

fn utf8(path: &Path) -> Result<String> {
    path.to_str().map(str::to_owned).ok_or_else(|| Error::Invalid {
        path: path.to_path_buf(),
        problem: "has a name that is not UTF-8".to_owned(),
        remedy: "rename it".to_owned(),
    })
}

/// The shards that a pattern names. A folder stands for all shards in it.
pub(super) fn named(pattern: &str) -> Result<Vec<String>> {
    let folder = Path::new(pattern);
    if pattern::is_url(pattern) || !folder.is_dir() {
        return pattern::shards(pattern);
    }
    let mut shards = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(Error::io(folder))? {
        let shard = entry.map_err(Error::io(folder))?.path();
        if is_shard(&shard) {
            shards.push(utf8(&shard)?);
        }
    }
    shards.sort();
    if shards.is_empty() {
        return Err(Error::NotFound {
            path: folder.to_path_buf(),
            expected: format!("tar shards, with {CLASSES} beside them if their classes have names"),
            remedy: "check the folder".to_owned(),
        });
    }
    Ok(shards)
}
