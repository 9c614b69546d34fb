//! Several runs side by side: their curves in shared panels, and a table.

mod image;

use std::path::Path;

use candle_vision_train::{EpochRecord, GradientRecord, History, write_atomically};
use serde::Serialize;

use crate::axis::Axis;
use crate::canvas::Color;
use crate::curves::panel::{Line, Mark, Panel};
use crate::curves::series::{Segments, epoch_segments, range};
use crate::curves::{describe_epoch, describe_loss, describe_percent, loss_axis};
use crate::gradients;
use crate::html::chart::{Chart, hex};
use crate::html::template::{grouped, memory, render};
use crate::palette::SERIES;
use crate::{Error, Result};

/// More runs than this cannot be told apart by colour.
pub const MOST_RUNS: usize = SERIES.len();

/// One run of a comparison.
#[derive(Debug, Clone, Copy)]
pub struct ComparedRun<'a> {
    /// The name of the run.
    pub name: &'a str,
    /// The data set of the run.
    pub data: &'a str,
    /// The network of the run.
    pub network: &'a str,
    /// The initial weights of the run.
    pub weights: &'a str,
    /// Number of learned elements of the network, if it is known.
    pub parameters: Option<usize>,
    /// What was measured during training.
    pub history: &'a History,
    /// The norms of its gradients, if they were recorded.
    pub gradients: &'a [GradientRecord],
}

