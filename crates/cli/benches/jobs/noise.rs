//! Images of noise, in memory: what a loader does with them is all that a step can wait for.

use std::sync::Arc;

use anyhow::Result;
use candle_core::Device;
use candle_vision::data::transforms::{
    Normalize, RandomCrop, RandomHorizontalFlip, RandomResizedCrop, ToTensor,
};
use candle_vision::data::{self, Image, Sample};
use candle_vision::ops::Generator;
use candle_vision::prelude::{Compose, DataLoader, Dataset, LoaderConfig};
use candle_vision::train::DeviceUpload;
use rand::{RngExt, SeedableRng};

/// Different images; each stands for many samples.
const IMAGES: usize = 64;
/// Long enough that the start of an epoch does not count.
const BATCHES: usize = 200;

struct Noise {
    images: Vec<Image>,
    classes: Vec<String>,
    len: usize,
}

impl Dataset for Noise {
    fn len(&self) -> usize {
        self.len
    }

    fn sample(&self, index: usize) -> data::Result<Sample> {
        let image = self.images[index % self.images.len()].clone();
        Ok(Sample { image, label: self.label(index), mask: None })
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn label(&self, index: usize) -> u32 {
        (index % self.classes.len()) as u32
    }

    fn name(&self, index: usize) -> String {
        format!("noise {index}")
    }

    fn fingerprint(&self) -> String {
        "noise".to_owned()
    }

    fn in_memory(&self) -> bool {
        true
    }
}

/// A loader of batches of this shape, `[batch, channels, height, width]`, with the usual augmentation:
/// small images are moved and large ones cropped out of still larger ones.
pub(crate) fn loader(
    [batch, channels, side, _]: [usize; 4],
    classes: usize,
    device: &Device,
) -> Result<DataLoader> {
    let size = u32::try_from(side)?;
    let (stored, moved_or_cropped) = if side <= 32 {
        (side, Compose::new().with(RandomCrop::new(size).padding(4)))
    } else {
        (side * 8 / 7, Compose::new().with(RandomResizedCrop::new(size)))
    };
    let mut rng = Generator::seed_from_u64(0);
    let mut image = || {
        let pixels = (0..stored * stored * channels).map(|_| rng.random()).collect();
        Image::new(stored, stored, channels, pixels)
    };
    let images = (0..IMAGES).map(|_| image()).collect::<data::Result<_>>()?;
    let classes = (0..classes).map(|class| class.to_string()).collect();
    let noise = Noise { images, classes, len: batch * BATCHES };
    let flipped = moved_or_cropped.with(RandomHorizontalFlip::new(0.5));
    let transform = flipped.with(ToTensor).with(Normalize::new([0.5], [0.25]));
    loader_of(Arc::new(noise), transform, LoaderConfig::new(batch).shuffle(true), device)
}

/// A loader with as many workers as there are threads. With one thread the caller's does it all.
pub(crate) fn loader_of(
    dataset: Arc<dyn Dataset>,
    transform: Compose,
    config: LoaderConfig,
    device: &Device,
) -> Result<DataLoader> {
    let threads = candle_core::utils::get_num_threads();
    let workers = if threads == 1 { 0 } else { threads };
    let config = config.workers(workers).prefetch(2 * workers);
    let loader = DataLoader::new(dataset, transform, config, device.clone())?;
    Ok(match device {
        Device::Cpu => loader,
        _ => loader.with_upload(Arc::new(DeviceUpload::new(device.clone()))),
    })
}
