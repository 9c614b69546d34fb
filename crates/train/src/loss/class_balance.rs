//! What a loss knows of the classes: how many training images each has, and the weights that follow from it.

use std::sync::OnceLock;

use candle_core::{Device, Tensor};
use candle_vision_data::samplers::ClassWeights;

use crate::error::require;
use crate::{Error, Result};

/// The counts of the training images of each class, and what was computed from them for a device.
#[derive(Debug, Clone, Default)]
pub(super) struct ClassBalance {
    counts: Option<Vec<usize>>,
    /// The values on the device of the first logits. If they were uploaded in each step, the host would wait.
    uploaded: OnceLock<Tensor>,
}

impl ClassBalance {
    pub(super) fn of(counts: &[usize]) -> Self {
        Self { counts: Some(counts.to_vec()), uploaded: OnceLock::new() }
    }

    fn counts(&self, setting: &str, value: impl std::fmt::Display) -> Result<&[usize]> {
        self.counts.as_deref().ok_or_else(|| {
            let expected = "used after `Loss::learn_class_counts`, because it needs the number of \
                            training images of each class";
            Error::setting(setting, value, expected)
        })
    }

    /// The weight of each class.
    pub(super) fn weights(&self, weights: &ClassWeights) -> Result<Vec<f64>> {
        match weights {
            ClassWeights::List(weights) => Ok(weights.clone()),
            balanced => Ok(balanced.of(self.counts("class_weights", "\"balanced\"")?)),
        }
    }

    /// What is added to the logits: `tau` times the logarithm of each class's share of the training images. A class
    /// without images counts as one with a single image, because its share would have no logarithm.
    pub(super) fn adjustment(&self, tau: f64) -> Result<Vec<f64>> {
        let counts = self.counts("logit_adjustment", tau)?;
        let total: usize = counts.iter().map(|count| (*count).max(1)).sum();
        let log_share = |&count: &usize| (count.max(1) as f64 / total as f64).ln();
        Ok(counts.iter().map(|count| tau * log_share(count)).collect())
    }

    /// These values on a device, `[classes]`, `f32`. One kind of values is kept for each `ClassBalance`.
    pub(super) fn on_device(&self, values: &[f64], device: &Device) -> Result<Tensor> {
        if let Some(uploaded) = self.uploaded.get().filter(|kept| kept.device().same_device(device))
        {
            return Ok(uploaded.clone());
        }
        let values: Vec<f32> = values.iter().map(|&value| value as f32).collect();
        let values = Tensor::new(values, device)?;
        // Another thread may have set it first, with the same values.
        let _ = self.uploaded.set(values.clone());
        Ok(values)
    }
}

/// The sum of the weights of labels, `[batch]`, `u32`. A label of no class has none; the loss refuses it.
pub(super) fn sum_of_weights(weights: &[f64], labels: &Tensor) -> Result<f64> {
    let labels = labels.to_vec1::<u32>()?;
    Ok(labels.iter().filter_map(|label| weights.get(*label as usize)).sum())
}

/// Checks weights that were given as a list.
pub(super) fn check_weights(weights: Option<&ClassWeights>, classes: usize) -> Result<()> {
    let Some(ClassWeights::List(weights)) = weights else { return Ok(()) };
    let valid = weights.len() == classes
        && weights.iter().all(|weight| *weight >= 0.0 && weight.is_finite())
        && weights.iter().any(|weight| *weight > 0.0);
    let expected = format!("{classes} numbers, one for each class, none negative");
    require(valid, "class_weights", format!("{weights:?}"), &expected)
}

/// `the loss weights classes by 0.67 to 2`.
pub(super) fn told(weights: &[f64]) -> String {
    let low = weights.iter().copied().fold(f64::INFINITY, f64::min);
    let high = weights.iter().copied().fold(0.0, f64::max);
    format!("the loss weights classes by {low:.3} to {high:.3}")
}
