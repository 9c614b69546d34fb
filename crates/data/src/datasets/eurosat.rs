//! EuroSAT: satellite images of the land, one folder per class, without splits.

use std::path::Path;

use super::caltech101::not_found;
use super::{DataSetEntry, ImageFolder, OpenRequest, Opened, find_folder, folder};
use crate::error::Result;

const NAME: &str = "eurosat";
const FOLDERS: [&str; 2] = ["eurosat/2750", "eurosat/EuroSAT_RGB"];

pub(super) fn entry() -> DataSetEntry {
    let summary = "satellite images of 10 kinds of land, 64x64; a share of each is for validation";
    DataSetEntry::new(NAME, summary, open)
        .lies_in(FOLDERS)
        .fetched_as(NAME)
        .image_shape([3, 64, 64])
}

fn open(request: &OpenRequest) -> Result<Opened> {
    request.no_settings(NAME)?;
    let path = find_folder(&request.data_dir, &FOLDERS, Path::is_dir);
    let Some(path) = path else { return Err(not_found(request, FOLDERS[0])) };
    let images = ImageFolder::divided(&path, request.split, folder::shares(request), &[])?;
    Ok(Opened::folder(images.with_read_options(request.read)))
}