/// Draws a comparison of runs into a PNG that is 1800 pixels wide.
///
/// Validation accuracy, validation loss and training loss have one panel each, with the curves of all
/// runs. If runs recorded the norms of their gradients, two more panels show them by depth, in the first step and in the
/// last epoch. A table stands below the panels.
///
/// # Errors
/// If there is no run, if there are more than [`MOST_RUNS`], or if the file cannot be written.
///
/// # Example
/// ```
/// use candle_vision_report::{ComparedRun, comparison_png};
/// use candle_vision_train::History;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let history = History::default();
/// let run = |network| ComparedRun {
///     name: network,
///     data: "cifar10",
///     network,
///     weights: "none",
///     parameters: None,
///     history: &history,
///     gradients: &[],
/// };
/// let folder = tempfile::tempdir()?;
/// comparison_png(&[run("resnet18"), run("alexnet")], folder.path().join("compare.png"))?;
/// # Ok(())
/// # }
/// ```
pub fn comparison_png(runs: &[ComparedRun<'_>], path: impl AsRef<Path>) -> Result<()> {
    check(runs)?;
    Ok(write_atomically(path, &image::draw(runs)?.into_png()?)?)
}

/// Writes the same comparison as [`comparison_png`] into one HTML page, which needs no other file.
///
/// The page shows the values of a curve under the pointer. A click on a heading sorts the table.
///
/// # Errors
/// As [`comparison_png`].
pub fn comparison_html(runs: &[ComparedRun<'_>], path: impl AsRef<Path>) -> Result<()> {
    check(runs)?;
    Ok(write_atomically(path, page(runs)?.as_bytes())?)
}

fn check(runs: &[ComparedRun<'_>]) -> Result<()> {
    let count = runs.len();
    if (1..=MOST_RUNS).contains(&count) {
        Ok(())
    } else {
        Err(Error::RunCount { count, most: MOST_RUNS })
    }
}

fn page(runs: &[ComparedRun<'_>]) -> Result<String> {
    #[derive(Serialize)]
    struct Page<'a> {
        title: &'static str,
        charts: Vec<Chart>,
        columns: [&'static str; COLUMNS],
        rows: Vec<Row<'a>>,
    }
    let mut panels = Vec::from(panels(runs, true));
    panels.extend(gradient_panels(runs, true));
    let page = Page {
        title: "Runs compared",
        charts: panels.iter().map(Chart::of).collect(),
        columns: HEADER,
        rows: runs.iter().enumerate().map(|(index, run)| Row::of(index, run)).collect(),
    };
    render("comparison.html", &page)
}

const COLUMNS: usize = 11;
const HEADER: [&str; COLUMNS] = [
    "data",
    "network",
    "first weights",
    "parameters",
    "epochs",
    "best accuracy",
    "its loss",
    "in epoch",
    "s per epoch",
    "peak memory",
    "seconds",
];

/// A run's row in the table.
#[derive(Debug, Serialize)]
struct Row<'a> {
    name: &'a str,
    color: String,
    square: bool,
    cells: [Cell; COLUMNS],
}

#[derive(Debug, Default, Serialize)]
struct Cell {
    text: String,
    /// The value that the column is sorted by, if it holds numbers.
    value: Option<f64>,
}

impl Cell {
    fn text(text: &str) -> Self {
        Self { text: text.to_owned(), value: None }
    }

    fn number(text: String, value: f64) -> Self {
        Self { text, value: Some(value) }
    }
}

impl<'a> Row<'a> {
    fn of(index: usize, run: &ComparedRun<'a>) -> Self {
        let epochs = &run.history.epochs;
        let of_best = |words: fn(&EpochRecord) -> (String, f64)| {
            let best = run.history.best().map(words);
            best.map_or_else(Cell::default, |(text, value)| Cell::number(text, value))
        };
        let parameters = run.parameters.map(|n| Cell::number(grouped(n as u64), n as f64));
        let seconds: f64 = epochs.iter().map(|epoch| epoch.seconds).sum();
        let cells = [
            Cell::text(run.data),
            Cell::text(run.network),
            Cell::text(run.weights),
            parameters.unwrap_or_default(),
            Cell::number(epochs.len().to_string(), epochs.len() as f64),
            of_best(|best| (describe_percent(100.0 * best.val_accuracy), best.val_accuracy)),
            of_best(|best| (describe_loss(best.val_loss), best.val_loss)),
            of_best(|best| (best.epoch.to_string(), best.epoch as f64)),
            number(run.history.seconds_per_epoch(), |seconds| format!("{seconds:.1}")),
            number(run.history.peak_memory().map(|bytes| bytes as f64), |bytes| {
                memory(bytes as u64)
            }),
            Cell::number(format!("{seconds:.1}"), seconds),
        ];
        let (color, mark) = series(index);
        Self { name: run.name, color: hex(color), square: mark == Mark::Square, cells }
    }
}

/// The cell of a number that may not be known.
fn number(value: Option<f64>, text: impl Fn(f64) -> String) -> Cell {
    value.map_or_else(Cell::default, |value| Cell::number(text(value), value))
}

/// Colour and mark of a run. Neighbours differ in both.
fn series(index: usize) -> (Color, Mark) {
    let mark = if index.is_multiple_of(2) { Mark::Disc } else { Mark::Square };
    (SERIES[index % SERIES.len()], mark)
}

/// `named`: whether each panel has a legend.
fn panels(runs: &[ComparedRun<'_>], named: bool) -> [Panel; 3] {
    let percent = |epoch: &EpochRecord| 100.0 * epoch.val_accuracy;
    let curves = [
        lines(runs, named, percent),
        lines(runs, named, |epoch| epoch.val_loss),
        lines(runs, named, |epoch| epoch.train_loss),
    ];
    let [accuracy, validation, training] = curves;
    let (low, high) = range_of(&accuracy).unwrap_or((0.0, 100.0));
    let accuracy_axis = Axis::linear(low, high, (0.0, 100.0));
    let loss = |title, lines: Vec<Line>| {
        let (low, high) = range_of(&lines).unwrap_or((0.0, 1.0));
        let y = loss_axis(low, high);
        Panel {
            title,
            x: epochs(runs),
            x_title: "epoch",
            describe_x: describe_epoch,
            y,
            describe: describe_loss,
            lines,
            best: None,
        }
    };
    [
        Panel {
            title: "validation accuracy in percent",
            x: epochs(runs),
            x_title: "epoch",
            describe_x: describe_epoch,
            y: accuracy_axis,
            describe: describe_percent,
            lines: accuracy,
            best: None,
        },
        loss("validation loss", validation),
        loss("training loss", training),
    ]
}

/// The gradients by depth in the first step and in the last epoch. Nothing if no run recorded any.
fn gradient_panels(runs: &[ComparedRun<'_>], named: bool) -> Vec<Panel> {
    let lines = |record: for<'r> fn(&'r [GradientRecord]) -> Option<&'r GradientRecord>| {
        let line = |(index, run): (usize, &ComparedRun<'_>)| {
            let label = if named { run.name.to_owned() } else { String::new() };
            record(run.gradients).map(|record| gradients::line(label, index, record))
        };
        runs.iter().enumerate().filter_map(line).collect::<Vec<_>>()
    };
    let mut panels = Vec::new();
    if runs.iter().any(|run| !run.gradients.is_empty()) {
        panels.push(gradients::panel(
            "gradient norm by depth, first step",
            lines(<[GradientRecord]>::first),
        ));
    }
    if runs.iter().any(|run| run.gradients.len() > 1) {
        panels.push(gradients::panel(
            "gradient norm by depth, last epoch",
            lines(<[GradientRecord]>::last),
        ));
    }
    panels
}

fn lines(
    runs: &[ComparedRun<'_>],
    named: bool,
    value: impl Fn(&EpochRecord) -> f64 + Copy,
) -> Vec<Line> {
    let line = |(index, run): (usize, &ComparedRun<'_>)| {
        let (color, mark) = series(index);
        let label = if named { run.name.to_owned().into() } else { "".into() };
        Line { label, color, mark, width: 3.0, segments: epoch_segments(run.history, value) }
    };
    runs.iter().enumerate().map(line).collect()
}

fn range_of(lines: &[Line]) -> Option<(f64, f64)> {
    range(&lines.iter().map(|line| &line.segments).collect::<Vec<&Segments>>())
}

fn epochs(runs: &[ComparedRun<'_>]) -> Axis {
    let of_run = |run: &ComparedRun<'_>| run.history.epochs.last().map(|epoch| epoch.epoch);
    Axis::epochs(runs.iter().filter_map(of_run).max().unwrap_or(1), 10)
}

#[cfg(test)]
mod tests {
    use candle_vision_train::GradientNorm;

    use super::*;

    pub(super) fn history(accuracies: &[f64]) -> History {
        let epoch = |(i, val_accuracy): (usize, &f64)| {
            let mut record = EpochRecord::new(i + 1);
            record.train_loss = 1.0 / (i + 1) as f64;
            record.train_accuracy = 0.5;
            record.val_loss = 0.5;
            record.val_accuracy = *val_accuracy;
            record.lr = 1e-3;
            record.seconds = 1.5;
            record.images_per_second = 1.0;
            record
        };
        History { epochs: accuracies.iter().enumerate().map(epoch).collect(), batches: vec![] }
    }

    pub(super) fn run<'a>(name: &'a str, history: &'a History) -> ComparedRun<'a> {
        let (data, network, weights) = ("cifar10", "simple_cnn", "none");
        let parameters = Some(1_147_466);
        ComparedRun { name, data, network, weights, parameters, history, gradients: &[] }
    }

    #[test]
    fn a_row_tells_of_the_best_epoch() {
        let mut history = history(&[0.5, 0.75, 0.625]);
        history.epochs[1].peak_memory = Some(3 << 29);
        let row = Row::of(0, &run("a 001", &history));
        let texts: Vec<&str> = row.cells.iter().map(|cell| cell.text.as_str()).collect();
        let expected =
            ["cifar10", "simple_cnn", "none", "1,147,466", "3", "75.00 %", "0.5000", "2"];
        assert_eq!(texts[..8], expected);
        assert_eq!(texts[8..], ["1.5", "1.5 GiB", "4.5"]);
        history.epochs[1].peak_memory = None;
        assert_eq!(Row::of(0, &run("a 001", &history)).cells[9].text, "");
    }

    #[test]
    fn gradients_are_compared_where_they_were_recorded() -> Result<()> {
        let history = history(&[0.5, 0.75]);
        let record = |epoch, norm| {
            let mut record = GradientRecord::new(epoch, epoch);
            record.norms.push(GradientNorm::new("conv1.weight", &[4, 3, 3, 3], norm));
            record
        };
        let records = [record(1, 0.5), record(2, 1e-3)];
        let [plain, residual] = [run("plain", &history), run("residual", &history)];
        assert!(gradient_panels(&[plain, residual], true).is_empty());
        let residual = ComparedRun { gradients: &records, ..residual };
        let panels = gradient_panels(&[plain, residual], true);
        let values: Vec<f64> = panels.iter().map(|panel| panel.lines[0].segments[0][0].1).collect();
        assert_eq!(values, [0.5, 1e-3]);
        // The colour is that of the run in the other panels.
        assert_eq!(panels[0].lines[0].color, series(1).0);
        let page = page(&[plain, residual])?;
        assert!(page.contains("gradient norm by depth, last epoch"), "{page}");
        assert!(page.contains("convolution 1"), "{page}");
        Ok(())
    }

    #[test]
    fn runs_share_their_axes_and_differ_in_colour_and_mark() -> Result<()> {
        let (short, long) = (history(&[0.5]), history(&[0.2, 0.9]));
        let page = page(&[run("first <1>", &short), run("second 001", &long)])?;
        assert!(page.contains("first &lt;1&gt;") && page.contains("75"), "{page}");
        let [accuracy, ..] = panels(&[run("a", &short), run("b", &long)], true);
        assert_eq!(accuracy.x.position(2.0), Axis::epochs(2, 10).position(2.0));
        for value in [20.0, 50.0, 90.0] {
            assert!((0.0..=1.0).contains(&accuracy.y.position(value)));
        }
        assert_ne!(accuracy.lines[0].color, accuracy.lines[1].color);
        assert_ne!(accuracy.lines[0].mark, accuracy.lines[1].mark);
        Ok(())
    }

    #[test]
    fn too_many_runs_are_an_error() {
        let history = History::default();
        let runs = vec![run("a", &history); MOST_RUNS + 1];
        assert!(matches!(check(&runs), Err(Error::RunCount { count: 9, most: 8 })));
        assert!(check(&runs[1..]).is_ok() && check(&[]).is_err());
        assert!(page(&runs[1..]).is_ok());
    }
}
