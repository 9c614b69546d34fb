//! Imagenette: ten easy classes of ImageNet.

use std::path::Path;

use super::caltech101::not_found;
use super::{DataSetEntry, ImageFolder, OpenRequest, Opened, find_folder};
use crate::dataset::{Dataset, Split};
use crate::error::Result;

const NAME: &str = "imagenette";
/// The whole images, and those with a shorter side of 320 or 160 pixels.
const FOLDERS: [&str; 3] = ["imagenette2", "imagenette2-320", "imagenette2-160"];

/// Names of the class folders, which are identifiers of WordNet, and their first words.
const CLASSES: [(&str, &str); 10] = [
    ("n01440764", "tench"),
    ("n02102040", "English springer"),
    ("n02979186", "cassette player"),
    ("n03000684", "chain saw"),
    ("n03028079", "church"),
    ("n03394916", "French horn"),
    ("n03417042", "garbage truck"),
    ("n03425413", "gas pump"),
    ("n03445777", "golf ball"),
    ("n03888257", "parachute"),
];

pub(super) fn entry() -> DataSetEntry {
    let summary = "photos of ten classes of ImageNet, whole or with a shorter side of 320 or 160";
    DataSetEntry::new(NAME, summary, open).lies_in(FOLDERS).fetched_as(NAME)
}

fn open(request: &OpenRequest) -> Result<Opened> {
    request.no_settings(NAME)?;
    let root = find_folder(&request.data_dir, &FOLDERS, Path::is_dir);
    let Some(root) = root else { return Err(not_found(request, FOLDERS[0])) };
    let part = if request.split == Split::Train { "train" } else { "val" };
    let ids = CLASSES.map(|(id, _)| id.to_owned());
    let images = ImageFolder::with_classes(root.join(part), &ids)?;
    let names = CLASSES.map(|(_, name)| name.to_owned());
    debug_assert_eq!(images.classes().len(), names.len());
    Ok(Opened::folder(images.with_class_names(&names)?.with_read_options(request.read)))
}
