//! The curves of a training run: loss, accuracy and learning rate over the epochs, side by side.

mod file;
pub(crate) mod panel;
pub(crate) mod series;

use std::path::Path;

use candle_vision_train::History;
use candle_vision_train::write_atomically;

use crate::Result;
use crate::axis::{Axis, scientific};
use crate::canvas::{Align, Area, Canvas, Font, shorten_middle};
use crate::palette::{BLUE, FAINT_BLUE, GREEN, INK, MUTED, SERIES, VERMILLION};
pub use file::CurvesFile;
use panel::{Best, Line, Mark, Panel};
use series::{Segments, Timeline, epoch_segments, range, robust_range};

/// Width of the image in pixels with three panels. Its text is legible down to two thirds of this size.
const WIDTH: f64 = 1800.0;
const HEIGHT: f64 = 600.0;
const MARGIN: f64 = 28.0;
const GAP: f64 = 44.0;

/// Draws the curves of a run into a PNG of 1800 x 600 pixels.
///
/// The first panel shows the loss: training, validation and each batch. The second shows the accuracy in
/// percent, with the best epoch marked. The third shows the learning rate. If the run measured other metrics, a fourth shows
/// them, and the image is wider by it.
///
/// The history may be empty: the image then says that nothing is recorded. A value that is not finite
/// leaves a gap in its curve. The file is replaced as a whole.
///
/// # Errors
/// If the file cannot be written.
///
/// # Example
/// ```
/// use candle_vision_report::curves_png;
/// use candle_vision_train::History;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let folder = tempfile::tempdir()?;
/// curves_png(&History::default(), "ants and bees", folder.path().join("curves.png"))?;
/// # Ok(())
/// # }
/// ```
pub fn curves_png(history: &History, title: &str, path: impl AsRef<Path>) -> Result<()> {
    Ok(write_atomically(path, &draw(history, title)?.into_png()?)?)
}

/// Writes the same image as [`curves_png`] as an SVG document, which a page can scale.
///
/// # Errors
/// If the file cannot be written.
pub fn curves_svg(history: &History, title: &str, path: impl AsRef<Path>) -> Result<()> {
    Ok(write_atomically(path, draw(history, title)?.into_svg().as_bytes())?)
}

fn draw(history: &History, title: &str) -> Result<Canvas> {
    let of_metrics = metrics(history);
    let of_panel = (WIDTH - 2.0 * MARGIN - 2.0 * GAP) / 3.0;
    let whole = if of_metrics.is_some() { WIDTH + of_panel + GAP } else { WIDTH };
    let mut canvas = Canvas::new(whole, HEIGHT)?;
    let font = Font::new(26, INK).bold();
    let left = MARGIN + panel::LEFT;
    let heading = shorten_middle(title, font, whole - left - MARGIN);
    canvas.text((left, MARGIN + 20.0), &heading, font, Align::Left);

    if history.epochs.is_empty() && history.batches.is_empty() {
        let font = Font::new(22, MUTED);
        canvas.text((WIDTH / 2.0, HEIGHT / 2.0), "nothing recorded yet", font, Align::Center);
        return Ok(canvas);
    }
    let top = MARGIN + 50.0;
    for (index, panel) in panels(history).iter().chain(&of_metrics).enumerate() {
        let x = MARGIN + index as f64 * (of_panel + GAP);
        panel.draw(&mut canvas, Area { x, y: top, width: of_panel, height: HEIGHT - top - MARGIN });
    }
    Ok(canvas)
}

/// The panels of loss, accuracy and learning rate.
pub(crate) fn panels(history: &History) -> [Panel; 3] {
    let timeline = Timeline::of(history);
    [loss(history, &timeline), accuracy(history, &timeline), rate(history, &timeline)]
}

/// The panel of the metrics that a run measured beside loss and accuracy, if there are any.
pub(crate) fn metrics(history: &History) -> Option<Panel> {
    let line = |(index, name): (usize, &str)| Line {
        label: name.to_owned().into(),
        color: SERIES[index % SERIES.len()],
        mark: Mark::Square,
        width: 3.0,
        segments: epoch_segments(history, |epoch| {
            epoch.metrics.get(name).copied().unwrap_or(f64::NAN)
        }),
    };
    let lines: Vec<Line> = history.metric_names().into_iter().enumerate().map(line).collect();
    let segments: Vec<&Segments> = lines.iter().map(|line| &line.segments).collect();
    let (low, high) = range(&segments)?;
    Some(Panel {
        title: "metrics",
        x: Timeline::of(history).axis(),
        x_title: "epoch",
        describe_x: describe_epoch,
        y: Axis::linear(low, high, (f64::NEG_INFINITY, f64::INFINITY)),
        describe: describe_loss,
        lines,
        best: None,
    })
}

