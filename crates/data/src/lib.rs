//! Image data sets, transforms with torchvision's results, and a deterministic parallel loader for candle.

mod dataset;
mod datasets;
mod error;
mod loader;
mod picture;
mod random;
mod statistics;
mod subset;
pub mod transforms;

pub use dataset::{Dataset, Sample, Split, class_counts, labels};
pub use datasets::{Cifar10, FolderSplit, ImageFolder, Insects, InsectsConfig, Mnist};
pub use error::{Error, Result};
pub use loader::{Batch, DataLoader, EpochIter, LoaderConfig, Skipped};
pub use picture::{MAX_BYTES, MAX_SIDE, Picture};
pub use statistics::{Statistics, statistics};
pub use subset::{Subset, stratified_split};
