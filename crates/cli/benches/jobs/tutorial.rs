//! The training run of the tutorial on CIFAR-10, from its first batch to its last validation.

use std::env;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;
use candle_vision::data::transforms::{
    ColorJitter, Compose, Normalize, RandomCrop, RandomHorizontalFlip, RandomRotation, ToTensor,
};
use candle_vision::models::{ModelSpec, build};
use candle_vision::ops::set_cuda_graphs;
use candle_vision::prelude::{Cifar10, Dataset, LoaderConfig, Split};
use candle_vision::train::optim::Adam;
use candle_vision::train::schedule::ReduceLrOnPlateau;
use candle_vision::train::{FreezeConfig, Trainer, TrainerConfig};

use crate::measure::{Clock, Measured};
use crate::noise::loader_of;
use crate::work::Outcome;

const EPOCHS: usize = 40;
/// Epochs in which only the head learns.
const FROZEN_EPOCHS: usize = 5;

/// `xtask/experiments/cifar10-resnet18.toml` without the weights of ImageNet, which change no time: 40 epochs on 50,000
/// images, each with a validation on 10,000. It is one step. With `--tiny` there are two epochs of two batches.
pub(crate) fn train(clock: &Clock) -> Result<Outcome> {
    let Some(data) = env::var_os("CANDLE_VISION_DATA").map(PathBuf::from) else {
        return Ok(Outcome::Skipped("CANDLE_VISION_DATA names no folder of data sets".to_owned()));
    };
    let (train, val) = match (Cifar10::open(&data, Split::Train), Cifar10::open(&data, Split::Val))
    {
        (Ok(train), Ok(val)) => (train, val),
        (Err(error), _) | (_, Err(error)) => return Ok(Outcome::Skipped(error.to_string())),
    };
    let images = train.len();
    let augmented = Compose::new()
        .with(RandomCrop::new(32).padding(4))
        .with(RandomHorizontalFlip::new(0.5))
        .with(ColorJitter::new().brightness(0.2).contrast(0.2).saturation(0.2).hue(0.1))
        .with(RandomRotation::new(15.0));
    let batches = LoaderConfig::new(64);
    let train = loader_of(
        Arc::new(train),
        normalized(augmented),
        batches.clone().shuffle(true),
        &clock.device,
    )?;
    let val = loader_of(Arc::new(val), normalized(Compose::new()), batches, &clock.device)?;
    let spec = ModelSpec::new("resnet18", 10).input([3, 32, 32]);
    let model = build(&spec, 0, &clock.device)?;
    let (epochs, frozen) = if clock.tiny { (2, 1) } else { (EPOCHS, FROZEN_EPOCHS) };
    let schedule = ReduceLrOnPlateau::new().monitor("val_loss").factor(0.5).patience(2);
    let mut config = TrainerConfig::new(epochs, Adam::new(0.001).weight_decay(0.0001))
        .schedule(schedule)
        .freeze(FreezeConfig::new(frozen).unfreeze_lr(0.0001));
    if clock.tiny {
        config = config.limit_batches(2);
    }
    set_cuda_graphs(!clock.plain);
    let started = Instant::now();
    Trainer::new(model.as_ref(), &train, &val, config)?.run()?;
    Ok(Outcome::Measured { times: Measured::once(started.elapsed()), images: epochs * images })
}

fn normalized(transform: Compose) -> Compose {
    transform
        .with(ToTensor)
        .with(Normalize::new([0.4914, 0.4822, 0.4465], [0.2023, 0.1994, 0.2010]))
}
