//! A data set of one's own from a CSV file, or from rows and a function, under the loader.
//!
//! `cargo run --example own_data_set -- train.csv`, whose lines are `path,label`.

#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;
use std::path::Path;
use std::sync::Arc;

use candle_core::Device;
use candle_vision::data::transforms::{CenterCrop, Compose, Resize, ToTensor};
use candle_vision::data::{DataLoader, Dataset, Image, LoaderConfig, Samples};

/// Loads the images that `csv` lists, and images that a function draws.
pub fn run(csv: &Path) -> Result<(), Box<dyn Error>> {
    let photos = Samples::from_csv(csv)?;
    // Grey levels: the rows could as well come from a data base.
    let levels = (0u8..20).map(|level| (10 * level, u32::from(level >= 10)));
    let squares =
        Samples::new(["dark", "bright"], levels, |l| Image::new(48, 48, 3, vec![*l; 6912]));
    for set in [Arc::new(photos) as Arc<dyn Dataset>, Arc::new(squares)] {
        let transform =
            Compose::new().with(Resize::new(32)).with(CenterCrop::new(32)).with(ToTensor);
        let loader = DataLoader::new(set, transform, LoaderConfig::new(4), Device::Cpu)?;
        for batch in loader.epoch(0) {
            let batch = batch?;
            println!("{:?} {:?}", batch.images.dims(), batch.labels.to_vec1::<u32>()?);
        }
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    run(std::env::args_os().nth(1).ok_or("give a CSV file")?.as_ref())
}