/// A point in time as text.
pub(crate) fn describe_epoch(x: f64) -> String {
    if x.fract() == 0.0 { format!("epoch {x}") } else { format!("epoch {x:.2}") }
}

/// A loss with enough digits to tell two of them apart. One that went astray must not be wider than its column.
pub(crate) fn describe_loss(loss: f64) -> String {
    if loss.abs() < 1e4 { format!("{loss:.4}") } else { scientific(loss) }
}

/// A percentage as text.
pub(crate) fn describe_percent(percent: f64) -> String {
    format!("{percent:.2} %")
}

fn loss(history: &History, timeline: &Timeline) -> Panel {
    let train = epoch_segments(history, |epoch| epoch.train_loss);
    let validation = epoch_segments(history, |epoch| epoch.val_loss);
    let batches = timeline.batch_losses(history);
    let (low, high) = robust_range(&[&train, &validation], &batches);
    Panel {
        title: "loss",
        x: timeline.axis(),
        x_title: "epoch",
        describe_x: describe_epoch,
        y: loss_axis(low, high),
        describe: describe_loss,
        lines: vec![
            Line {
                label: "each batch".into(),
                color: FAINT_BLUE,
                mark: Mark::None,
                width: 2.0,
                segments: batches,
            },
            training_line(train),
            validation_line(validation),
        ],
        best: None,
    }
}

/// An axis that starts at 0, unless that would flatten the curves. If one loss is a thousand times another, it is
/// logarithmic.
pub(crate) fn loss_axis(low: f64, high: f64) -> Axis {
    if low > 0.0 && high > 1e3 * low {
        return Axis::log(low, high);
    }
    let low = if (0.0..0.4 * high).contains(&low) { 0.0 } else { low };
    Axis::linear(low, high, (low.min(0.0), f64::INFINITY))
}

fn accuracy(history: &History, timeline: &Timeline) -> Panel {
    let train = epoch_segments(history, |epoch| 100.0 * epoch.train_accuracy);
    let validation = epoch_segments(history, |epoch| 100.0 * epoch.val_accuracy);
    let (low, high) = range(&[&train, &validation]).unwrap_or((0.0, 100.0));
    let best = history.best().filter(|epoch| epoch.val_accuracy.is_finite()).map(|epoch| {
        let percent = 100.0 * epoch.val_accuracy;
        Best {
            at: (epoch.epoch as f64, percent),
            label: format!("best {percent:.2} % in epoch {}", epoch.epoch),
        }
    });
    Panel {
        title: "accuracy in percent",
        x: timeline.axis(),
        x_title: "epoch",
        describe_x: describe_epoch,
        y: Axis::linear(low, high, (0.0, 100.0)),
        describe: describe_percent,
        lines: vec![training_line(train), validation_line(validation)],
        best,
    }
}

fn training_line(segments: Segments) -> Line {
    Line { label: "training".into(), color: BLUE, mark: Mark::Disc, width: 3.0, segments }
}

fn validation_line(segments: Segments) -> Line {
    Line { label: "validation".into(), color: VERMILLION, mark: Mark::Square, width: 3.0, segments }
}

fn rate(history: &History, timeline: &Timeline) -> Panel {
    let segments = timeline.learning_rates(history);
    Panel {
        title: "learning rate",
        x: timeline.axis(),
        x_title: "epoch",
        describe_x: describe_epoch,
        y: rate_axis(history, &segments),
        describe: scientific,
        lines: vec![Line {
            label: "".into(),
            color: GREEN,
            mark: Mark::None,
            width: 3.0,
            segments,
        }],
        best: None,
    }
}

/// The axis of the learning rate. Stepped rates over a decade or more get a logarithmic axis, where low
/// steps can be told apart. Smooth schedules keep their familiar shape on a linear axis.
fn rate_axis(history: &History, segments: &Segments) -> Axis {
    let (low, high) = range(&[segments]).unwrap_or((0.0, 1.0));
    let mut rates: Vec<f64> = history.epochs.iter().map(|epoch| epoch.lr).collect();
    rates.sort_by(f64::total_cmp);
    rates.dedup();
    let stepwise = 2 * rates.len() <= history.epochs.len();
    if stepwise && low > 0.0 && high / low >= 9.0 {
        Axis::log(low, high)
    } else {
        Axis::linear(0.0, high, (0.0, f64::INFINITY))
    }
}

