//! Fine-tunes a ResNet18 on ants and bees, saves it, and says what is on a photo.
//!
//! `cargo run --release --example fine_tune -- DATA_DIR WEIGHTS PHOTO OUT`, for instance
//! `data data/weights/resnet18.safetensors photo.jpg runs/fine-tune`.

#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;
use std::path::Path;

use candle_vision::Classifier;
use candle_vision::data::hymenoptera;
use candle_vision::data::transforms::Compose;
use candle_vision::models::fine_tuned;
use candle_vision::train::optim::Sgd;
use candle_vision::train::schedule::OneCycleLr;
use candle_vision::train::{Trainer, TrainerConfig};

/// Trains two epochs on the photos in `data` and writes the run to `out`.
pub fn run(data: &Path, weights: &Path, photo: &Path, out: &Path) -> Result<(), Box<dyn Error>> {
    let data = hymenoptera(data)?;
    let loaders = data.loaders(Compose::imagenet_train(), Compose::imagenet_eval(), 32)?;
    // The weights tell other classes apart: the head is new.
    let model = fine_tuned("resnet18", data.classes().len(), weights)?;
    let config = TrainerConfig::new(2, Sgd::new(1e-3).momentum(0.9)).schedule(OneCycleLr::new());
    let done = Trainer::new(&model, &loaders.train, &loaders.val, config)?
        .on_batch(|batch| println!("{} {}", batch.step, batch.lr))
        .save_to(out)
        .run()?;
    let best = done.best_path().ok_or("no epoch was finished")?;
    for (class, probability) in Classifier::load(best)?.predict(photo)?.top(2) {
        println!("{class} {probability:.3}");
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let [data, weights, photo, out] = &arguments[..] else {
        return Err("give DATA_DIR WEIGHTS PHOTO OUT".into());
    };
    run(data.as_ref(), weights.as_ref(), photo.as_ref(), out.as_ref())
}
