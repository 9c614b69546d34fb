//! Kuzushiji-MNIST: handwritten Japanese characters in the file format of MNIST.

use super::mnist::Kind;
use super::{DataSetEntry, Mnist, OpenRequest, Opened};
use crate::error::Result;

const NAME: &str = "kmnist";
const CLASSES: [&str; 10] = ["o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"];

pub(super) fn entry() -> DataSetEntry {
    DataSetEntry::new(NAME, "handwritten Japanese characters, 28x28 grey, 10 classes", open)
        .lies_in([NAME, "KMNIST/raw"])
        .fetched_as(NAME)
        .image_shape([1, 28, 28])
}

fn open(request: &OpenRequest) -> Result<Opened> {
    request.no_settings(NAME)?;
    let kind = Kind::new("KMNIST", &[NAME, "KMNIST/raw"], &CLASSES);
    Ok(Mnist::open_kind(&request.data_dir, request.split, kind)?.into())
}
