//! Accuracy, errors per class, and calibration.
//!
//! A [`Metric`] is a number that a run measures in each epoch. The functions take predictions that were
//! already made.

mod calibration;
mod classes;
mod exact_match;
mod macro_f1;
mod mean_average_precision;
mod metric;
mod multi_label_f1;
mod top_k;
mod wilson;

pub use calibration::{Calibration, ConfidenceBin, calibration};
pub(crate) use classes::label_scores;
pub use classes::{ClassScores, ConfusedPair, class_scores, confused_pairs};
pub use exact_match::ExactMatch;
pub(crate) use exact_match::count_exact;
pub use macro_f1::MacroF1;
pub use mean_average_precision::MeanAveragePrecision;
pub(crate) use metric::check_metric;
pub use metric::{Metric, MetricEntry, Metrics};
pub use multi_label_f1::{Average, MultiLabelF1};
pub use top_k::TopK;
pub use wilson::wilson_interval;

use candle_core::{DType, Tensor};

use crate::Result;

/// Fraction of rows whose label has the largest logit.
///
/// # Shapes
/// - `logits`: `[batch, classes]`, float; `labels`: `[batch]`, `u32`
/// - returns a fraction in `0.0..=1.0`; of equal logits the lower class counts as the larger one
///
/// # Errors
/// If a shape differs, the batch is empty, or a label is not below `classes`.
///
/// # Example
/// ```
/// use candle_core::{Device, Tensor};
///
/// let logits = Tensor::new(&[[0.1f32, 0.9], [0.8, 0.2]], &Device::Cpu)?;
/// let labels = Tensor::new(&[1u32, 1], &Device::Cpu)?;
/// assert_eq!(candle_vision_train::metrics::accuracy(&logits, &labels)?, 0.5);
/// # Ok::<(), candle_vision_train::Error>(())
/// ```
pub fn accuracy(logits: &Tensor, labels: &Tensor) -> Result<f64> {
    top_k_accuracy(logits, labels, 1)
}

/// Fraction of rows whose label is among the `k` largest logits.
///
/// # Shapes
/// - `logits`: `[batch, classes]`, float; `labels`: `[batch]`, `u32`
/// - returns a fraction in `0.0..=1.0`; of equal logits the lower class ranks first
///
/// # Errors
/// If a shape differs, the batch is empty, `k` is not in `1..=classes`, or a label is not below
/// `classes`.
///
/// # Example
/// ```
/// use candle_core::{Device, Tensor};
///
/// let logits = Tensor::new(&[[0.1f32, 0.6, 0.3], [0.8, 0.2, 0.0]], &Device::Cpu)?;
/// let labels = Tensor::new(&[2u32, 2], &Device::Cpu)?;
/// assert_eq!(candle_vision_train::metrics::top_k_accuracy(&logits, &labels, 2)?, 0.5);
/// # Ok::<(), candle_vision_train::Error>(())
/// ```
pub fn top_k_accuracy(logits: &Tensor, labels: &Tensor, k: usize) -> Result<f64> {
    let correct = count_in_top_k(logits, labels, k)?;
    Ok(correct as f64 / labels.elem_count() as f64)
}

/// Number of rows whose label is among the `k` largest logits.
pub(crate) fn count_in_top_k(logits: &Tensor, labels: &Tensor, k: usize) -> Result<usize> {
    let (batch, classes) = logits.dims2()?;
    if labels.dims() != [batch] || batch == 0 {
        let found = labels.dims();
        return Err(error(format!("expected one label for each of {batch} rows, got {found:?}")));
    }
    if k == 0 || k > classes {
        return Err(error(format!("k is {k}; with {classes} classes it is in 1..={classes}")));
    }
    let rows = logits.to_dtype(DType::F64)?.to_vec2::<f64>()?;
    let labels = labels.to_vec1::<u32>()?;
    let mut correct = 0;
    for (row, &label) in rows.iter().zip(&labels) {
        let Some(rank) = rank(row, label as usize) else {
            return Err(error(format!(
                "label {label} is not below the number of classes {classes}"
            )));
        };
        correct += usize::from(rank < k);
    }
    Ok(correct)
}

/// Number of classes that come before `label` when the classes are sorted by logit. NaN comes last.
pub(crate) fn rank(row: &[f64], label: usize) -> Option<usize> {
    let own = *row.get(label)?;
    if own.is_nan() {
        return Some(row.len());
    }
    let before = |&(class, &logit): &(usize, &f64)| logit > own || (logit == own && class < label);
    Some(row.iter().enumerate().filter(before).count())
}

fn error(message: String) -> crate::Error {
    crate::Error::Tensor(candle_core::Error::Msg(message))
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[track_caller]
    fn check(logits: [[f32; 3]; 2], labels: [u32; 2], k: usize, expected: f64) {
        let logits = Tensor::new(&logits, &Device::Cpu).unwrap();
        let labels = Tensor::new(&labels, &Device::Cpu).unwrap();
        assert_eq!(top_k_accuracy(&logits, &labels, k).unwrap(), expected);
    }

    #[test]
    fn ranks_count_from_the_largest() {
        let logits = [[3.0, 1.0, 2.0], [-1.0, -3.0, -2.0]];
        check(logits, [0, 1], 1, 0.5);
        check(logits, [2, 1], 2, 0.5);
        check(logits, [1, 1], 3, 1.0);
    }

    #[test]
    fn of_equal_logits_the_lower_class_ranks_first() {
        check([[1.0, 1.0, 1.0], [0.0, 2.0, 2.0]], [0, 1], 1, 1.0);
        check([[1.0, 1.0, 1.0], [0.0, 2.0, 2.0]], [1, 2], 1, 0.0);
    }

    #[test]
    fn a_network_that_says_nan_is_never_right() {
        check([[f32::NAN; 3], [f32::NAN; 3]], [0, 0], 3, 0.0);
    }

    #[test]
    fn wrong_arguments_are_errors() {
        let logits = Tensor::zeros((2, 3), DType::F32, &Device::Cpu).unwrap();
        let check = |labels: &[u32], k, expected: &str| {
            let labels = Tensor::new(labels, &Device::Cpu).unwrap();
            let error = top_k_accuracy(&logits, &labels, k).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        check(&[0], 1, "one label for each of 2 rows");
        check(&[0, 3], 1, "label 3 is not below");
        check(&[0, 1], 4, "k is 4");
        check(&[0, 1], 0, "k is 0");
    }
}
