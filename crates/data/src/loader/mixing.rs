//! The batch transforms of a loader, applied to the batches of an epoch.

use std::sync::Arc;

use candle_core::DType;

use super::Batch;
use crate::batch_transforms::{BatchTransform, BatchValues};
use crate::error::{Error, Result};
use crate::random;

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
