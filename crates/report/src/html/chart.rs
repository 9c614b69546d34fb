//! Curves as an inline SVG, with axes and the texts that appear under the pointer.

use serde::Serialize;

use crate::axis::Axis;
use crate::curves::panel::{Line, MOST_MARKS, Mark, Panel};

/// Width in units of the SVG, which are about pixels. A page shows the SVG at 0.8 to 1.2 times this size.
const WIDTH: f64 = 440.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 58.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = 44.0;

/// A chart in the form for its template.
#[derive(Debug, Serialize)]
pub(crate) struct Chart {
    title: &'static str,
    width: f64,
    height: f64,
    left: f64,
    right: f64,
    top: f64,
    bottom: f64,
    x_title: &'static str,
    x_ticks: Vec<Tick>,
    y_ticks: Vec<Tick>,
    curves: Vec<Curve>,
    best: Option<Best>,
    /// A text alternative for readers who cannot see the chart.
    alternative: String,
}

#[derive(Debug, Serialize)]
struct Tick {
    at: f64,
    label: String,
}

#[derive(Debug, Serialize)]
struct Curve {
    label: String,
    color: String,
    /// Whether the line is in the background.
    faint: bool,
    square: bool,
    /// The `points` attribute of one polyline per piece.
    pieces: Vec<String>,
    marks: Vec<(f64, f64)>,
    /// Position and text of every point, as JSON.
    points: String,
}

#[derive(Debug, Serialize)]
struct Best {
    at: (f64, f64),
    label: String,
}

impl Chart {
    pub(crate) fn of(panel: &Panel) -> Self {
        let drawn = panel.lines.iter().filter(|line| !line.segments.is_empty());
        let curves: Vec<Curve> = drawn.clone().map(|line| Curve::of(line, panel)).collect();
        let best = panel.best.as_ref();
        Self {
            title: panel.title,
            width: WIDTH,
            height: HEIGHT,
            left: LEFT,
            right: WIDTH - RIGHT,
            top: TOP,
            bottom: HEIGHT - BOTTOM,
            x_title: panel.x_title,
            x_ticks: ticks(&panel.x, |tick| place(panel, (tick, 0.0)).0),
            y_ticks: ticks(&panel.y, |tick| place(panel, (0.0, tick)).1),
            best: best.map(|best| Best { at: place(panel, best.at), label: best.label.clone() }),
            alternative: alternative(panel, drawn.collect()),
            curves,
        }
    }
}

impl Curve {
    fn of(line: &Line, panel: &Panel) -> Self {
        let placed = |segment: &Vec<(f64, f64)>| -> Vec<(f64, f64)> {
            segment.iter().map(|point| place(panel, *point)).collect()
        };
        let placed: Vec<Vec<(f64, f64)>> = line.segments.iter().map(placed).collect();
        let count: usize = placed.iter().map(Vec::len).sum();
        let marked = |piece: &&Vec<(f64, f64)>| count <= MOST_MARKS || piece.len() == 1;
        let marks = match line.mark {
            Mark::None => Vec::new(),
            _ => placed.iter().filter(marked).flatten().copied().collect(),
        };
        let points = line.segments.iter().flatten().map(|&(x, y)| {
            let (left, top) = place(panel, (x, y));
            (left, top, (panel.describe_x)(x), (panel.describe)(y))
        });
        Self {
            label: line.label.to_string(),
            color: hex(line.color),
            faint: line.mark == Mark::None && !line.label.is_empty(),
            square: line.mark == Mark::Square,
            points: serde_json::to_string(&points.collect::<Vec<_>>()).expect("numbers and text"),
            pieces: placed.iter().map(|piece| polyline(piece)).collect(),
            marks,
        }
    }
}

/// Position in units of the SVG, rounded to a tenth. More digits would only make the page longer.
fn place(panel: &Panel, (x, y): (f64, f64)) -> (f64, f64) {
    let tenth = |value: f64| (10.0 * value).round() / 10.0;
    let right = LEFT + panel.x.position(x) * (WIDTH - LEFT - RIGHT);
    // Points far outside are cut off anyway.
    let up = panel.y.position(y).clamp(-1.0, 2.0) * (HEIGHT - TOP - BOTTOM);
    (tenth(right), tenth(HEIGHT - BOTTOM - up))
}

fn ticks(axis: &Axis, at: impl Fn(f64) -> f64) -> Vec<Tick> {
    axis.ticks().iter().map(|tick| Tick { at: at(*tick), label: axis.label(*tick) }).collect()
}

fn polyline(points: &[(f64, f64)]) -> String {
    let points: Vec<String> = points.iter().map(|(x, y)| format!("{x},{y}")).collect();
    points.join(" ")
}

pub(crate) fn hex([red, green, blue]: [u8; 3]) -> String {
    format!("#{red:02x}{green:02x}{blue:02x}")
}

/// The first and the last value of every curve as text.
fn alternative(panel: &Panel, lines: Vec<&Line>) -> String {
    let mut text = format!("Curve of the {} over the {}s", panel.title, panel.x_title);
    for line in lines.into_iter().rev() {
        let mut points = line.segments.iter().flatten();
        let Some(first) = points.next() else { continue };
        let last = points.next_back().unwrap_or(first);
        let [from, to] = [first, last].map(|point| (panel.describe)(point.1));
        let name = if line.label.is_empty() { "it" } else { &line.label };
        text += &format!("; {name} goes from {from} to {to}");
    }
    text
}

#[cfg(test)]
mod tests {
    use candle_vision_train::{EpochRecord, History};

    use super::*;
    use crate::curves::panels;

    fn history(accuracies: &[f64]) -> History {
        let epoch = |(i, val_accuracy): (usize, &f64)| {
            let mut record = EpochRecord::new(i + 1);
            record.train_loss = 1.0;
            record.train_accuracy = 0.5;
            record.val_loss = 0.5;
            record.val_accuracy = *val_accuracy;
            record.lr = 1e-3;
            record.seconds = 1.0;
            record.images_per_second = 1.0;
            record
        };
        History { epochs: accuracies.iter().enumerate().map(epoch).collect(), batches: vec![] }
    }

    #[test]
    fn points_lie_in_the_plot_and_say_their_values() {
        let [_, accuracy, _] = panels(&history(&[0.5, 0.75, 0.625]));
        let chart = Chart::of(&accuracy);
        let validation = chart.curves.iter().find(|curve| curve.label == "validation");
        let points: Vec<(f64, f64, String, String)> =
            serde_json::from_str(&validation.expect("drawn").points).expect("JSON");
        let words: Vec<&str> = points.iter().map(|point| point.3.as_str()).collect();
        assert_eq!(words, ["50.00 %", "75.00 %", "62.50 %"]);
        assert_eq!(points[1].2, "epoch 2");
        for (x, y, ..) in &points {
            assert!((LEFT..=WIDTH - RIGHT).contains(x) && (TOP..=HEIGHT - BOTTOM).contains(y));
        }
        assert!(points[1].1 < points[0].1, "higher values lie higher");
        assert!(chart.alternative.contains("validation goes from 50.00 % to 62.50 %"));
    }

    #[test]
    fn values_that_are_none_leave_a_gap() {
        let [_, accuracy, _] = panels(&history(&[0.5, f64::NAN, 0.7]));
        let text = serde_json::to_string(&Chart::of(&accuracy)).expect("JSON");
        assert!(!text.contains("NaN") && !text.contains("null,"), "{text}");
    }
}
