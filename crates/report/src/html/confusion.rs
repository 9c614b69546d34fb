//! The confusion matrix and the scores of each class, as tables.

use candle_vision_train::Evaluation;
use candle_vision_train::metrics::confused_pairs;
use serde::Serialize;

/// Largest number of classes with a matrix. A larger matrix would exceed the rest of the page.
const MOST_CLASSES: usize = 60;
const MOST_PAIRS: usize = 10;

/// A cell of the matrix.
#[derive(Debug, Serialize)]
struct Cell {
    count: usize,
    /// The fraction of the images of its class, `0.0..=1.0`.
    share: f64,
    words: String,
}

#[derive(Debug, Serialize)]
struct Row<'a> {
    class: &'a str,
    cells: Vec<Cell>,
}

#[derive(Debug, Serialize)]
struct Pair<'a> {
    label: &'a str,
    predicted: &'a str,
    count: usize,
    share: f64,
}

#[derive(Debug, Serialize)]
struct Scores<'a> {
    class: &'a str,
    precision: Option<f64>,
    recall: Option<f64>,
    f1: Option<f64>,
    support: usize,
}

/// The values about the classes for the template.
#[derive(Debug, Serialize)]
pub(super) struct Classes<'a> {
    names: &'a [String],
    /// Whether images may have several of them. Then none is taken for another, and there is no matrix.
    several: bool,
    /// The rows of the matrix. They are empty if there are too many classes.
    matrix: Vec<Row<'a>>,
    pairs: Vec<Pair<'a>>,
    scores: Vec<Scores<'a>>,
}

impl<'a> Classes<'a> {
    /// The confusion matrix is square, with one row per entry of `names`.
    pub(super) fn of(evaluation: &Evaluation, names: &'a [String]) -> Self {
        let (confusion, several) = (&evaluation.confusion, evaluation.is_multi_label());
        let has_matrix = !several && names.len() <= MOST_CLASSES;
        let matrix = if has_matrix { matrix(confusion, names) } else { Vec::new() };
        let pair = |pair: candle_vision_train::metrics::ConfusedPair| Pair {
            label: &names[pair.label],
            predicted: &names[pair.predicted],
            count: pair.count,
            share: pair.share,
        };
        let pairs = confused_pairs(confusion, MOST_PAIRS).into_iter().map(pair).collect();
        let scores =
            evaluation.class_scores().into_iter().zip(names).map(|(score, class)| Scores {
                class,
                precision: score.precision,
                recall: score.recall,
                f1: score.f1,
                support: score.support,
            });
        Self { names, several, matrix, pairs, scores: scores.collect() }
    }
}

fn matrix<'a>(confusion: &[Vec<usize>], names: &'a [String]) -> Vec<Row<'a>> {
    let row = |(row, class): (&Vec<usize>, &'a String)| {
        let total: usize = row.iter().sum();
        let cell = |(&count, predicted): (&usize, &String)| {
            let share = count as f64 / total.max(1) as f64;
            let percent = 100.0 * share;
            let taken = format!("{class}, taken for {predicted}");
            Cell { count, share, words: format!("{taken}: {count} of {total} ({percent:.1} %)") }
        };
        Row { class, cells: row.iter().zip(names).map(cell).collect() }
    };
    confusion.iter().zip(names).map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn evaluation(confusion: Vec<Vec<usize>>) -> Evaluation {
        Evaluation { loss: 0.5, accuracy: 0.5, predictions: Vec::new(), confusion }
    }

    #[test]
    fn rows_are_true_classes() {
        let names = ["ants".to_owned(), "bees".to_owned()];
        let evaluation = evaluation(vec![vec![3, 1], vec![0, 0]]);
        let classes = Classes::of(&evaluation, &names);
        assert_eq!(classes.matrix[0].cells[1].words, "ants, taken for bees: 1 of 4 (25.0 %)");
        assert_eq!(classes.matrix[1].cells[0].share, 0.0);
        assert_eq!((classes.pairs[0].label, classes.pairs[0].predicted), ("ants", "bees"));
        assert_eq!(classes.scores[1].recall, None);
    }

    #[test]
    fn a_matrix_of_a_thousand_classes_is_left_out() {
        let names: Vec<String> = (0..1000).map(|class| class.to_string()).collect();
        let evaluation = evaluation(vec![vec![0; 1000]; 1000]);
        let classes = Classes::of(&evaluation, &names);
        assert!(classes.matrix.is_empty() && classes.scores.len() == 1000);
    }
}
