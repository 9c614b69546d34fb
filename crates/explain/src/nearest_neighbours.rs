//! Classification by the nearest features: how good a backbone is without training a head.

use candle_core::{DType, Device, Tensor};

use crate::{Error, Result};

/// Rows of the validation set whose similarities are held at a time.
const CHUNK: usize = 256;

/// The accuracy of a classifier that lets the `k` nearest features of a training set vote, a fraction in `0.0..=1.0`.
/// It is the protocol of DINO (`eval_knn.py`; Caron et al. 2021, <https://arxiv.org/abs/2104.14294>, after Wu et al.
/// 2018): features are compared by the cosine `s` of their angle, and each of the nearest votes for its class with the
/// weight `exp(s / temperature)`. DINO's values are `k = 20` and a temperature of 0.07. [`embeddings`](crate::embeddings)
/// gives features.
///
/// Of equally near features the earlier one counts, and of equal votes the lower class wins.
///
/// # Shapes
/// - `train_features`: `[training images, features]`, `val_features`: `[images, features]`, of any float type
/// - `train_labels` and `val_labels`: one class for each image
///
/// # Errors
/// If there are no images, the numbers of images, labels and features do not fit, `k` is 0, `temperature` is not
/// positive, or a feature is not finite. A `k` beyond the size of the training set stands for all of it.
///
/// # Example
/// ```
/// use candle_core::{Device, Tensor};
/// use candle_vision_explain::knn_accuracy;
///
/// let train = Tensor::new(&[[1f32, 0.1], [1.0, -0.1], [0.0, 2.0]], &Device::Cpu)?;
/// let val = Tensor::new(&[[3f32, 0.0], [0.1, 1.0]], &Device::Cpu)?;
/// assert_eq!(knn_accuracy(&train, &[0, 0, 1], &val, &[0, 1], 1, 0.07)?, 1.0);
/// assert_eq!(knn_accuracy(&train, &[0, 0, 1], &val, &[1, 1], 1, 0.07)?, 0.5);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn knn_accuracy(
    train_features: &Tensor,
    train_labels: &[u32],
    val_features: &Tensor,
    val_labels: &[u32],
    k: usize,
    temperature: f64,
) -> Result<f64> {
    let (train, val) = (normalised(train_features)?, normalised(val_features)?);
    let ((of_train, width), (of_val, val_width)) = (train.dims2()?, val.dims2()?);
    let counts = [of_train, of_val, width] == [train_labels.len(), val_labels.len(), val_width];
    if !counts || k == 0 || temperature.is_nan() || temperature <= 0.0 {
        return Err(candle_core::Error::Msg(format!(
            "knn_accuracy: features are [images, features] with a label for each image, `k` is at least 1 and the \
             temperature positive; got {:?} with {} labels and {:?} with {} labels, k {k} and temperature {temperature}",
            train.dims(),
            train_labels.len(),
            val.dims(),
            val_labels.len(),
        ))
        .into());
    }
    let (across, classes) =
        (train.t()?.contiguous()?, train_labels.iter().max().map_or(0, |&c| c as usize + 1));
    let mut right = 0;
    for start in (0..of_val).step_by(CHUNK) {
        let rows = val.narrow(0, start, CHUNK.min(of_val - start))?;
        let similarities = rows.matmul(&across)?.to_vec2::<f32>()?;
        for (row, label) in similarities.iter().zip(&val_labels[start..]) {
            let vote = vote(row, train_labels, classes, k, temperature);
            right += usize::from(vote == *label as usize);
        }
    }
    Ok(right as f64 / of_val as f64)
}

/// The class with the most votes.
fn vote(similarities: &[f32], labels: &[u32], classes: usize, k: usize, temperature: f64) -> usize {
    let mut nearest: Vec<usize> = (0..similarities.len()).collect();
    let by_nearness =
        |a: &usize, b: &usize| similarities[*b].total_cmp(&similarities[*a]).then_with(|| a.cmp(b));
    if k < nearest.len() {
        nearest.select_nth_unstable_by(k - 1, by_nearness);
        nearest.truncate(k);
    }
    // A sum of floats depends on its order.
    nearest.sort_unstable();
    let mut votes = vec![0f64; classes];
    for i in nearest {
        // The cosine is at most 1, so that nothing overflows.
        votes[labels[i] as usize] += ((f64::from(similarities[i]) - 1.0) / temperature).exp();
    }
    let mut best = 0;
    for (class, votes_of_class) in votes.iter().enumerate() {
        if *votes_of_class > votes[best] {
            best = class;
        }
    }
    best
}

