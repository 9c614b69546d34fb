//! What takes the place of the Parquet reader in a build without the feature `parquet`.

use std::path::Path;

use super::{DataSetEntry, OpenRequest, Opened};
use crate::error::{Error, Result};

const NAME: &str = "parquet";

pub(super) fn entry() -> DataSetEntry {
    DataSetEntry::new(NAME, "Parquet files (this build lacks the feature `parquet`)", open)
        .lies_at_path()
}

/// Whether this is a Parquet file or a folder with one in it or in its folder `data`.
pub(super) fn holds_parquet(path: &Path) -> bool {
    let is_parquet = |path: &Path| path.extension().is_some_and(|ending| ending == "parquet");
    let folders = [path.to_path_buf(), path.join("data")];
    let files = folders.iter().filter_map(|folder| std::fs::read_dir(folder).ok()).flatten();
    is_parquet(path) || files.flatten().any(|file| is_parquet(&file.path()))
}

pub(super) fn has_test(_: &OpenRequest) -> Result<bool> {
    Ok(false)
}

pub(super) fn open(request: &OpenRequest) -> Result<Opened> {
    Err(Error::NotFound {
        path: request.path.clone().unwrap_or_default(),
        expected: "a build that reads Parquet".to_owned(),
        remedy: "build with the feature `parquet` of candle-vision-data".to_owned(),
    })
}
