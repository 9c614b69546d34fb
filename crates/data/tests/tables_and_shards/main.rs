//! Tables of images, Hugging Face's layouts, Parquet files and tar shards, whole and damaged.

#[cfg(feature = "parquet")]
mod parquet_files;
mod shards;
mod support;
mod tables;
