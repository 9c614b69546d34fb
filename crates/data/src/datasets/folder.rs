//! A folder of the user's own images.

use super::table::own_path;
use super::{DataSetEntry, FolderLayout, FolderSplit, ImageFolder, OpenRequest, Opened};
use crate::error::Result;

const NAME: &str = "folder";

pub(super) fn entry() -> DataSetEntry {
    DataSetEntry::new(NAME, "your own images, one subfolder per class", open)
        .lies_at_path()
        .as_image_folder()
}

fn open(request: &OpenRequest) -> Result<Opened> {
    split_of(own_path(request, NAME)?, request)
}

/// A split of an image folder.
pub(super) fn split_of(path: &std::path::Path, request: &OpenRequest) -> Result<Opened> {
    let shares = shares(request);
    let layout = FolderLayout::find_with_list(path, request.val_list.as_deref())?;
    let folder = ImageFolder::open_layout(&layout, request.split, shares)?;
    Ok(Opened::folder(folder.with_read_options(request.read)))
}

/// How a folder without splits is divided.
pub(super) fn shares(request: &OpenRequest) -> FolderSplit {
    // The split of a single folder is part of the data, not of the run. Another seed of the run must not move
    // images between training and validation.
    FolderSplit { val: request.val_fraction, test: 0.0, seed: 0 }
}
