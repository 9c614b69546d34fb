//! Food-101: photos of dishes.

use std::collections::BTreeMap;

use super::labelled_files::{LabelledFiles, text_of};
use super::{DataSetEntry, OpenRequest, Opened, remedy};
use crate::dataset::Split;
use crate::error::{Error, Result};

const NAME: &str = "food101";
const FOLDER: &str = "food-101";

pub(super) fn entry() -> DataSetEntry {
    DataSetEntry::new(NAME, "photos of 101 dishes; 75,750 to train on, 25,250 for tests", open)
        .lies_in([FOLDER])
        .fetched_as(NAME)
}

fn open(request: &OpenRequest) -> Result<Opened> {
    request.no_settings(NAME)?;
    let folder = request.data_dir.join(FOLDER);
    let list = if request.split == Split::Train { "train.json" } else { "test.json" };
    let path = folder.join("meta").join(list);
    let lists: BTreeMap<String, Vec<String>> =
        serde_json::from_str(&text_of(&path)?).map_err(|error| Error::Invalid {
            path: path.clone(),
            problem: format!("is not a list of images by class ({error})"),
            remedy: remedy::AGAIN.to_owned(),
        })?;
    let mut rows = Vec::new();
    for (label, images) in lists.values().enumerate() {
        let file = |image: &String| folder.join("images").join(format!("{image}.jpg"));
        rows.extend(images.iter().map(|image| (file(image), label as u32)));
    }
    let classes = lists.into_keys().collect();
    let files = LabelledFiles { kind: NAME, folder: &folder, classes, rows, list: &path };
    Ok(files.open(request.read)?.into())
}
