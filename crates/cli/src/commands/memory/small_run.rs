//! A small run, to measure what it takes.

use std::sync::Arc;

use anyhow::{Context, Result};
use candle_core::Device;
use candle_vision::data::transforms::{Compose, ToTensor};
use candle_vision::data::{DataLoader, Dataset, Image, LoaderConfig, Sample};
use candle_vision::models::Model;
use candle_vision::train::{Trainer, TrainerConfig};

use super::Measured;
use crate::args::MemoryArgs;
use crate::machine_memory;

/// Steps until nothing new is kept: the optimizer makes its state in the first.
const STEPS: usize = 2;
/// The steps of the second epoch follow a validation and checkpoints, as most steps of a run do.
const EPOCHS: usize = 2;

/// Trains on images that are drawn as they are needed. `program` is what the process took before there was a network.
pub(super) fn measure(model: &dyn Model, args: &MemoryArgs, program: usize) -> Result<Measured> {
    let [channels, height, width] = model.spec().input;
    let classes: Vec<String> =
        (0..model.spec().num_classes).map(|i| format!("class {i}")).collect();
    let loader = |len: usize| {
        let set = Noise { len, size: [height, width, channels], classes: classes.clone() };
        let config = LoaderConfig::new(args.batch.min(len)).workers(0);
        DataLoader::new(Arc::new(set), Compose::new().with(ToTensor), config, Device::Cpu)
    };
    let images = STEPS * args.accumulate * args.batch;
    let (train, val) = (loader(images)?, loader(args.batch)?);
    let config = TrainerConfig::new(EPOCHS, args.optimizer.clone());
    let mut config = config.accumulate(args.accumulate);
    // A few steps on noise say nothing about gradients.
    config.check_gradients = false;
    let folder = tempfile::tempdir().context("there is no place for checkpoints")?;
    Trainer::builder(model)
        .data(&train, &val)
        .config(config)
        .save_to(folder.path().join("run"))
        .run()?;
    Ok(Measured { program, peak: machine_memory::peak() })
}

/// Images without a subject.
struct Noise {
    len: usize,
    /// `[height, width, channels]`
    size: [usize; 3],
    classes: Vec<String>,
}

impl Dataset for Noise {
    fn len(&self) -> usize {
        self.len
    }

    fn sample(&self, index: usize) -> candle_vision::data::Result<Sample> {
        let [height, width, channels] = self.size;
        // Fractional parts of multiples of the golden ratio, in 8 bits.
        let pixel = |i: usize| ((i + 977 * index).wrapping_mul(0x9E37_79B9) >> 13) as u8;
        let pixels = (0..height * width * channels).map(pixel).collect();
        Ok(Sample::new(Image::new(width, height, channels, pixels)?, self.label(index)))
    }

    fn label(&self, index: usize) -> u32 {
        (index % self.classes.len()) as u32
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }
}
