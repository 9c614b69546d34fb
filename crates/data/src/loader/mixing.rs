//! The batch transforms of a loader, applied to the batches of an epoch.

use std::sync::Arc;

use candle_core::DType;

use super::{Batch, DataLoader};
use crate::batch_transforms::{BatchTransform, BatchValues};
use crate::error::{Error, Result};
use crate::random::{self, Generator};

impl DataLoader {
    /// Changes whole batches, after the transforms of their images: mixes images and labels. A batch has
    /// [targets](Batch::targets) then. The draws depend only on the seed, the epoch, the number of the batch and the
    /// transform's place in the list.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use candle_core::Device;
    /// # use candle_vision_data::transforms::{Compose, ToTensor};
    /// # use candle_vision_data::{DataLoader, Image, LoaderConfig, Samples};
    /// use candle_vision_data::batch_transforms::MixUp;
    ///
    /// # let rows = [(0_u8, 0), (255, 1)];
    /// # let set = Samples::new(["a", "b"], rows, |level| Image::new(4, 4, 1, vec![*level; 16]));
    /// # let (transform, config) = (Compose::new().with(ToTensor), LoaderConfig::new(2));
    /// let loader = DataLoader::new(Arc::new(set), transform, config, Device::Cpu)?
    ///     .with_batch_transforms(vec![Arc::new(MixUp::new(0.2))])?;
    /// for batch in loader.epoch(0) {
    ///     let targets = batch?.targets.expect("mixed labels").to_vec2::<f32>()?;
    ///     assert!((targets[0][0] + targets[0][1] - 1.0).abs() < 1e-6);
    /// }
    /// # Ok::<(), candle_vision_data::Error>(())
    /// ```
    ///
    /// # Errors
    /// If a setting of a transform is out of range.
    pub fn with_batch_transforms(
        mut self,
        transforms: Vec<Arc<dyn BatchTransform>>,
    ) -> Result<Self> {
        transforms.iter().try_for_each(|transform| transform.validate())?;
        self.uploader.mixes = !transforms.is_empty();
        self.batch_transforms = transforms;
        Ok(self)
    }

    /// The transforms of whole batches.
    pub fn batch_transforms(&self) -> &[Arc<dyn BatchTransform>] {
        &self.batch_transforms
    }

    /// The generator of the batch transform at `position` of the list, for batch number `batch`, from 0. With it the
    /// draws can be replayed.
    pub fn batch_rng(&self, epoch: usize, batch: usize, position: usize) -> Generator {
        random::of_batch(self.config.seed, epoch, batch, position)
    }
}

/// Applies batch transforms in the thread that takes the batches. On a device their work is so ordered with the caller's,
/// which another thread's would not be while the caller captures work.
#[derive(Clone, Debug)]
pub(super) struct Mixing {
    pub(super) transforms: Vec<Arc<dyn BatchTransform>>,
    pub(super) seed: u64,
    pub(super) epoch: usize,
}

impl Mixing {
    /// The batch of this number after all transforms.
    pub(super) fn apply(&self, number: usize, batch: Batch) -> Result<Batch> {
        let Batch { images, labels, targets: Some(targets), indices } = batch else {
            return Ok(batch);
        };
        let mut values = BatchValues { images, targets };
        for (position, transform) in self.transforms.iter().enumerate() {
            let (images, targets) = (values.images.dims().to_vec(), values.targets.dims().to_vec());
            let rng = &mut random::of_batch(self.seed, self.epoch, number, position);
            values = transform.apply(values, rng)?;
            let is_kept = values.images.dims().first() == images.first()
                && values.targets.dims() == targets
                && values.targets.dtype() == DType::F32;
            if !is_kept {
                let reason = format!(
                    "gave images {:?} and {:?} targets {:?} for images {images:?} and F32 targets {targets:?}; keep the \
                     number of images, and the targets' shape and type",
                    values.images.dims(),
                    values.targets.dtype(),
                    values.targets.dims()
                );
                return Err(Error::transform(transform.describe().name, reason));
            }
        }
        let BatchValues { images, targets } = values;
        // Networks take channels-last memory without a copy, and captured steps take nothing else.
        let images = images.permute((0, 2, 3, 1))?.contiguous()?.permute((0, 3, 1, 2))?;
        Ok(Batch { images, labels, targets: Some(targets), indices })
    }
}
