//! Batches of a data set: shuffled, transformed, and prepared in advance by worker threads.
//!
//! The order of samples depends only on (seed, epoch). The random changes of a sample depend only on (seed,
//! epoch, index). So the number of workers does not change a single bit of a batch, a run can be resumed in the
//! middle of an epoch, and a single sample can be replayed.

mod ahead;
mod cache;
mod epoch;
mod host_batches;
mod mixing;
mod on_device;
mod share;
mod source;
mod upload;
mod workers;

use std::sync::Arc;

use candle_core::{Device, Tensor};
use serde::{Deserialize, Serialize};

pub use epoch::EpochIter;
use mixing::Mixing;
use on_device::OnDevice;
pub use on_device::{DeviceImages, DrawnBatch, Kept};
use share::Layout;
pub use share::Share;
pub use source::Skipped;
use source::{Pick, Source};
use upload::Uploader;
pub use upload::{HostImages, HostValues, Upload};

use crate::batch_transforms::BatchTransform;
use crate::dataset::Dataset;
use crate::error::{Error, Result};
use crate::random::Generator;
use crate::samplers::{Population, Sampler, Sequential, Shuffled};
use crate::transforms::Compose;

/// Settings of a [`DataLoader`].
///
/// ```
/// use candle_vision_data::LoaderConfig;
///
/// let config = LoaderConfig::new(64).shuffle(true).workers(4).seed(7);
/// assert_eq!((config.batch_size, config.prefetch), (64, 8));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct LoaderConfig {
    /// Number of samples in a batch, at least 1. 32 by default.
    pub batch_size: usize,
    /// Whether each epoch has its own order, determined by the seed and the epoch.
    pub shuffle: bool,
    /// Whether the last batch is left out if it has fewer samples.
    pub drop_last: bool,
    /// Number of threads that prepare batches. With 0, each batch is prepared in the caller's thread when it is
    /// requested. 2 by default.
    pub workers: usize,
    /// Number of batches prepared in advance, at least one for each worker. It limits the memory. 4 by default.
    pub prefetch: usize,
    /// The seed for the order and all random transforms.
    pub seed: u64,
    /// Whether an image that cannot be read is left out of its batch. If not, it is an error.
    pub skip_broken: bool,
    /// How many bytes of decoded images are kept from one epoch to the next. 0 keeps none; the default is 512
    /// MiB. Decoding is most of the work of loading. Only [cacheable](Dataset::is_cacheable) data sets are
    /// kept.
    pub cache_bytes: usize,
}

impl LoaderConfig {
    /// Batches of this size in the order of the data set, with two workers and seed 0.
    pub fn new(batch_size: usize) -> Self {
        Self { batch_size, ..Self::default() }
    }

    /// Sets the number of samples in a batch.
    pub fn batch_size(self, batch_size: usize) -> Self {
        Self { batch_size, ..self }
    }

    /// Sets whether each epoch has its own order.
    pub fn shuffle(self, shuffle: bool) -> Self {
        Self { shuffle, ..self }
    }

    /// Sets whether a short last batch is left out.
    pub fn drop_last(self, drop_last: bool) -> Self {
        Self { drop_last, ..self }
    }

    /// Sets the number of threads that prepare batches, and prepares twice as many batches in advance.
    pub fn workers(self, workers: usize) -> Self {
        Self { workers, prefetch: 2 * workers.max(1), ..self }
    }

    /// Sets the number of batches prepared in advance.
    pub fn prefetch(self, prefetch: usize) -> Self {
        Self { prefetch, ..self }
    }

    /// Sets the seed for the order and all random transforms.
    pub fn seed(self, seed: u64) -> Self {
        Self { seed, ..self }
    }

    /// Sets whether an image that cannot be read is left out of its batch instead of being an error.
    pub fn skip_broken(self, skip_broken: bool) -> Self {
        Self { skip_broken, ..self }
    }

    /// Sets how many bytes of decoded images are kept from one epoch to the next.
    pub fn cache_bytes(self, cache_bytes: usize) -> Self {
        Self { cache_bytes, ..self }
    }
}

impl Default for LoaderConfig {
    fn default() -> Self {
        Self {
            batch_size: 32,
            shuffle: false,
            drop_last: false,
            workers: 2,
            prefetch: 4,
            seed: 0,
            skip_broken: false,
            cache_bytes: 512 << 20,
        }
    }
}

/// A batch of samples, ready for a network.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The images, `[batch, channels, height, width]`, f32 unless an [`Upload`] makes another type. It is a
    /// permuted view of channels-last memory.
    pub images: Tensor,
    /// The labels, `[batch]`, u32. Batch transforms leave them as they are.
    pub labels: Tensor,
    /// A number in `0.0..=1.0` for each class, `[batch, classes]`, f32, if the loader has
    /// [batch transforms](DataLoader::with_batch_transforms) or an image may have
    /// [several labels](Dataset::is_multi_label). A loss that ignores it trains on wrong labels.
    pub targets: Option<Tensor>,
    /// The index of each sample in its data set.
    pub indices: Vec<usize>,
}

