//! A data set that a small network learns in seconds, and what runs on it need.
#![allow(dead_code, reason = "each test crate uses its own part")]

pub(crate) mod ranks;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use candle_core::{DType, Device, Tensor};
use candle_vision_data::transforms::{Compose, Normalize, ToTensor};
use candle_vision_data::{DataLoader, Dataset, Error, Image, LoaderConfig, Sample};
use candle_vision_models::{Model, ModelSpec, build};
use candle_vision_train::{
    Callback, Checkpoint, Control, Event, Result, RunFolder, Trainer, TrainerConfig, TrainingResult,
};

pub(crate) const SIDE: usize = 8;

/// Noise with a bright upper half (class 0) or lower half (class 1).
pub(crate) struct Halves {
    pub(crate) count: usize,
    pub(crate) first: usize,
    /// Index of an image that cannot be read.
    pub(crate) broken: Option<usize>,
    pub(crate) classes: Vec<String>,
}

impl Halves {
    pub(crate) fn new(count: usize, first: usize) -> Self {
        let classes = ["upper", "lower"].map(str::to_owned).to_vec();
        Self { count, first, broken: None, classes }
    }
}

impl Dataset for Halves {
    fn len(&self) -> usize {
        self.count
    }

    fn sample(&self, index: usize) -> Result<Sample, Error> {
        if self.broken == Some(index) {
            let (name, reason) = (self.name(index), "cut short".to_owned());
            return Err(Error::BrokenImage { name, reason });
        }
        let label = self.label(index);
        let pixel = |i: usize| {
            let upper = i < SIDE * SIDE * 3 / 2;
            let noise = ((self.first + index) * 7919 + i * 104_729) % 97;
            if upper == (label == 0) { 110 + noise as u8 } else { 60 + noise as u8 }
        };
        let pixels = (0..SIDE * SIDE * 3).map(pixel).collect();
        Ok(Sample { image: Image::new(SIDE, SIDE, 3, pixels)?, label, mask: None })
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn label(&self, index: usize) -> u32 {
        (index % 2) as u32
    }

    fn name(&self, index: usize) -> String {
        format!("halves[{index}]")
    }

    fn fingerprint(&self) -> String {
        format!("halves-{}-{}", self.count, self.first)
    }

    fn is_cacheable(&self) -> bool {
        true
    }
}

pub(crate) fn loader_of(dataset: Halves, config: LoaderConfig) -> DataLoader {
    loader_on(&Device::Cpu, dataset, config)
}

pub(crate) fn loader_on(device: &Device, dataset: Halves, config: LoaderConfig) -> DataLoader {
    let transform = Compose::new().with(ToTensor).with(Normalize::new([0.5; 3], [0.25; 3]));
    DataLoader::new(Arc::new(dataset), transform, config, device.clone()).unwrap()
}

/// 23 images in batches of 5: five batches an epoch, the last of them short.
pub(crate) fn train_loader(workers: usize) -> DataLoader {
    let config = LoaderConfig::new(5).shuffle(true).seed(3).workers(workers);
    loader_of(Halves::new(23, 0), config)
}

pub(crate) fn val_loader() -> DataLoader {
    loader_of(Halves::new(10, 1000), LoaderConfig::new(4))
}

/// Batch norm and dropout 0.5 included.
pub(crate) fn network(seed: u64) -> Box<dyn Model> {
    let spec = ModelSpec::new("gap_cnn_deep", 2).input([3, SIDE, SIDE]);
    build(&spec, seed, &Device::Cpu).unwrap()
}

pub(crate) fn recipe(text: &str) -> TrainerConfig {
    toml::from_str(text).unwrap()
}

/// A folder for runs that goes with the test.
pub(crate) struct Runs(tempfile::TempDir);

impl Runs {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn create(&self) -> RunFolder {
        RunFolder::create(self.0.path(), "test", "").unwrap()
    }
}

/// A run from its first step to its end.
pub(crate) fn train(
    config: &TrainerConfig,
    run: &RunFolder,
    callbacks: &mut [&mut dyn Callback],
) -> Result<TrainingResult> {
    let (model, train, val) = (network(0), train_loader(2), val_loader());
    let mut trainer = Trainer::new(model.as_ref(), &train, &val, config.clone())?.run_folder(run);
    trainer.run_with(callbacks, &AtomicBool::new(false))
}

/// As [`train`], but the stop flag is set in step `step`.
pub(crate) fn train_until(
    config: &TrainerConfig,
    run: &RunFolder,
    step: usize,
) -> Result<TrainingResult> {
    let (model, train, val) = (network(0), train_loader(2), val_loader());
    let mut trainer = Trainer::new(model.as_ref(), &train, &val, config.clone())?.run_folder(run);
    let stop = AtomicBool::new(false);
    trainer.run_with(&mut [&mut StopAt { step, stop: &stop }], &stop)
}

/// Goes on with a run; the network begins with other values, so that all of it must be restored.
pub(crate) fn resume(config: &TrainerConfig, run: &RunFolder) -> Result<TrainingResult> {
    let (model, train, val) = (network(77), train_loader(0), val_loader());
    let mut trainer = Trainer::new(model.as_ref(), &train, &val, config.clone())?.run_folder(run);
    trainer.resume(&Checkpoint::load(run.last())?)?;
    trainer.run()
}

struct StopAt<'a> {
    step: usize,
    stop: &'a AtomicBool,
}

impl Callback for StopAt<'_> {
    fn on_event(&mut self, event: &Event<'_>) -> Result<Control> {
        if let Event::BatchEnd { record, .. } = event
            && record.step == self.step
        {
            self.stop.store(true, Ordering::Relaxed);
        }
        Ok(Control::Continue)
    }
}

/// Calls a closure for each event.
pub(crate) struct Watch<F>(pub(crate) F);

impl<F: FnMut(&Event<'_>) -> Control> Callback for Watch<F> {
    fn on_event(&mut self, event: &Event<'_>) -> Result<Control> {
        Ok((self.0)(event))
    }
}

/// The bits of all tensors of a safetensors file, by name.
pub(crate) fn bits(path: &std::path::Path) -> HashMap<String, Vec<u64>> {
    let tensors = candle_core::safetensors::load(path, &Device::Cpu).unwrap();
    tensors.into_iter().map(|(name, tensor)| (name, tensor_bits(&tensor))).collect()
}

/// `f32` and whole numbers are exact in `f64`.
pub(crate) fn tensor_bits(tensor: &Tensor) -> Vec<u64> {
    let values = tensor.to_dtype(DType::F64).unwrap().flatten_all().unwrap();
    values.to_vec1::<f64>().unwrap().into_iter().map(f64::to_bits).collect()
}
