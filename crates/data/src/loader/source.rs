//! Turns sample indices into the values of a batch, in any thread.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::LoaderConfig;
use super::cache::Cache;
use super::on_device::OnDevice;
use crate::dataset::{Dataset, check_index, check_label};
use crate::error::{Error, Result};
use crate::random::{self, Generator};
use crate::transforms::{Compose, PartFirst, PixelStep};

/// A sample that was left out because it could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// Its index in the data set.
    pub index: usize,
    /// Its path or other name.
    pub name: String,
    /// What is wrong with it.
    pub reason: String,
}

/// A sample in an epoch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pick {
    pub(super) index: usize,
    /// How often the sample came before in the epoch.
    pub(super) repeat: u32,
}

impl Pick {
    /// The samples of an order. The data set has `samples`.
    pub(super) fn all(order: Vec<usize>, samples: usize) -> Vec<Self> {
        let mut shown = vec![0; samples];
        let pick = |index: usize| {
            // An index that does not exist is reported when it is read.
            let repeat =
                shown.get_mut(index).map_or(0, |shown| std::mem::replace(shown, *shown + 1));
            Self { index, repeat }
        };
        order.into_iter().map(pick).collect()
    }
}

/// The data that all workers share.
pub(super) struct Source {
    pub(super) dataset: Arc<dyn Dataset>,
    pub(super) transform: Compose,
    cache: Cache,
    /// Computed on the first request.
    fingerprint: OnceLock<String>,
    seed: u64,
    skip_broken: bool,
    skipped: Mutex<BTreeMap<usize, Skipped>>,
}

/// A batch before it becomes tensors.
pub(super) struct HostBatch {
    pub(super) values: Values,
    pub(super) samples: Samples,
}

/// The values of a batch.
pub(super) enum Values {
    /// The images.
    Images(Images),
    /// What a device does to its images before `to_tensor`: the steps of all, and where those of each end.
    Drawn(Vec<PixelStep>, Vec<usize>),
}

/// The images of a batch, one after the other, channels last.
pub(super) enum Images {
    /// After all transforms.
    Floats(Vec<f32>),
    /// Before `to_tensor`.
    Pixels(Vec<u8>),
}

impl Images {
    /// Reserves memory for `more` times the present number of values.
    fn reserve_times(&mut self, more: usize) {
        match self {
            Self::Floats(values) => values.reserve_exact(values.len() * more),
            Self::Pixels(values) => values.reserve_exact(values.len() * more),
        }
    }
}

/// The samples of a batch.
pub(super) struct Samples {
    /// The shape of each image, `[height, width, channels]`.
    pub(super) shape: [usize; 3],
    pub(super) labels: Vec<u32>,
    pub(super) indices: Vec<usize>,
}

impl Samples {
    /// No samples yet, with room for so many.
    fn new(count: usize) -> Self {
        let (labels, indices) = (Vec::with_capacity(count), Vec::with_capacity(count));
        Self { shape: [0; 3], labels, indices }
    }
}

impl Source {
    pub(super) fn new(
        dataset: Arc<dyn Dataset>,
        transform: Compose,
        config: &LoaderConfig,
    ) -> Self {
        let cache = Cache::new(dataset.as_ref(), config.cache_bytes);
        let (seed, skip_broken) = (config.seed, config.skip_broken);
        let skipped = Mutex::default();
        let fingerprint = OnceLock::new();
        Self { dataset, transform, cache, fingerprint, seed, skip_broken, skipped }
    }

    pub(super) fn sample_rng(&self, epoch: usize, Pick { index, repeat }: Pick) -> Generator {
        random::of_sample(self.seed, epoch, index, repeat)
    }

    pub(super) fn fingerprint(&self) -> &str {
        self.fingerprint.get_or_init(|| self.dataset.fingerprint())
    }

    pub(super) fn skipped(&self) -> Vec<Skipped> {
        let skipped = self.skipped.lock().unwrap_or_else(PoisonError::into_inner);
        skipped.values().cloned().collect()
    }

