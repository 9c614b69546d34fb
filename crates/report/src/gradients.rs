//! The norm of gradients by depth: one line for each of a few steps of a run.

use std::path::Path;

use candle_vision_train::{GradientRecord, write_atomically};

use crate::Result;
use crate::axis::{Axis, scientific};
use crate::canvas::{Align, Area, Canvas, Font, shorten_middle};
use crate::curves::panel::{Line, Mark, Panel};
use crate::curves::series::{Segments, range, segments};
use crate::palette::{INK, SERIES};

const WIDTH: f64 = 1200.0;
const HEIGHT: f64 = 640.0;
const MARGIN: f64 = 28.0;

/// More steps than this are hard to tell apart. The first and the last are always shown.
const MOST_STEPS: usize = 4;

/// Draws the norms of the gradients of convolutions' kernels into a PNG of 1200 x 640 pixels. The horizontal axis is the
/// number of the convolution in the network, the vertical one is logarithmic. A line shows one step: the first, the last,
/// and two between them.
///
/// # Errors
/// If the file cannot be written.
///
/// # Example
/// ```
/// use candle_vision_report::gradients_png;
/// use candle_vision_train::{GradientNorm, GradientRecord};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut record = GradientRecord::new(1, 1);
/// record.norms.push(GradientNorm::new("conv1.weight", &[16, 3, 3, 3], 0.5));
/// record.norms.push(GradientNorm::new("conv2.weight", &[16, 16, 3, 3], 0.2));
/// let folder = tempfile::tempdir()?;
/// gradients_png(&[record], "plain20 001", folder.path().join("gradients.png"))?;
/// # Ok(())
/// # }
/// ```
pub fn gradients_png(
    records: &[GradientRecord],
    title: &str,
    path: impl AsRef<Path>,
) -> Result<()> {
    let mut canvas = Canvas::new(WIDTH, HEIGHT)?;
    let font = Font::new(26, INK).bold();
    let heading = shorten_middle(title, font, WIDTH - 2.0 * MARGIN);
    canvas.text((MARGIN, MARGIN + 20.0), &heading, font, Align::Left);
    let top = MARGIN + 50.0;
    let area =
        Area { x: MARGIN, y: top, width: WIDTH - 2.0 * MARGIN, height: HEIGHT - top - MARGIN };
    of_steps(records).draw(&mut canvas, area);
    Ok(write_atomically(path, &canvas.into_png()?)?)
}

/// The panel of one run: a line for each of a few steps.
pub(crate) fn of_steps(records: &[GradientRecord]) -> Panel {
    let last = records.len().saturating_sub(1);
    let count = records.len().min(MOST_STEPS);
    let shown = (0..count).map(|i| &records[i * last / (count - 1).max(1)]);
    let line = |(index, record): (usize, &GradientRecord)| {
        let label = format!("epoch {}", record.epoch);
        line(label, index, record)
    };
    panel(
        "norm of the gradient of each convolution's kernel",
        shown.enumerate().map(line).collect(),
    )
}

/// The line of one step, in colour and mark of the series `index`.
pub(crate) fn line(label: String, index: usize, record: &GradientRecord) -> Line {
    let mark = if index.is_multiple_of(2) { Mark::Disc } else { Mark::Square };
    Line {
        label: label.into(),
        color: SERIES[index % SERIES.len()],
        mark,
        width: 3.0,
        segments: by_depth(record),
    }
}

pub(crate) fn panel(title: &'static str, lines: Vec<Line>) -> Panel {
    let all: Vec<&Segments> = lines.iter().map(|line| &line.segments).collect();
    let (low, high) = range(&all).unwrap_or((1.0, 1.0));
    let deepest = all.iter().flat_map(|line| line.iter().flatten()).map(|point| point.0 as usize);
    Panel {
        title,
        x: Axis::epochs(deepest.max().unwrap_or(1), 10),
        x_title: "convolution",
        describe_x: |x| format!("convolution {x}"),
        y: Axis::log(low, high),
        describe: scientific,
        lines,
        best: None,
    }
}

/// Number of the convolution, from 1, and the norm. A norm of zero has no place on a logarithmic axis.
fn by_depth(record: &GradientRecord) -> Segments {
    let value = |norm: f64| if norm > 0.0 { norm } else { f64::NAN };
    let norms = record.of_kernels().enumerate();
    segments(&norms.map(|(i, norm)| ((i + 1) as f64, value(norm.norm))).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use candle_vision_train::GradientNorm;

    use super::*;

    fn record(epoch: usize, norms: &[f64]) -> GradientRecord {
        let mut record = GradientRecord::new(epoch, epoch);
        for (i, norm) in norms.iter().enumerate() {
            let path = format!("conv{i}.weight");
            record.norms.push(GradientNorm::new(path, &[4, 4, 3, 3], *norm));
            record.norms.push(GradientNorm::new("bias", &[4], 1e9));
        }
        record
    }

    #[test]
    fn kernels_alone_count_and_zeros_leave_a_gap() {
        let found = by_depth(&record(1, &[0.5, 0.0, 0.25, 0.125]));
        assert_eq!(found, [vec![(1.0, 0.5)], vec![(3.0, 0.25), (4.0, 0.125)]]);
    }

    #[test]
    fn a_few_steps_are_shown_with_the_first_and_the_last() {
        let labels = |count: usize| -> Vec<String> {
            let records: Vec<_> = (1..=count).map(|epoch| record(epoch, &[0.1, 0.2])).collect();
            of_steps(&records).lines.iter().map(|line| line.label.to_string()).collect()
        };
        assert_eq!(labels(1), ["epoch 1"]);
        assert_eq!(labels(2), ["epoch 1", "epoch 2"]);
        assert_eq!(labels(10), ["epoch 1", "epoch 4", "epoch 7", "epoch 10"]);
        assert!(labels(0).is_empty());
    }

    #[test]
    fn a_network_without_convolutions_is_drawn_too() -> Result<()> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("gradients.png");
        gradients_png(&[record(1, &[])], "mlp", &path)?;
        gradients_png(&[], "none", &path)?;
        assert!(path.is_file());
        Ok(())
    }
}
