//! Decoded images that are kept from one epoch to the next.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use crate::dataset::{Dataset, Sample};
use crate::error::Result;

/// Keeps the first samples that are read, up to a limit in bytes. It never replaces a sample by a newer one. In
/// epochs over a whole data set, each sample is equally likely to be needed again.
pub(super) struct Cache {
    slots: Vec<OnceLock<Arc<Sample>>>,
    free_bytes: AtomicUsize,
}

impl Cache {
    pub(super) fn new(dataset: &dyn Dataset, bytes: usize) -> Self {
        let useful = bytes > 0 && dataset.is_cacheable() && !dataset.in_memory();
        let slots = if useful { dataset.len() } else { 0 };
        Self {
            slots: (0..slots).map(|_| OnceLock::new()).collect(),
            free_bytes: AtomicUsize::new(bytes),
        }
    }

    /// Whether the sample is kept, or may be.
    pub(super) fn takes(&self, index: usize) -> bool {
        self.slots
            .get(index)
            .is_some_and(|slot| slot.get().is_some() || self.free_bytes.load(Ordering::Relaxed) > 0)
    }

    /// The sample, which is read if it is not kept. Its mask is dropped, because batches do not use masks.
    pub(super) fn sample(&self, dataset: &dyn Dataset, index: usize) -> Result<Arc<Sample>> {
        let slot = self.slots.get(index);
        if let Some(sample) = slot.and_then(OnceLock::get) {
            return Ok(Arc::clone(sample));
        }
        let sample = Arc::new(Sample { mask: None, ..dataset.sample(index)? });
        if let Some(slot) = slot
            && self.reserve(sample.image.pixels().len())
        {
            // If another thread was faster, its equal sample stays, and a few bytes of the limit are lost. This
            // happens only with two epochs at once.
            let _ = slot.set(Arc::clone(&sample));
        }
        Ok(sample)
    }

    fn reserve(&self, bytes: usize) -> bool {
        let take = |free: usize| free.checked_sub(bytes);
        self.free_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }
}
