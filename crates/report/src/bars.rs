//! Numbers as bars, with one row per label and one column per measured quantity.

use std::path::Path;

use candle_vision_train::write_atomically;

use crate::canvas::{Align, Area, Canvas, Font, shorten_middle};
use crate::palette::{BLUE, GRID, INK, MUTED, RULE, VERMILLION};
use crate::{Error, Result};

const MARGIN: f64 = 28.0;
const HEADER: f64 = 104.0;
const ROW: f64 = 32.0;
const LABEL: f64 = 190.0;
const COLUMN: f64 = 250.0;
/// Room for the number at the right of a column.
const NUMBER: f64 = 86.0;

/// A measured quantity: one number per row.
#[derive(Debug, Clone)]
pub struct BarColumn<'a> {
    /// What the numbers are.
    pub title: &'a str,
    /// One value per row. A value that is not finite has no bar.
    pub values: Vec<f64>,
    /// A number that the scale reaches in any case, so that columns of one unit can have one scale.
    pub reach: Option<f64>,
    /// Writes a value as text.
    pub describe: fn(f64) -> String,
}

/// Draws numbers as bars into a PNG: one row per label, one column per measured quantity.
///
/// Each column has its own scale, which spans its values, zero and [`BarColumn::reach`]. A bar of a negative value goes to the
/// left and has another colour.
///
/// # Errors
/// If there is no row or no column, if the number of values in a column differs from the number of
/// labels, if the page would be too large, or if the file cannot be written.
///
/// # Example
/// ```
/// use candle_vision_report::{BarColumn, bars_png};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let values = vec![0.5, -0.25];
/// let describe = |value| format!("{value:.2}");
/// let cosine = BarColumn { title: "cosine", values, reach: Some(1.0), describe };
/// let folder = tempfile::tempdir()?;
/// bars_png(&["layer1.0", "layer1.1"], &[cosine], "resnet18", folder.path().join("bars.png"))?;
/// # Ok(())
/// # }
/// ```
pub fn bars_png(
    labels: &[impl AsRef<str>],
    columns: &[BarColumn<'_>],
    title: &str,
    path: impl AsRef<Path>,
) -> Result<()> {
    let labels: Vec<&str> = labels.iter().map(AsRef::as_ref).collect();
    Ok(write_atomically(path, &draw(&labels, columns, title)?.into_png()?)?)
}

fn draw(labels: &[&str], columns: &[BarColumn<'_>], title: &str) -> Result<Canvas> {
    let rows = labels.len();
    let misfit = columns.iter().map(|column| column.values.len()).find(|values| *values != rows);
    if rows == 0 || columns.is_empty() || misfit.is_some() {
        return Err(Error::BarShape { labels: rows, values: misfit.unwrap_or(0) });
    }
    let width = 2.0 * MARGIN + LABEL + COLUMN * columns.len() as f64;
    let mut canvas = Canvas::new(width, HEADER + ROW * rows as f64 + MARGIN)?;
    let heading = Font::new(22, INK).bold();
    let title = shorten_middle(title, heading, width - 2.0 * MARGIN);
    canvas.text((MARGIN, 42.0), &title, heading, Align::Left);
    let font = Font::new(16, INK);
    for (row, label) in labels.iter().enumerate() {
        let label = shorten_middle(label, font, LABEL - 16.0);
        canvas.text((MARGIN, baseline(row)), &label, font, Align::Left);
    }
    for (index, column) in columns.iter().enumerate() {
        draw_column(&mut canvas, column, MARGIN + LABEL + COLUMN * index as f64);
    }
    canvas.line(&[(MARGIN, HEADER - 8.0), (width - MARGIN, HEADER - 8.0)], RULE, 1.0);
    Ok(canvas)
}

fn baseline(row: usize) -> f64 {
    HEADER + ROW * row as f64 + 21.0
}

fn draw_column(canvas: &mut Canvas, column: &BarColumn<'_>, left: f64) {
    let font = Font::new(16, MUTED);
    let title = shorten_middle(column.title, font, COLUMN - 16.0);
    canvas.text((left, HEADER - 18.0), &title, font, Align::Left);
    let spanned: Vec<f64> = column.values.iter().copied().chain(column.reach).collect();
    let scale = Scale::of(&spanned, COLUMN - NUMBER - 12.0);
    for (row, value) in column.values.iter().enumerate() {
        let top = HEADER + ROW * row as f64 + 6.0;
        let area = |x: f64, width: f64| Area { x: left + x, y: top, width, height: ROW - 12.0 };
        canvas.fill(area(0.0, scale.length), GRID);
        if let Some((start, width)) = scale.bar(*value) {
            canvas.fill(area(start, width), if *value < 0.0 { VERMILLION } else { BLUE });
        }
        let at = (left + scale.length + 8.0, baseline(row));
        canvas.text(at, &(column.describe)(*value), Font::new(15, INK), Align::Left);
    }
}

/// Converts a value to its bar within a column.
struct Scale {
    length: f64,
    zero: f64,
    /// Number of pixels per unit.
    unit: f64,
}

impl Scale {
    fn of(values: &[f64], length: f64) -> Self {
        let finite = || values.iter().copied().filter(|value| value.is_finite());
        let (low, high) = (finite().fold(0.0, f64::min), finite().fold(0.0, f64::max));
        let unit = if high > low { length / (high - low) } else { 0.0 };
        Self { length, zero: -low * unit, unit }
    }

    /// Left end and width of the bar. `None` for a value that is not finite.
    fn bar(&self, value: f64) -> Option<(f64, f64)> {
        let end = Some(self.zero + value * self.unit).filter(|end| end.is_finite())?;
        Some((end.min(self.zero), (end - self.zero).abs()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(values: &[f64]) -> BarColumn<'static> {
        let describe = |value| format!("{value:.1} units");
        BarColumn { title: "a measure", values: values.to_vec(), reach: None, describe }
    }

    #[test]
    fn bars_begin_at_zero_and_share_a_scale() {
        let scale = Scale::of(&[3.0, -1.0, 1.5, f64::NAN], 100.0);
        assert_eq!(scale.bar(3.0), Some((25.0, 75.0)));
        assert_eq!(scale.bar(-1.0), Some((0.0, 25.0)));
        assert_eq!(scale.bar(1.5), Some((25.0, 37.5)));
        assert_eq!(scale.bar(f64::NAN), None);
        assert_eq!(Scale::of(&[0.0, 0.0], 100.0).bar(0.0), Some((0.0, 0.0)));
    }

    #[test]
    fn labels_and_numbers_are_written() -> Result<()> {
        let svg = draw(&["layer1.0", "layer1.1"], &[column(&[0.5, -2.0])], "resnet18")?.into_svg();
        for text in ["resnet18", "layer1.1", "a measure", "0.5 units", "-2.0 units"] {
            assert!(svg.contains(text), "{text}");
        }
        Ok(())
    }

    #[test]
    fn columns_fit_their_rows() {
        let wrong = |labels: &[&str], columns: &[BarColumn<'_>]| draw(labels, columns, "").is_err();
        assert!(wrong(&[], &[column(&[])]) && wrong(&["a"], &[]) && wrong(&["a"], &[column(&[])]));
    }
}
