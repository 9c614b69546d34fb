//! Fashion-MNIST: images of clothes in the file format of MNIST.

use std::path::Path;

use super::mnist::Kind;
use super::{DataSetEntry, Mnist, OpenRequest, Opened};
use crate::dataset::Split;
use crate::error::Result;

const FOLDER: &str = "fashion_mnist";

const CLASSES: [&str; 10] = [
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
];

pub(super) fn entry() -> DataSetEntry {
    DataSetEntry::new("fashion_mnist", "articles of clothing, 28x28 grey, 10 classes", open)
        .lies_in([FOLDER])
        .fetched_as("fashion_mnist")
        .image_shape([1, 28, 28])
}

fn open(request: &OpenRequest) -> Result<Opened> {
    Ok(Mnist::open_fashion(request.data_dir.join(FOLDER), request.split)?.into())
}

impl Mnist {
    /// Reads a split of Fashion-MNIST (Xiao, Rasul and Vollgraf 2017) from `folder`, or from
    /// `fashion_mnist/` or `FashionMNIST/raw/` in it.
    ///
    /// # Errors
    /// Those of [`Mnist::open`].
    pub fn open_fashion(folder: impl AsRef<Path>, split: Split) -> Result<Self> {
        let kind = Kind::new("Fashion-MNIST", &["", FOLDER, "FashionMNIST/raw"], &CLASSES);
        Self::open_kind(folder.as_ref(), split, kind)
    }
}