    /// Reads and transforms these samples. With `pixels`, only the transforms of 8-bit values are applied.
    /// After `stop` is set, it returns the samples read so far without an error.
    pub(super) fn load(
        &self,
        epoch: usize,
        picks: &[Pick],
        pixels: bool,
        stop: &AtomicBool,
    ) -> Result<HostBatch> {
        let mut images =
            if pixels { Images::Pixels(Vec::new()) } else { Images::Floats(Vec::new()) };
        let mut samples = Samples::new(picks.len());
        for &pick in picks {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            match self.append(epoch, pick, &mut images, &mut samples) {
                Err(error) if self.skip_broken && error.is_broken_image() => {
                    self.note_skipped(pick.index, &error);
                }
                result => result?,
            }
            if samples.indices.len() == 1 {
                images.reserve_times(picks.len() - 1);
            }
        }
        Ok(HostBatch { values: Values::Images(images), samples })
    }

    fn append(
        &self,
        epoch: usize,
        pick: Pick,
        images: &mut Images,
        samples: &mut Samples,
    ) -> Result<()> {
        let (dataset, index) = (self.dataset.as_ref(), pick.index);
        check_index(index, dataset.len())?;
        if !self.cache.takes(index) && self.append_part(epoch, pick, images, samples)? {
            return Ok(());
        }
        let sample = self.cache.sample(dataset, index)?;
        // Here the name of the sample is still known. A device does not check labels.
        check_label(dataset, index, sample.label, dataset.classes().len())?;
        let rng = &mut self.sample_rng(epoch, pick);
        let shape = match images {
            Images::Floats(values) => self.transform.append(&sample.image, rng, values),
            Images::Pixels(values) => self.transform.append_pixels(&sample.image, rng, values),
        };
        self.note(samples, index, sample.label, shape)
    }

    /// Reads only the part of the image that the first transform uses. Returns `false` if it uses the whole image.
    fn append_part(
        &self,
        epoch: usize,
        pick: Pick,
        images: &mut Images,
        samples: &mut Samples,
    ) -> Result<bool> {
        let (dataset, index) = (self.dataset.as_ref(), pick.index);
        let rng = &mut self.sample_rng(epoch, pick);
        let Some(list) = PartFirst::of(&self.transform, rng) else {
            return Ok(false);
        };
        let sample = dataset.sample_part(index, &mut |size| list.part(size, rng))?;
        check_label(dataset, index, sample.label, dataset.classes().len())?;
        let shape = match images {
            Images::Floats(values) => list.append(sample.image, rng, values),
            Images::Pixels(values) => list.append_pixels(sample.image, rng, values),
        };
        self.note(samples, index, sample.label, shape)?;
        Ok(true)
    }

    /// Draws what a device does to its images for this batch, with the draws of [`Source::load`].
    pub(super) fn draw(
        &self,
        epoch: usize,
        picks: &[Pick],
        on_device: &OnDevice,
    ) -> Result<HostBatch> {
        let (mut steps, mut ends) = (Vec::new(), Vec::with_capacity(picks.len()));
        let mut samples = Samples::new(picks.len());
        for &pick in picks {
            let index = pick.index;
            check_index(index, on_device.labels.len())?;
            let rng = &mut self.sample_rng(epoch, pick);
            let drawn = self.transform.draw(on_device.shape, rng).inspect(|drawn| {
                steps.extend_from_slice(drawn.as_slice());
                ends.push(steps.len());
            });
            let shape = drawn.map(|drawn| drawn.shape());
            self.note(&mut samples, index, on_device.labels[index], shape)?;
        }
        Ok(HostBatch { values: Values::Drawn(steps, ends), samples })
    }

    /// Notes that a sample is in the batch, if it has the shape of those before it.
    fn note(
        &self,
        samples: &mut Samples,
        index: usize,
        label: u32,
        shape: Result<[usize; 3]>,
    ) -> Result<()> {
        let shape = shape.map_err(|source| Error::Sample {
            name: self.dataset.name(index),
            source: Box::new(source),
        })?;
        match samples.indices.first() {
            None => samples.shape = shape,
            Some(&first) if samples.shape != shape => {
                let names = [first, index].map(|index| self.dataset.name(index));
                return Err(Error::mixed_shapes((&names[0], samples.shape), (&names[1], shape)));
            }
            Some(_) => {}
        }
        samples.labels.push(label);
        samples.indices.push(index);
        Ok(())
    }

    fn note_skipped(&self, index: usize, error: &Error) {
        let mut skipped = self.skipped.lock().unwrap_or_else(PoisonError::into_inner);
        skipped.entry(index).or_insert_with(|| Skipped {
            index,
            name: self.dataset.name(index),
            reason: error.reason(),
        });
    }
}
