//! Image data sets, transforms with torchvision's results, and a deterministic parallel loader for candle.
//!
//! - A [`Dataset`] gives labelled [`Image`]s by index: [`Mnist`], [`Cifar10`], [`ImageFolder`], and
//!   [`Insects`], which draws its own. [`Subset`], [`stratified_split`] and [`stratified_split_of_sets`] take
//!   parts of one.
//! - [`transforms`] have torchvision's arguments, random parameters and results. Recipes and checkpoints store
//!   a [`transforms::Compose`], a list of transforms.
//! - [`batch_transforms`] mix the images and labels of a batch: MixUp, CutMix.
//! - A [`DataLoader`] makes batches with worker threads. Their contents depend only on the seed. [`samplers`] say which
//!   samples an epoch shows.
//! - [`check`] finds what is wrong with an image folder before it is trained on.
//! - [`Image::open`] reads JPEG, PNG, WebP, GIF, BMP, TIFF, PNM and ICO files by their content. [`Format`] says
//!   what a file holds. [`ReadOptions`] limits sizes and turns photos upright.
//!
//! The crate knows no network and no model, and uses only the local disk. An image is decoded completely or not
//! at all: a file that was cut off is an error, never an image with a grey part.
//!
//! ```
//! use std::sync::Arc;
//!
//! use candle_core::Device;
//! use candle_vision_data::transforms::Compose;
//! use candle_vision_data::{DataLoader, Insects, InsectsConfig, LoaderConfig, Split};
//!
//! // For real photos: ImageFolder::open("hymenoptera_data", Split::Train, Default::default())?
//! let insects = Insects::new(Split::Train, InsectsConfig::new(8))?;
//! let config = LoaderConfig::new(4).shuffle(true);
//! let loader = DataLoader::new(Arc::new(insects), Compose::imagenet_train(), config, Device::Cpu)?;
//! for batch in loader.epoch(0) {
//!     let batch = batch?;
//!     assert_eq!(batch.images.dims(), [4, 3, 224, 224]);
//!     assert_eq!(batch.labels.dims(), [4]);
//! }
//! # Ok::<(), candle_vision_data::Error>(())
//! ```

pub mod batch_transforms;
pub mod check;
mod dataset;
mod datasets;
mod error;
mod foreign;
mod image;
mod label_sets;
mod loader;
pub mod random;
pub mod samplers;
mod statistics;
mod stratified_sets;
mod subset;
mod temporary;
pub mod transforms;

pub use candle_core;
pub use dataset::{
    Dataset, Fingerprint, Sample, Split, UNRECOGNISED, check_label, check_labels, class_counts,
    labels, multi_hot,
};
pub use datasets::{
    Cifar10, ClassList, DataSetEntry, DataSets, DecodedImages, FolderLayout, FolderSplit,
    ImageFolder, ImageTable, Insects, InsectsConfig, LeftOut, Loaders, Mnist, OpenRequest, Opened,
    Place, ReadAt, Remote, Samples, ShardOptions, ShardWriter, ShardWriterConfig, Shards, Splits,
    TableOptions, cifar10, find_images, folder, has_glob, hymenoptera, is_image, is_same_class,
    mnist, paths_matching, write_classes,
};
pub use error::{Error, Result};
pub use foreign::is_in_foreign_reader;
pub use image::{
    ChoosePart, ColorMode, DEFAULT_MAX_PIXELS, Format, Image, ImageDetails, MAX_BYTES, MAX_SIDE,
    ReadOptions,
};
pub use loader::{
    Batch, DataLoader, DeviceImages, DrawnBatch, EpochIter, HostImages, HostValues, Kept,
    LoaderConfig, Share, Skipped, Upload,
};
pub use random::Generator;
pub use statistics::{Statistics, statistics};
pub use stratified_sets::stratified_split_of_sets;
pub use subset::{Subset, stratified_split};

/// Compiles the program in the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
