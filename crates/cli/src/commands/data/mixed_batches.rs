//! The mixed images of a run, for contact sheets.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Result;
use candle_core::Device;
use candle_vision::Registry;
use candle_vision::data::transforms::{Array, Compose};
use candle_vision::data::{Batch, DataLoader, Dataset, Split};
use candle_vision_recipe::data::loader;
use candle_vision_recipe::{BatchSize, DataSettings};

use crate::say;

/// The size of a batch where the recipe leaves it to the memory of the machine.
const WITHOUT_SIZE: usize = 32;

/// The batches of a run in which images are mixed.
pub(super) struct MixedBatches {
    loader: DataLoader,
    /// Batches so far, by epoch and number.
    made: BTreeMap<(usize, usize), Batch>,
}

impl MixedBatches {
    /// `None` if the settings mix nothing.
    pub(super) fn new(
        dataset: &Arc<dyn Dataset>,
        settings: &DataSettings,
        transform: &Compose,
        seed: u64,
        registry: &Registry,
    ) -> Result<Option<Self>> {
        let mixing = registry.batch_transforms.build_all(&settings.batch_transforms)?;
        if mixing.is_empty() {
            return Ok(None);
        }
        // One batch of an epoch is made at a time, so workers would make others in vain.
        let mut settings = settings.clone();
        settings.workers = 0;
        if settings.batch_size == BatchSize::Auto {
            say::note(format_args!(
                "batch size: auto; shown is what batches of {WITHOUT_SIZE} mix"
            ));
            settings.batch_size = BatchSize::Images(WITHOUT_SIZE);
        }
        let (set, transform) = (Arc::clone(dataset), transform.clone());
        let loader = loader(set, &settings, Split::Train, transform, seed, &Device::Cpu)?;
        let loader = match &settings.sampler {
            Some(sampler) => loader.with_sampler(registry.samplers.build(sampler)?)?,
            None => loader,
        };
        let loader = loader.with_batch_transforms(mixing)?;
        Ok(Some(Self { loader, made: BTreeMap::new() }))
    }

    /// The image with this index as an epoch shows it first, and the shares of its classes. `None` if the epoch does not
    /// show it.
    pub(super) fn image(
        &mut self,
        epoch: usize,
        index: usize,
    ) -> Result<Option<(Array, Vec<f64>)>> {
        let order = self.loader.order(epoch);
        let Some(place) = order.iter().position(|&shown| shown == index) else { return Ok(None) };
        let mut numbers = 0..self.loader.batches_per_epoch();
        let Some(number) = numbers.find(|&number| self.loader.places(number).contains(&place))
        else {
            return Ok(None);
        };
        if !self.made.contains_key(&(epoch, number)) {
            let Some(batch) = self.loader.epoch_from(epoch, number).next() else { return Ok(None) };
            self.made.insert((epoch, number), batch?);
        }
        let batch = &self.made[&(epoch, number)];
        let row = batch.indices.iter().position(|&shown| shown == index);
        let Some((row, targets)) = row.zip(batch.targets.as_ref()) else { return Ok(None) };
        let shares = targets.get(row)?.to_vec1::<f32>()?.into_iter().map(f64::from).collect();
        Ok(Some((Array::of_batch(&batch.images, row)?, shares)))
    }
}
