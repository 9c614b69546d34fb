//! Converts the records of a run to points over its epochs.

use candle_vision_train::{EpochRecord, History};

use crate::axis::Axis;

/// A curve in pieces. Values that are not finite and epochs that are not recorded leave gaps.
pub(crate) type Segments = Vec<Vec<(f64, f64)>>;

/// Number of buckets that a long curve is reduced to. More cannot be told apart on a panel.
const BUCKETS: usize = 500;
const MOST_TICKS: usize = 10;

/// Positions of a run's records in time. Epoch `n` reaches from `n - 1` to `n`.
pub(super) struct Timeline {
    last_epoch: usize,
    /// The end of each batch, in the order of the records.
    batch_ends: Vec<f64>,
    batch_length: f64,
}

impl Timeline {
    pub(super) fn of(history: &History) -> Self {
        // An epoch that is still running, or was cut short, must not be stretched to a full one.
        let mut most = 1;
        let mut within = Vec::with_capacity(history.batches.len());
        for (index, batch) in history.batches.iter().enumerate() {
            let same = index > 0 && history.batches[index - 1].epoch == batch.epoch;
            let number = if same { within[index - 1] + 1 } else { 1 };
            most = most.max(number);
            within.push(number);
        }
        let batch_length = 1.0 / most as f64;
        let start = |epoch: usize| epoch.saturating_sub(1) as f64;
        let ends = history.batches.iter().zip(&within);
        let batch_ends = ends.map(|(b, number)| start(b.epoch) + *number as f64 * batch_length);
        let epochs = history.epochs.iter().map(|epoch| epoch.epoch);
        let last_epoch = epochs.chain(history.batches.iter().map(|batch| batch.epoch)).max();
        Self { batch_ends: batch_ends.collect(), last_epoch: last_epoch.unwrap_or(1), batch_length }
    }

    pub(super) fn axis(&self) -> Axis {
        Axis::epochs(self.last_epoch, MOST_TICKS)
    }

    pub(super) fn batch_losses(&self, history: &History) -> Segments {
        let losses = history.batches.iter().map(|batch| batch.loss);
        let points: Vec<(f64, f64)> = self.batch_ends.iter().copied().zip(losses).collect();
        let pieces = pieces(&points, 1.0 + 1.5 * self.batch_length);
        pieces.into_iter().map(|piece| thinned(piece, self.last_epoch)).collect()
    }

    /// The rates of the batches if they are recorded, otherwise of the epochs. A rate holds from the start
    /// of its batch or epoch to the end.
    pub(super) fn learning_rates(&self, history: &History) -> Segments {
        let steps: Vec<(f64, f64, f64)> = if history.batches.is_empty() {
            let epochs = history.epochs.iter();
            epochs.map(|e| (e.epoch.saturating_sub(1) as f64, e.epoch as f64, e.lr)).collect()
        } else {
            let batches = self.batch_ends.iter().zip(&history.batches);
            batches.map(|(end, batch)| (end - self.batch_length, *end, batch.lr)).collect()
        };
        let corners: Vec<(f64, f64)> =
            steps.iter().flat_map(|(start, end, lr)| [(*start, *lr), (*end, *lr)]).collect();
        let pieces = pieces(&corners, 1.0 + 1e-9);
        pieces.into_iter().map(|piece| thinned(piece, self.last_epoch)).collect()
    }
}

/// One point per epoch, at the epoch's end.
pub(crate) fn epoch_segments(history: &History, value: impl Fn(&EpochRecord) -> f64) -> Segments {
    let points: Vec<(f64, f64)> =
        history.epochs.iter().map(|epoch| (epoch.epoch as f64, value(epoch))).collect();
    segments(&points)
}

/// A curve over whole numbers, in pieces where a value is not finite or a number is left out.
pub(crate) fn segments(points: &[(f64, f64)]) -> Segments {
    pieces(points, 1.5)
}

/// Splits a curve where a value is not finite or a step is longer than `longest_step`.
fn pieces(points: &[(f64, f64)], longest_step: f64) -> Segments {
    let mut pieces: Segments = Vec::new();
    let mut last: Option<f64> = None;
    for &(x, y) in points {
        if !y.is_finite() {
            last = None;
            continue;
        }
        match (pieces.last_mut(), last) {
            (Some(piece), Some(before)) if x - before <= longest_step => piece.push((x, y)),
            _ => pieces.push(vec![(x, y)]),
        }
        last = Some(x);
    }
    pieces
}

