//! Caltech 101: photos of objects, one folder per class, without splits.

use std::path::Path;

use super::{DataSetEntry, ImageFolder, OpenRequest, Opened, find_folder, folder, remedy};
use crate::error::{Error, Result};

const NAME: &str = "caltech101";
/// The folders in which torchvision and the archive have the classes.
const FOLDERS: [&str; 3] =
    ["caltech101/101_ObjectCategories", "caltech-101/101_ObjectCategories", "101_ObjectCategories"];
/// Images of nothing in particular, which torchvision leaves out as well.
const NO_CLASS: &str = "BACKGROUND_Google";

pub(super) fn entry() -> DataSetEntry {
    let summary = "photos of 101 kinds of objects; a share of each class is for validation";
    DataSetEntry::new(NAME, summary, open).lies_in(FOLDERS).fetched_as(NAME)
}

fn open(request: &OpenRequest) -> Result<Opened> {
    request.no_settings(NAME)?;
    let path = find_folder(&request.data_dir, &FOLDERS, Path::is_dir);
    let Some(path) = path else { return Err(not_found(request, FOLDERS[0])) };
    let shares = folder::shares(request);
    let images = ImageFolder::divided(&path, request.split, shares, &[NO_CLASS])?;
    Ok(Opened::folder(images.with_read_options(request.read)))
}

/// The error for a known image folder that is not there.
pub(super) fn not_found(request: &OpenRequest, folder: &str) -> Error {
    Error::NotFound {
        path: request.data_dir.join(folder),
        expected: "a folder with one folder of images for each class".to_owned(),
        remedy: remedy::FETCH.to_owned(),
    }
}
