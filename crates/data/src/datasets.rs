//! The data sets: public ones in their official formats, folders, lists and shards of images, generated drawings, and
//! a table of all of them.

mod caltech101;
mod cifar;
mod cifar100;
mod csv;
mod decoded;
mod dtd;
mod emnist;
mod eurosat;
mod fashion_mnist;
mod flowers102;
mod folder;
mod food101;
mod hymenoptera;
mod idx;
pub(crate) mod image_folder;
mod image_table;
mod imagenet;
mod imagenette;
pub(crate) mod insects;
mod kmnist;
mod labelled_files;
mod mat5;
mod matching;
mod mnist;
mod oxford_iiit_pet;
#[cfg(feature = "parquet")]
mod parquet_images;
#[cfg(not(feature = "parquet"))]
#[path = "datasets/parquet_left_out.rs"]
mod parquet_images;
mod planes;
mod remedy;
mod samples;
mod shards;
mod splits;
mod stl10;
mod svhn;
mod table;

use std::path::{Path, PathBuf};

pub use cifar::Cifar10;
pub use decoded::DecodedImages;
pub use image_folder::{
    FolderLayout, FolderSplit, ImageFolder, LeftOut, find_images, is_image, is_same_class,
};
pub use image_table::{ClassList, ImageTable, TableOptions};
pub use insects::{Insects, InsectsConfig};
use labelled_files::names_in;
pub use matching::{has_glob, paths_matching};
pub use mnist::Mnist;
pub use samples::Samples;
pub use shards::{
    ReadAt, Remote, ShardOptions, ShardWriter, ShardWriterConfig, Shards, write_classes,
};
pub use splits::{Loaders, Splits, cifar10, folder, hymenoptera, mnist};
pub use table::{DataSetEntry, DataSets, OpenRequest, Opened, Place};

/// The first of `folders` below `root` for which `holds` is true.
fn find_folder(root: &Path, folders: &[&str], holds: impl Fn(&Path) -> bool) -> Option<PathBuf> {
    folders.iter().map(|folder| root.join(folder)).find(|folder| holds(folder))
}
