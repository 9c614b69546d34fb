//! Scores per class, from a confusion matrix or from sets of labels.

use crate::evaluate::LabelSets;

/// Precision, recall and F1 of one class.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ClassScores {
    /// Fraction of the images predicted as this class that belong to it. `None` if none was predicted.
    pub precision: Option<f64>,
    /// Fraction of the class's images that were predicted correctly. `None` if the class has no images.
    pub recall: Option<f64>,
    /// Harmonic mean of precision and recall. It is 0 if no image was predicted correctly. `None` if the
    /// class has no images and was never predicted.
    pub f1: Option<f64>,
    /// Number of images of this class.
    pub support: usize,
}

/// Scores of each class.
///
/// - `confusion`: square, `confusion[label][predicted]`, as in
///   [`Evaluation`](crate::Evaluation::confusion)
///
/// # Panics
/// If `confusion` is not square.
///
/// ```
/// let scores = candle_vision_train::metrics::class_scores(&[vec![3, 1], vec![0, 2]]);
/// assert_eq!((scores[0].precision, scores[0].recall), (Some(1.0), Some(0.75)));
/// ```
pub fn class_scores(confusion: &[Vec<usize>]) -> Vec<ClassScores> {
    let scores = |class: usize| {
        let support = confusion[class].iter().sum();
        let predicted = confusion.iter().map(|row| row[class]).sum();
        ClassScores::of(confusion[class][class], predicted, support)
    };
    (0..confusion.len()).map(scores).collect()
}

impl ClassScores {
    fn of(right: usize, predicted: usize, support: usize) -> Self {
        let share = |part: usize, whole: usize| (whole > 0).then(|| part as f64 / whole as f64);
        Self {
            precision: share(right, predicted),
            recall: share(right, support),
            f1: share(2 * right, support + predicted),
            support,
        }
    }
}

/// Scores of each of so many classes, from images that may have several of them.
pub(crate) fn label_scores<'a>(
    images: impl IntoIterator<Item = &'a LabelSets>,
    classes: usize,
) -> Vec<ClassScores> {
    let (mut right, mut predicted, mut support) =
        (vec![0; classes], vec![0; classes], vec![0; classes]);
    for sets in images {
        for &label in &sets.labels {
            support[label as usize] += 1;
            right[label as usize] += usize::from(sets.predicted.contains(&label));
        }
        sets.predicted.iter().for_each(|&label| predicted[label as usize] += 1);
    }
    (0..classes).map(|c| ClassScores::of(right[c], predicted[c], support[c])).collect()
}

/// Images of one class that were predicted as another.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ConfusedPair {
    /// The true class.
    pub label: usize,
    /// The predicted class.
    pub predicted: usize,
    /// Number of images.
    pub count: usize,
    /// Their fraction of all images of the true class.
    pub share: f64,
}

/// The `most` pairs of classes that were confused most often, the most frequent first. Ties are ordered by
/// the larger fraction of the true class.
///
/// ```
/// let pairs = candle_vision_train::metrics::confused_pairs(&[vec![3, 1], vec![2, 2]], 5);
/// assert_eq!((pairs[0].label, pairs[0].predicted, pairs[0].count), (1, 0, 2));
/// ```
pub fn confused_pairs(confusion: &[Vec<usize>], most: usize) -> Vec<ConfusedPair> {
    let mut pairs = Vec::new();
    for (label, row) in confusion.iter().enumerate() {
        let support: usize = row.iter().sum();
        for (predicted, &count) in row.iter().enumerate() {
            if predicted != label && count > 0 {
                let share = count as f64 / support as f64;
                pairs.push(ConfusedPair { label, predicted, count, share });
            }
        }
    }
    pairs.sort_by(|a, b| b.count.cmp(&a.count).then(b.share.total_cmp(&a.share)));
    pairs.truncate(most);
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;

    // Labels 0 0 0 0 1 1 2 2 2, predictions 0 0 1 1 1 0 2 2 1, by hand.
    #[test]
    fn scores_are_shares_of_rows_and_columns() {
        let scores = class_scores(&[vec![2, 2, 0], vec![1, 1, 0], vec![0, 1, 2]]);
        let (third, two_thirds) = (1.0 / 3.0, 2.0 / 3.0);
        let expected =
            [(two_thirds, 0.5, 4.0 / 7.0, 4), (0.25, 0.5, third, 2), (1.0, two_thirds, 0.8, 3)];
        for (found, (precision, recall, f1, support)) in scores.iter().zip(expected) {
            for (found, expected) in
                [(found.precision, precision), (found.recall, recall), (found.f1, f1)]
            {
                assert!((found.unwrap() - expected).abs() < 1e-12, "{scores:?}");
            }
            assert_eq!(found.support, support);
        }
    }

    #[test]
    fn what_cannot_be_said_is_not_said() {
        // Class 1 neither occurs nor is predicted; class 0 occurs but is never predicted.
        let scores = class_scores(&[vec![0, 0, 2], vec![0; 3], vec![0, 0, 1]]);
        let nothing = ClassScores { precision: None, recall: None, f1: None, support: 0 };
        assert_eq!(scores[1], nothing);
        let missed = ClassScores { precision: None, recall: Some(0.0), f1: Some(0.0), support: 2 };
        assert_eq!(scores[0], missed);
    }

    #[test]
    fn pairs_are_ranked_by_count_then_share() {
        let confusion = [vec![9, 3, 0], vec![3, 1, 5], vec![0, 0, 4]];
        let pairs = confused_pairs(&confusion, 2);
        let ranked: Vec<(usize, usize)> = pairs.iter().map(|p| (p.label, p.predicted)).collect();
        // 3 of 9 + 3 against 3 of 3 + 1 + 5.
        assert_eq!(ranked, [(1, 2), (1, 0)]);
        assert!(confused_pairs(&[vec![4, 0], vec![0, 4]], 3).is_empty());
    }
}
