//! Why a trained network decides as it does, as a PNG: `cargo run --example grad_cam -- CHECKPOINT PHOTO OUT.png`.

#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;
use std::path::Path;

use candle_vision::Classifier;
use candle_vision::explain::Method;

/// Writes the photo with its class activation map to `out`.
pub fn run(checkpoint: &Path, photo: &Path, out: &Path) -> Result<(), Box<dyn Error>> {
    let classifier = Classifier::load(checkpoint)?;
    let explained = classifier.explain(photo, Method::GRAD_CAM)?;
    println!("{} ({:.3})", explained.class, explained.map.probability);
    explained.save(out)?;
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let [checkpoint, photo, out] = &arguments[..] else {
        return Err("give CHECKPOINT PHOTO OUT.png".into());
    };
    run(checkpoint.as_ref(), photo.as_ref(), out.as_ref())
}
