//! What layers give for photos, as NumPy files: `cargo run --example features -- CHECKPOINT OUT.npy PHOTO...`.

#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;
use std::path::{Path, PathBuf};

use candle_vision::Classifier;

/// Writes the output of the average pooling for every photo to `out`, one row for each.
pub fn run(checkpoint: &Path, out: &Path, photos: &[PathBuf]) -> Result<(), Box<dyn Error>> {
    let features = Classifier::load(checkpoint)?.features(photos, ["avgpool"])?;
    for (layer, features) in features.iter() {
        println!("{layer}: {:?}", features.dims());
    }
    features.write_npy(out)?;
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let (Some(checkpoint), Some(out)) = (arguments.next(), arguments.next()) else {
        return Err("give CHECKPOINT OUT.npy PHOTO...".into());
    };
    run(&checkpoint, &out, &arguments.collect::<Vec<_>>())
}