/// Makes the batches of a data set, epoch by epoch.
///
/// # Example
/// ```
/// use std::sync::Arc;
///
/// use candle_core::Device;
/// use candle_vision_data::transforms::{Compose, ToTensor};
/// use candle_vision_data::{DataLoader, Insects, InsectsConfig, LoaderConfig, Split};
///
/// let insects = Insects::new(Split::Train, InsectsConfig::new(10).size(32))?;
/// let config = LoaderConfig::new(4).shuffle(true);
/// let transform = Compose::new().with(ToTensor);
/// let loader = DataLoader::new(Arc::new(insects), transform, config, Device::Cpu)?;
/// for batch in loader.epoch(0) {
///     assert_eq!(batch?.images.dims()[1..], [3, 32, 32]);
/// }
/// # Ok::<(), candle_vision_data::Error>(())
/// ```
///
/// A clone shows the same images, and shares what was read of them so far.
#[derive(Clone)]
pub struct DataLoader {
    source: Arc<Source>,
    config: LoaderConfig,
    sampler: Arc<dyn Sampler>,
    population: Population,
    /// Number of samples in an epoch. It is stored, because a sampler may have to count them.
    samples: usize,
    uploader: Uploader,
    share: Share,
    batch_transforms: Vec<Arc<dyn BatchTransform>>,
}

impl DataLoader {
    /// A loader whose batches go to `device`.
    ///
    /// # Errors
    /// If the batch size is 0, the data set is too small for a batch, or the transforms are not valid.
    pub fn new(
        dataset: Arc<dyn Dataset>,
        transform: Compose,
        config: LoaderConfig,
        device: Device,
    ) -> Result<Self> {
        transform.validate()?;
        check(&config, dataset.len())?;
        let population = Population::new(Arc::clone(&dataset));
        let source = Arc::new(Source::new(dataset, transform, &config));
        let sampler: Arc<dyn Sampler> = match config.shuffle {
            true => Arc::new(Shuffled::new()),
            false => Arc::new(Sequential::new()),
        };
        let uploader = Uploader { device, hook: None, on_device: None, mixes: false };
        let (samples, share, batch_transforms) = (population.len(), Share::All, Vec::new());
        Ok(Self { source, config, sampler, population, samples, uploader, share, batch_transforms })
    }

    /// Lets `sampler` say which samples an epoch shows, and in which order, in place of
    /// [`LoaderConfig::shuffle`].
    ///
    /// # Errors
    /// If the sampler does not suit the data set, or leaves too few samples for a batch.
    pub fn with_sampler(mut self, sampler: Arc<dyn Sampler>) -> Result<Self> {
        sampler.check(&self.population)?;
        self.samples = sampler.samples_per_epoch(&self.population);
        check(&self.config, self.samples)?;
        self.sampler = sampler;
        let share = self.share;
        self.share(share)
    }

    /// Lets `upload` bring images and labels to the device. If there are workers, this happens one batch in advance.
    pub fn with_upload(mut self, upload: Arc<dyn Upload>) -> Self {
        self.uploader.hook = Some(upload);
        self
    }

    /// Gives only a share of each epoch, as one of several processes.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use candle_core::Device;
    /// # use candle_vision_data::transforms::{Compose, ToTensor};
    /// # use candle_vision_data::{DataLoader, Image, LoaderConfig, Samples};
    /// use candle_vision_data::Share;
    ///
    /// # let set = || Samples::new(["grey"], [(7_u8, 0); 10], |level| Image::new(4, 4, 1, vec![*level; 16]));
    /// # let (transform, config) = (Compose::new().with(ToTensor), LoaderConfig::new(2));
    /// let whole = DataLoader::new(Arc::new(set()), transform, config, Device::Cpu)?;
    /// let second_of_two = whole.share(Share::Samples { rank: 1, ranks: 2 })?;
    /// let indices = second_of_two.epoch(0).map(|batch| Ok(batch?.indices));
    /// // The first rank has 0 and 1, 4 and 5, and 8.
    /// let indices = indices.collect::<Result<Vec<_>, candle_vision_data::Error>>()?;
    /// assert_eq!(indices, [vec![2, 3], vec![6, 7], vec![9]]);
    /// # Ok::<(), candle_vision_data::Error>(())
    /// ```
    ///
    /// A data set of shards that is shuffled gives each rank shards of its own ([`Dataset::shuffled_orders`]).
    ///
    /// # Errors
    /// If there is no such rank, or there are fewer samples or shards than ranks.
    pub fn share(mut self, share: Share) -> Result<Self> {
        self.set_share(share)?;
        Ok(self)
    }