/// Rows of length 1, on the CPU. A row of zeros stays.
fn normalised(features: &Tensor) -> Result<Tensor> {
    let features = features.detach().to_device(&Device::Cpu)?.to_dtype(DType::F32)?;
    let (rows, width) = features.dims2()?;
    if rows == 0 || width == 0 {
        return Err(Error::NoImages);
    }
    let length = features.sqr()?.sum_keepdim(1)?.sqrt()?;
    let lengths = length.flatten_all()?.to_vec1::<f32>()?;
    if let Some(index) = lengths.iter().position(|length| !length.is_finite()) {
        return Err(Error::NotFinite { index });
    }
    Ok(features.broadcast_div(&length.maximum(1e-12)?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn features(rows: usize, step: f64) -> Tensor {
        let x = Tensor::arange(0f32, rows as f32 * 4.0, &Device::Cpu).unwrap();
        (x * step).unwrap().sin().unwrap().reshape((rows, 4)).unwrap()
    }

    /// DINO's `knn_classifier`, for one batch:
    /// ```python
    /// import torch
    /// import torch.nn.functional as F
    /// f = lambda n, s: F.normalize((torch.arange(n * 4.) * s).sin().reshape(n, 4), dim=1)
    /// x, y, v, w = f(40, .7), torch.arange(40) * 7 % 5, f(30, 1.3), torch.arange(30) * 3 % 5
    /// def accuracy(k, t):
    ///     distances, indices = (v @ x.T).topk(k)
    ///     votes = F.one_hot(y[indices], 5) * (distances / t).exp()[..., None]
    ///     return (votes.sum(1).argmax(1) == w).float().mean().item()
    /// print([accuracy(1, .07), accuracy(5, .07), accuracy(20, .07), accuracy(20, 1.)])
    /// ```
    #[test]
    fn the_accuracy_is_that_of_dinos_protocol() -> Result<()> {
        let labels =
            |count: u32, factor: u32| -> Vec<u32> { (0..count).map(|i| i * factor % 5).collect() };
        for (k, temperature, expected) in CASES {
            let found = knn_accuracy(
                &features(40, 0.7),
                &labels(40, 7),
                &features(30, 1.3),
                &labels(30, 3),
                k,
                temperature,
            )?;
            assert!((found - expected).abs() < 1e-6, "{k} {temperature}: {found}, not {expected}");
        }
        Ok(())
    }

    const CASES: [(usize, f64, f64); 4] =
        [(1, 0.07, 7.0 / 30.0), (5, 0.07, 0.3), (20, 0.07, 7.0 / 30.0), (20, 1.0, 8.0 / 30.0)];

    #[test]
    fn what_does_not_fit_is_refused() -> Result<()> {
        let x = features(6, 0.7);
        let labels = [0, 1, 2, 0, 1, 2];
        assert_eq!(knn_accuracy(&x, &labels, &x, &labels, 1, 0.07)?, 1.0);
        // All of the training set.
        knn_accuracy(&x, &labels, &x, &labels, 100, 0.07)?;
        assert!(knn_accuracy(&x, &labels[1..], &x, &labels, 1, 0.07).is_err());
        assert!(knn_accuracy(&x, &labels, &x, &labels, 0, 0.07).is_err());
        assert!(knn_accuracy(&x, &labels, &x, &labels, 1, 0.0).is_err());
        let broken = (x.clone() * f64::NAN)?;
        let error = knn_accuracy(&x, &labels, &broken, &labels, 1, 0.07);
        assert!(matches!(error, Err(Error::NotFinite { index: 0 })));
        Ok(())
    }
}