/// At most two points per bucket: its lowest and its highest. The eye sees no more of a curve that has more
/// points than pixels.
fn thinned(points: Vec<(f64, f64)>, last_epoch: usize) -> Vec<(f64, f64)> {
    if points.len() <= 2 * BUCKETS {
        return points;
    }
    let width = last_epoch as f64 / BUCKETS as f64;
    let bucket = |point: &(f64, f64)| (point.0 / width) as usize;
    let mut kept = Vec::new();
    for group in points.chunk_by(|a, b| bucket(a) == bucket(b)) {
        let by_value = |a: &&(f64, f64), b: &&(f64, f64)| a.1.total_cmp(&b.1);
        let ends = (group.iter().min_by(by_value), group.iter().max_by(by_value));
        if let (Some(&low), Some(&high)) = ends {
            kept.extend(if low.0 <= high.0 { [low, high] } else { [high, low] });
        }
    }
    kept
}

fn values(segments: &Segments) -> impl Iterator<Item = f64> {
    segments.iter().flatten().map(|point| point.1)
}

/// The lowest and the highest value. `None` if there are no values.
pub(crate) fn range(curves: &[&Segments]) -> Option<(f64, f64)> {
    let values = || curves.iter().flat_map(|curve| values(curve));
    Some((values().min_by(f64::total_cmp)?, values().max_by(f64::total_cmp)?))
}

/// The range of the epochs' curves and of the batches, without the highest 2 % of the batches. A single
/// extreme batch must not flatten everything else.
pub(super) fn robust_range(epochs: &[&Segments], batches: &Segments) -> (f64, f64) {
    let mut sorted: Vec<f64> = values(batches).collect();
    sorted.sort_by(f64::total_cmp);
    let usual = sorted.get(sorted.len() * 98 / 100).or(sorted.last()).copied();
    match (range(epochs), sorted.first().copied().zip(usual)) {
        (Some((a, b)), Some((c, d))) => (a.min(c), b.max(d)),
        (Some(range), None) | (None, Some(range)) => range,
        (None, None) => (0.0, 1.0),
    }
}

#[cfg(test)]
mod tests {
    use candle_vision_train::BatchRecord;

    use super::*;

    fn batches(epochs: &[usize]) -> History {
        let batch = |(i, epoch): (usize, &usize)| BatchRecord {
            step: i + 1,
            epoch: *epoch,
            loss: i as f64,
            lr: 0.1,
        };
        History { epochs: Vec::new(), batches: epochs.iter().enumerate().map(batch).collect() }
    }

    #[test]
    fn batches_lie_within_their_epoch_and_a_running_one_is_not_stretched() {
        let timeline = Timeline::of(&batches(&[1, 1, 2, 2, 3]));
        assert_eq!(timeline.batch_ends, [0.5, 1.0, 1.5, 2.0, 2.5]);
        assert_eq!(timeline.last_epoch, 3);
    }

    #[test]
    fn a_rate_holds_from_start_to_end() {
        let history = batches(&[1, 1]);
        let rates = Timeline::of(&history).learning_rates(&history);
        assert_eq!(rates, [[(0.0, 0.1), (0.5, 0.1), (0.5, 0.1), (1.0, 0.1)]]);
    }

    #[test]
    fn gaps_split_a_curve() {
        let points = [(1.0, 0.5), (2.0, f64::NAN), (3.0, 0.4), (4.0, 0.3), (7.0, 0.2)];
        let expected = vec![vec![(1.0, 0.5)], vec![(3.0, 0.4), (4.0, 0.3)], vec![(7.0, 0.2)]];
        assert_eq!(pieces(&points, 1.5), expected);
    }

    #[test]
    fn thinning_keeps_the_extremes() {
        let mut points: Vec<(f64, f64)> =
            (0..100_000).map(|i| (f64::from(i) / 1e4, f64::from(i % 7))).collect();
        points[54_321].1 = 99.0;
        let kept = thinned(points, 10);
        assert!(kept.len() <= 2 * (BUCKETS + 1), "{}", kept.len());
        assert!(kept.iter().any(|point| point.1 == 99.0));
        assert!(kept.is_sorted_by(|a, b| a.0 <= b.0));
    }

    #[test]
    fn one_wild_batch_does_not_set_the_range() {
        let mut losses: Vec<(f64, f64)> = (0..200).map(|i| (f64::from(i), 1.0)).collect();
        losses[3].1 = 1e6;
        let epochs = vec![vec![(1.0, 0.5), (2.0, 1.5)]];
        assert_eq!(robust_range(&[&epochs], &vec![losses]), (0.5, 1.5));
        assert_eq!(robust_range(&[], &Vec::new()), (0.0, 1.0));
    }
}