    /// As [`DataLoader::share`], in place.
    ///
    /// # Errors
    /// As `share`. Then the loader stays as it is.
    pub fn set_share(&mut self, share: Share) -> Result<()> {
        share.check(self.samples)?;
        if let Share::Samples { ranks, .. } = share {
            share::check_files(self.sampler.files_of_ranks(&self.population), ranks)?;
        }
        if (Layout { share, ..self.layout() }).whole_batches() == 0 {
            let reason = format!(
                "of {} on each of {} ranks with `drop_last` leaves nothing of {} samples; make it smaller",
                self.config.batch_size,
                share.ranks().1,
                self.samples
            );
            return Err(Error::InvalidSetting { setting: "batch_size", reason });
        }
        self.share = share;
        Ok(())
    }

    /// The share of each epoch that this loader gives.
    pub fn shared(&self) -> Share {
        self.share
    }

    fn layout(&self) -> Layout {
        let LoaderConfig { batch_size, drop_last, .. } = self.config;
        Layout { share: self.share, samples: self.samples, batch_size, drop_last }
    }

    /// Brings all images of the data set to a device's memory, once, if they take at most `most_bytes` bytes. From then
    /// on the loader only draws what happens to each image, with the draws that it has without this, and the device
    /// makes the batches. `place` makes the memory for `[images, height, width, channels]` bytes.
    ///
    /// This is possible if all images can be read and have the same shape, are the same in each epoch
    /// ([`Dataset::is_cacheable`]), and are changed only by transforms that can be drawn
    /// ([`Transform::draw`](crate::transforms::Transform::draw)). Otherwise the loader stays as it is, and the answer
    /// says why.
    pub fn keep_on_device(
        &mut self,
        most_bytes: u64,
        place: impl FnOnce([usize; 4]) -> candle_core::Result<Box<dyn DeviceImages>>,
    ) -> Kept {
        match OnDevice::new(&self.source, &self.config, most_bytes, place) {
            Ok(on_device) => {
                self.uploader.on_device = Some(Arc::new(on_device));
                Kept::OnDevice { bytes: self.bytes_on_device() }
            }
            Err(reason) => Kept::OnHost { reason },
        }
    }

    /// Number of bytes that the images take in a device's memory. It is 0 if they are with the host.
    pub fn bytes_on_device(&self) -> usize {
        let bytes = |on_device: &Arc<OnDevice>| {
            on_device.labels.len() * on_device.shape.iter().product::<usize>()
        };
        self.uploader.on_device.as_ref().map_or(0, bytes)
    }

    /// Sets the number of samples in a batch.
    ///
    /// # Errors
    /// If it is 0, or the data set is too small for a batch. Then the loader stays as it is.
    pub fn set_batch_size(&mut self, batch_size: usize) -> Result<()> {
        let config = self.config.clone().batch_size(batch_size);
        check(&config, self.samples)?;
        self.config = config;
        Ok(())
    }

    /// Number of batches in an epoch. There may be fewer if `skip_broken` removes all images of a batch.
    pub fn batches_per_epoch(&self) -> usize {
        self.layout().batches()
    }

    /// Number of batches in an epoch of all processes that share it. A batch in which each of them has a part counts once.
    pub fn batches_of_all(&self) -> usize {
        self.layout().whole_batches()
    }

    /// Number of samples in a full batch of all processes that share it.
    pub fn batch_size_of_all(&self) -> usize {
        self.layout().whole_size()
    }

    /// Number of samples in a batch, from 0, of all processes that share it.
    pub fn batch_len_of_all(&self, batch: usize) -> usize {
        self.layout().whole_len(batch)
    }

    /// The places in [`order`](Self::order) of the samples of this process's batch number `batch`, from 0.
    pub fn places(&self, batch: usize) -> std::ops::Range<usize> {
        self.layout().place(batch)
    }

    /// Number of samples in an epoch. It is the size of the data set unless the sampler says otherwise.
    pub fn samples_per_epoch(&self) -> usize {
        self.samples
    }

    /// The batches of an epoch. Workers start on the first batches at once. To have them ready in time, request
    /// the next epoch while the last batches of this one are in use.
    pub fn epoch(&self, epoch: usize) -> EpochIter {
        self.epoch_from(epoch, 0)
    }

