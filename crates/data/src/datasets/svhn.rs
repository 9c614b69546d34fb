//! SVHN (street-view house numbers), cropped digits: MATLAB files of 32x32 images.

use std::path::Path;

use serde::Deserialize;

use super::planes::Planes;
use super::{DataSetEntry, OpenRequest, Opened, mat5, remedy};
use crate::dataset::Split;
use crate::error::{Error, Result};

const SIDE: usize = 32;
const NAME: &str = "svhn";

pub(super) fn entry() -> DataSetEntry {
    let summary =
        "digits of house numbers, 32x32; `extra = true` adds 531,131 easier ones to train on";
    DataSetEntry::new(NAME, summary, open)
        .lies_in([NAME])
        .fetched_as(NAME)
        .image_shape([3, SIDE, SIDE])
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Options {
    /// Whether the extra images are training images too. They take 1.6 GB of memory.
    extra: bool,
}

fn open(request: &OpenRequest) -> Result<Opened> {
    let Options { extra } = request.settings(NAME)?;
    let folder = request.data_dir.join(NAME);
    let parts: &[&str] = match request.split {
        Split::Train if extra => &["train", "extra"],
        Split::Train => &["train"],
        Split::Val | Split::Test => &["test"],
    };
    let (mut pixels, mut labels) = (Vec::new(), Vec::new());
    for part in parts {
        read(&folder.join(format!("{part}_32x32.mat")), &mut pixels, &mut labels)?;
    }
    let (split, classes) = (request.split, (0..10).map(|digit| digit.to_string()).collect());
    // MATLAB stores arrays column by column.
    Ok(Planes { kind: NAME, split, side: SIDE, by_column: true, pixels, labels, classes }.into())
}

/// Appends the images and labels of one file.
fn read(path: &Path, pixels: &mut Vec<u8>, labels: &mut Vec<u8>) -> Result<()> {
    if !path.is_file() {
        return Err(Error::NotFound {
            path: path.to_path_buf(),
            expected: "a file of SVHN's format 2 (cropped digits)".to_owned(),
            remedy: remedy::FETCH.to_owned(),
        });
    }
    let invalid = |problem: String| Error::Invalid {
        path: path.to_path_buf(),
        problem,
        remedy: remedy::AGAIN.to_owned(),
    };
    let file = mat5::read(path)?;
    let images = file.get("X").and_then(mat5::Array::bytes);
    let images = images.ok_or_else(|| invalid("has no array `X` of bytes".to_owned()))?;
    let of_labels = file.get("y").and_then(mat5::Array::integers);
    let of_labels = of_labels.ok_or_else(|| invalid("has no array `y` of numbers".to_owned()))?;
    let expected = [SIDE, SIDE, 3, of_labels.len()];
    // MATLAB drops a last dimension of 1.
    let dims = file.get("X").map(|array| array.dims()).unwrap_or_default();
    let is_single = of_labels.len() == 1 && *dims == expected[..3];
    if *dims != expected && !is_single {
        return Err(invalid(format!(
            "has images of {dims:?}, expected {expected:?} by its labels"
        )));
    }
    for (index, &label) in of_labels.iter().enumerate() {
        // The file calls the digit 0 class 10. torchvision makes it 0 as well.
        labels.push(match label {
            1..=9 => label as u8,
            0 | 10 => 0,
            _ => {
                return Err(invalid(format!("has label {label} at {index}, which is not 1 to 10")));
            }
        });
    }
    pixels.extend_from_slice(images);
    Ok(())
}
