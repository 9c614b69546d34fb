//! The ants and bees of PyTorch's transfer-learning tutorial: an image folder at a known place.

use std::path::Path;

use super::{DataSetEntry, OpenRequest, Opened, folder};
use crate::dataset::Split;
use crate::error::{Error, Result};

const FOLDER: &str = "hymenoptera_data";

pub(super) fn entry() -> DataSetEntry {
    let summary = "photos of ants and bees, of PyTorch's transfer-learning tutorial";
    DataSetEntry::new("hymenoptera", summary, open)
        .lies_in([FOLDER])
        .as_image_folder()
        .fetched_as("hymenoptera")
}

fn open(request: &OpenRequest) -> Result<Opened> {
    let path = request.data_dir.join(FOLDER);
    check_splits(&path)?;
    folder::split_of(&path, request)
}

/// Fails if a split is missing. A user's own folder may lack validation images. If a known data set lacks them,
/// it was not unpacked completely.
fn check_splits(folder: &Path) -> Result<()> {
    let mut splits = [Split::Train, Split::Val].into_iter().map(|split| folder.join(split.name()));
    match splits.find(|path| !path.is_dir()) {
        None => Ok(()),
        Some(path) => Err(Error::NotFound {
            path,
            expected: "a part of the photographs".to_owned(),
            remedy: "fetch the data set anew".to_owned(),
        }),
    }
}
