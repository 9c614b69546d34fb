//! Calibration: whether a network is right as often as its probabilities say.

use crate::Prediction;

/// Predictions with about the same confidence.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ConfidenceBin {
    /// Number of predictions.
    pub count: usize,
    /// Their mean confidence, `0.0..=1.0`. It is 0 for an empty bin.
    pub confidence: f64,
    /// The fraction of them that is right, `0.0..=1.0`. It is 0 for an empty bin.
    pub accuracy: f64,
}

/// How well a network's confidence matches its accuracy.
#[derive(Debug, Clone, PartialEq)]
pub struct Calibration {
    /// Bins of equal width from confidence 0 to 1.
    pub bins: Vec<ConfidenceBin>,
    /// Expected calibration error, `0.0..=1.0`: the mean distance between accuracy and confidence over the
    /// bins. Each bin is weighted by its number of predictions.
    pub expected_error: f64,
}

/// Reliability diagram and expected calibration error (Guo et al. 2017, <https://arxiv.org/abs/1706.04599>,
/// equation 3). It has `bins` bins of equal width. Bin `i` holds confidences in
/// `(i / bins, (i + 1) / bins]`.
///
/// Predictions whose probability is not a number are left out.
///
/// # Panics
/// If `bins` is 0.
///
/// ```
/// use candle_vision_train::Prediction;
/// use candle_vision_train::metrics::calibration;
///
/// let sure = Prediction { index: 0, label: 1, predicted: 0, probability: 0.9, loss: 2.3, label_sets: None };
/// assert!((calibration(&[sure], 10).expected_error - 0.9).abs() < 1e-12);
/// ```
pub fn calibration(predictions: &[Prediction], bins: usize) -> Calibration {
    assert!(bins > 0, "a calibration has at least one bin");
    let empty = ConfidenceBin { count: 0, confidence: 0.0, accuracy: 0.0 };
    let mut sums = vec![empty; bins];
    let certain = predictions.iter().filter(|prediction| !prediction.probability.is_nan());
    for prediction in certain {
        let place = (prediction.probability * bins as f64).ceil() as usize;
        let bin = &mut sums[place.clamp(1, bins) - 1];
        bin.count += 1;
        bin.confidence += prediction.probability;
        bin.accuracy += f64::from(prediction.names_a_label());
    }
    let total: usize = sums.iter().map(|bin| bin.count).sum();
    let gaps = sums.iter().map(|bin| (bin.accuracy - bin.confidence).abs());
    let expected_error = gaps.sum::<f64>() / total.max(1) as f64;
    let mean = |bin: &ConfidenceBin| {
        let count = bin.count.max(1) as f64;
        ConfidenceBin { confidence: bin.confidence / count, accuracy: bin.accuracy / count, ..*bin }
    };
    Calibration { bins: sums.iter().map(mean).collect(), expected_error }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn predictions(answers: &[(f64, bool)]) -> Vec<Prediction> {
        let prediction = |(index, &(probability, right)): (usize, &(f64, bool))| Prediction {
            index,
            label: 0,
            predicted: u32::from(!right),
            probability,
            loss: 0.0,
            label_sets: None,
        };
        answers.iter().enumerate().map(prediction).collect()
    }

    #[test]
    fn the_error_is_the_weighted_gap() {
        // Bin (0.5, 0.6]: confidence 0.58, accuracy 1/2. Bin (0.9, 1]: 0.97, 1.
        let answers = [(0.56, true), (0.6, false), (0.95, true), (0.97, true), (0.99, true)];
        let found = calibration(&predictions(&answers), 10);
        let expected = 2.0 / 5.0 * 0.08 + 3.0 / 5.0 * 0.03;
        assert!((found.expected_error - expected).abs() < 1e-12, "{found:?}");
        let counts: Vec<usize> = found.bins.iter().map(|bin| bin.count).collect();
        assert_eq!(counts, [0, 0, 0, 0, 0, 2, 0, 0, 0, 3]);
        assert!((found.bins[5].confidence - 0.58).abs() < 1e-12);
        assert_eq!(found.bins[5].accuracy, 0.5);
    }

    #[test]
    fn ends_and_what_is_no_number() {
        let found = calibration(&predictions(&[(0.0, false), (1.0, true), (f64::NAN, true)]), 4);
        let counts: Vec<usize> = found.bins.iter().map(|bin| bin.count).collect();
        assert_eq!(counts, [1, 0, 0, 1]);
        assert_eq!(found.expected_error, 0.0);
        assert_eq!(calibration(&[], 3).expected_error, 0.0);
    }
}