    /// The batches of the first `count` epochs, one epoch after the other. The iterator ends after the first
    /// error.
    ///
    /// ```
    /// use std::sync::Arc;
    ///
    /// use candle_core::Device;
    /// use candle_vision_data::transforms::{Compose, ToTensor};
    /// use candle_vision_data::{DataLoader, Image, LoaderConfig, Samples};
    ///
    /// let set = Samples::new(["grey"], [(7_u8, 0); 5], |level| Image::new(4, 4, 1, vec![*level; 16]));
    /// let transform = Compose::new().with(ToTensor);
    /// let train = DataLoader::new(Arc::new(set), transform, LoaderConfig::new(2), Device::Cpu)?;
    /// assert_eq!(train.epochs(2).count(), 6);
    /// # Ok::<(), candle_vision_data::Error>(())
    /// ```
    pub fn epochs(&self, count: usize) -> impl Iterator<Item = Result<Batch>> + '_ {
        let mut failed = false;
        let epochs = (0..count).flat_map(|epoch| self.epoch(epoch));
        epochs.take_while(move |batch| !std::mem::replace(&mut failed, batch.is_err()))
    }

    /// The batches of an epoch from batch `first_batch` on, counted from 0. Use it to resume in the middle of
    /// an epoch.
    pub fn epoch_from(&self, epoch: usize, first_batch: usize) -> EpochIter {
        let batches = first_batch..self.batches_per_epoch();
        let plan = host_batches::Plan {
            source: Arc::clone(&self.source),
            picks: Pick::all(self.order(epoch), self.source.dataset.len()),
            epoch,
            layout: self.layout(),
            pixels: self.uploader.takes_pixels(),
            on_device: self.uploader.on_device.clone(),
        };
        let (transforms, seed) = (self.batch_transforms.clone(), self.config.seed);
        let mixing = Mixing { transforms, seed, epoch };
        EpochIter::new(plan, batches, &self.config, self.uploader.clone(), mixing)
    }

    /// The sample indices of an epoch, in the order of its batches.
    pub fn order(&self, epoch: usize) -> Vec<usize> {
        let seed = self.config.seed;
        if let Share::Samples { ranks, .. } = self.share
            && ranks > 1
            && let Some(orders) = self.sampler.orders_of_ranks(&self.population, seed, epoch, ranks)
        {
            return self.layout().in_batches(orders);
        }
        self.sampler.order(&self.population, seed, epoch)
    }

    /// Whether processes that share an epoch each read files of their own. Then the order of an epoch depends on their
    /// number.
    pub fn shares_files(&self) -> bool {
        matches!(self.share, Share::Samples { ranks, .. } if ranks > 1)
            && self.sampler.files_of_ranks(&self.population).is_some()
    }

    /// The generator for the random transforms of one sample. With it the sample can be replayed. If the sample comes
    /// several times in the epoch, it is that of the first time.
    pub fn sample_rng(&self, epoch: usize, index: usize) -> Generator {
        self.sample_rng_of_repeat(epoch, index, 0)
    }

    /// The generator for the random transforms of a sample that came `repeat` times before in the epoch.
    pub fn sample_rng_of_repeat(&self, epoch: usize, index: usize, repeat: u32) -> Generator {
        self.source.sample_rng(epoch, Pick { index, repeat })
    }

    /// The samples that were left out so far because they could not be read, in order of their index.
    pub fn skipped(&self) -> Vec<Skipped> {
        self.source.skipped()
    }

    /// The data set's [fingerprint](Dataset::fingerprint). It is computed once, because it may look at every
    /// file.
    pub fn fingerprint(&self) -> &str {
        self.source.fingerprint()
    }

    /// The data set.
    pub fn dataset(&self) -> &Arc<dyn Dataset> {
        &self.source.dataset
    }

    /// What says which samples an epoch shows.
    pub fn sampler(&self) -> &Arc<dyn Sampler> {
        &self.sampler
    }

    /// The samples that the sampler chooses from.
    pub fn population(&self) -> &Population {
        &self.population
    }

    /// The transforms of each image.
    pub fn transform(&self) -> &Compose {
        &self.source.transform
    }

    /// The device that batches go to.
    pub fn device(&self) -> &Device {
        &self.uploader.device
    }

    /// The settings.
    pub fn config(&self) -> &LoaderConfig {
        &self.config
    }
}

impl std::fmt::Debug for DataLoader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut text = f.debug_struct("DataLoader");
        text.field("samples", &self.source.dataset.len()).field("config", &self.config);
        text.field("sampler", &self.sampler)
            .field("transform", self.transform())
            .finish_non_exhaustive()
    }
}

fn check(config: &LoaderConfig, samples: usize) -> Result<()> {
    let size = config.batch_size;
    let reason = if size == 0 {
        "must be at least 1".to_owned()
    } else if samples == 0 {
        "cannot be filled: the data set has no samples".to_owned()
    } else if config.drop_last && samples < size {
        format!("of {size} with `drop_last` leaves nothing of {samples} samples; make it smaller")
    } else {
        return Ok(());
    };
    Err(Error::InvalidSetting { setting: "batch_size", reason })
}
