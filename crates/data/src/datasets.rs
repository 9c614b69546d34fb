//! The data sets: two public binary formats, folders of images, generated drawings, and a table of all of them.

mod cifar;
mod csv;
mod fashion_mnist;
mod folder;
mod hymenoptera;
mod idx;
pub(crate) mod image_folder;
pub(crate) mod insects;
mod mnist;
mod samples;
mod splits;
mod table;

use std::path::{Path, PathBuf};

pub use cifar::Cifar10;
pub use image_folder::{
    FolderLayout, FolderSplit, ImageFolder, LeftOut, find_images, is_image, is_same_class,
};
pub use insects::{Insects, InsectsConfig};
pub use mnist::Mnist;
pub use samples::Samples;
pub use splits::{Loaders, Splits, cifar10, folder, hymenoptera, mnist};
pub use table::{DataSetEntry, DataSets, OpenRequest, Opened, Place};

/// The first of `folders` below `root` for which `holds` is true.
fn find_folder(root: &Path, folders: &[&str], holds: impl Fn(&Path) -> bool) -> Option<PathBuf> {
    folders.iter().map(|folder| root.join(folder)).find(|folder| holds(folder))
}
