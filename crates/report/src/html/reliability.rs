//! The reliability diagram: accuracy against confidence.

use candle_vision_train::metrics::{Calibration, ConfidenceBin};
use serde::Serialize;

/// Side of the diagram's plot, in units of its SVG.
const SIDE: f64 = 240.0;

/// A reliability diagram in the form for its template.
#[derive(Debug, Serialize)]
pub(super) struct Reliability {
    side: f64,
    bars: Vec<Bar>,
    expected_error: f64,
}

/// One bin that is not empty.
#[derive(Debug, Serialize)]
struct Bar {
    left: f64,
    width: f64,
    top: f64,
    height: f64,
    /// Where the bar would end if the network were calibrated.
    confident: f64,
    from: f64,
    to: f64,
    count: usize,
    accuracy: f64,
    confidence: f64,
    words: String,
}

impl Reliability {
    pub(super) fn of(calibration: &Calibration) -> Self {
        let bins = calibration.bins.len();
        let filled = calibration.bins.iter().enumerate().filter(|(_, bin)| bin.count > 0);
        let bars = filled.map(|(index, bin)| Bar::of(index, bins, bin)).collect();
        Self { side: SIDE, bars, expected_error: calibration.expected_error }
    }
}

impl Bar {
    fn of(index: usize, bins: usize, bin: &ConfidenceBin) -> Self {
        let &ConfidenceBin { count, accuracy, confidence } = bin;
        let width = SIDE / bins as f64;
        let edge = |index: usize| index as f64 / bins as f64;
        let images = if count == 1 { "image" } else { "images" };
        Self {
            left: index as f64 * width,
            width,
            top: SIDE * (1.0 - accuracy),
            height: SIDE * accuracy,
            confident: SIDE * (1.0 - confidence),
            from: edge(index),
            to: edge(index + 1),
            count,
            accuracy,
            confidence,
            words: format!(
                "{count} {images} with a mean confidence of {:.1} %: {:.1} % right",
                100.0 * confidence,
                100.0 * accuracy
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_stand_over_their_confidence_and_reach_their_accuracy() {
        let empty = ConfidenceBin { count: 0, confidence: 0.0, accuracy: 0.0 };
        let bin = ConfidenceBin { count: 4, confidence: 0.6, accuracy: 0.25 };
        let calibration = Calibration { bins: vec![empty, bin], expected_error: 0.35 };
        let reliability = Reliability::of(&calibration);
        let [bar] = reliability.bars.as_slice() else { panic!("{reliability:?}") };
        assert_eq!((bar.left, bar.width), (120.0, 120.0));
        assert_eq!((bar.top, bar.height), (180.0, 60.0));
        assert_eq!(bar.words, "4 images with a mean confidence of 60.0 %: 25.0 % right");
    }
}