#[cfg(test)]
mod tests {
    use candle_vision_train::{BatchRecord, EpochRecord};

    use super::*;

    fn epoch(epoch: usize, val_accuracy: f64, lr: f64) -> EpochRecord {
        let mut record = EpochRecord::new(epoch);
        record.train_loss = 1.0 / epoch as f64;
        record.train_accuracy = 0.5;
        record.val_loss = 1.2 / epoch as f64;
        record.val_accuracy = val_accuracy;
        record.lr = lr;
        record.seconds = 1.0;
        record.images_per_second = 100.0;
        record
    }

    fn run(accuracies: &[f64]) -> History {
        let epochs: Vec<EpochRecord> =
            accuracies.iter().enumerate().map(|(i, a)| epoch(i + 1, *a, 1e-3)).collect();
        let batches = (0..4 * epochs.len())
            .map(|i| BatchRecord { step: i + 1, epoch: i / 4 + 1, loss: 1.0, lr: 1e-3 })
            .collect();
        History { epochs, batches }
    }

    fn svg(history: &History) -> String {
        draw(history, "run").expect("drawable").into_svg()
    }

    #[test]
    fn the_best_epoch_is_named() {
        let text = svg(&run(&[0.5, 0.9412, 0.9412, 0.8]));
        assert!(text.contains("best 94.12 % in epoch 2"), "{text}");
    }

    #[test]
    fn metrics_have_a_panel_of_their_own() {
        let mut history = run(&[0.5, 0.6]);
        assert!(metrics(&history).is_none() && !svg(&history).contains("metrics"));
        for (epoch, value) in history.epochs.iter_mut().zip([0.25, 0.75]) {
            epoch.metrics.insert("macro_f1".to_owned(), value);
        }
        let panel = metrics(&history).expect("a metric was measured");
        assert_eq!(panel.lines[0].segments, [[(1.0, 0.25), (2.0, 0.75)]]);
        let text = svg(&history);
        assert!(text.contains("macro_f1") && text.contains("metrics"), "{text}");
    }

    #[test]
    fn a_loss_that_went_astray_leaves_the_others_legible() {
        assert_eq!([2.25, 4.258e12].map(describe_loss), ["2.2500", "4.26e12"]);
        let axis = loss_axis(2.3, 4.258e12);
        assert!((0.0..0.05).contains(&axis.position(2.3)) && axis.position(100.0) > 0.1);
        assert_eq!(loss_axis(0.1, 2.0).position(0.0), 0.0);
    }

    #[test]
    fn any_history_can_be_drawn() {
        let nan = f64::NAN;
        let mut lost = run(&[0.5, nan, 0.7]);
        lost.epochs[1].train_loss = nan;
        lost.epochs[2].val_loss = f64::INFINITY;
        lost.batches[3].loss = nan;
        let mut gap = run(&[0.5, 0.6, 0.7]);
        gap.epochs.remove(1);
        let no_batches = History { batches: Vec::new(), ..run(&[0.5, 0.6]) };
        let no_validation = run(&[nan, nan]);
        for history in [History::default(), run(&[0.9]), lost, gap, no_batches, no_validation] {
            let text = svg(&history);
            assert!(!text.contains("NaN") && !text.contains("inf"), "{text}");
        }
        assert!(svg(&History::default()).contains("nothing recorded yet"));
    }

    #[test]
    fn a_step_schedule_gets_a_logarithmic_axis_and_a_cosine_does_not() {
        let history = |rates: &[f64]| History {
            epochs: rates.iter().enumerate().map(|(i, lr)| epoch(i + 1, 0.5, *lr)).collect(),
            batches: Vec::new(),
        };
        let steps = history(&[1e-3, 1e-3, 1e-3, 1e-4, 1e-4, 1e-4]);
        assert!(svg(&steps).contains("5e-4") && svg(&steps).contains("1e-4"));
        let cosine = history(&[1e-3, 9e-4, 6e-4, 3e-4, 1e-4, 1e-5]);
        assert!(svg(&cosine).contains("6e-4") && !svg(&cosine).contains("1e-5"));
    }
}
