//! STL-10 in its binary format: files of 96x96 images and files of labels.

use std::path::Path;

use super::planes::Planes;
use super::{DataSetEntry, OpenRequest, Opened, find_folder, names_in, remedy};
use crate::dataset::Split;
use crate::error::{Error, Result};

const SIDE: usize = 96;
const NAME: &str = "stl10";
const FOLDERS: [&str; 2] = ["stl10_binary", NAME];
const CLASSES: [&str; 10] =
    ["airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck"];

pub(super) fn entry() -> DataSetEntry {
    DataSetEntry::new(
        NAME,
        "photos of ten classes, 96x96; 5,000 to train on, 8,000 for tests",
        open,
    )
    .lies_in(FOLDERS)
    .fetched_as(NAME)
    .image_shape([3, SIDE, SIDE])
}

fn open(request: &OpenRequest) -> Result<Opened> {
    request.no_settings(NAME)?;
    let folder = find_folder(&request.data_dir, &FOLDERS, Path::is_dir);
    let folder = folder.unwrap_or_else(|| request.data_dir.join(FOLDERS[0]));
    let part = if request.split == Split::Train { "train" } else { "test" };
    let classes = CLASSES.map(str::to_owned).to_vec();
    let classes = names_in(&folder.join("class_names.txt"), classes)?;
    let (images, of_labels) =
        (folder.join(format!("{part}_X.bin")), folder.join(format!("{part}_y.bin")));
    let pixels = read(&images)?;
    let mut labels = read(&of_labels)?;
    let bytes = Planes::bytes(SIDE);
    if pixels.is_empty() || pixels.len() != labels.len() * bytes {
        let expected = format!(
            "{} for the {} labels of `{}`",
            labels.len() * bytes,
            labels.len(),
            of_labels.display()
        );
        let (found, remedy) = (pixels.len() as u64, remedy::AGAIN.to_owned());
        return Err(Error::FileSize { path: images, found, expected, remedy });
    }
    let is_class = |label: u8| (1..=classes.len()).contains(&usize::from(label));
    if let Some(index) = labels.iter().position(|&label| !is_class(label)) {
        let problem =
            format!("has label {} at {index}, which is not 1 to {}", labels[index], classes.len());
        return Err(Error::Invalid { path: of_labels, problem, remedy: remedy::AGAIN.to_owned() });
    }
    // The file counts classes from 1.
    labels.iter_mut().for_each(|label| *label -= 1);
    let split = request.split;
    // The authors wrote the file with MATLAB, so an image lies in memory column by column.
    Ok(Planes { kind: NAME, split, side: SIDE, by_column: true, pixels, labels, classes }.into())
}

fn read(path: &Path) -> Result<Vec<u8>> {
    if !path.is_file() {
        let expected = "a file of STL-10's binary version".to_owned();
        let (path, remedy) = (path.to_path_buf(), remedy::FETCH.to_owned());
        return Err(Error::NotFound { path, expected, remedy });
    }
    std::fs::read(path).map_err(Error::io(path))
}
