//! One panel of curves: title, legend, axes, lines.

use std::borrow::Cow;

use crate::axis::Axis;
use crate::canvas::{Align, Area, Canvas, Color, Font};
use crate::palette::{GRID, INK, MUTED, RULE};

use super::series::Segments;

/// Room for the labels of the ticks.
pub(crate) const LEFT: f64 = 66.0;
const HEADER: f64 = 68.0;
const BOTTOM: f64 = 58.0;
/// Largest number of points with marks. More marks would cover the line.
pub(crate) const MOST_MARKS: usize = 40;

/// The mark of a line's points, so that lines differ not only in colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mark {
    None,
    Disc,
    Square,
}

/// A curve. One without points is neither drawn nor part of the legend.
pub(crate) struct Line {
    /// Its name in the legend. It is empty for a curve without an entry.
    pub(crate) label: Cow<'static, str>,
    pub(crate) color: Color,
    pub(crate) mark: Mark,
    /// Line width in pixels.
    pub(crate) width: f64,
    pub(crate) segments: Segments,
}

/// A point that gets a ring, and its text.
pub(crate) struct Best {
    pub(crate) at: (f64, f64),
    pub(crate) label: String,
}

pub(crate) struct Panel {
    pub(crate) title: &'static str,
    pub(crate) x: Axis,
    /// What the horizontal axis counts.
    pub(crate) x_title: &'static str,
    /// Describes a place on the horizontal axis as text.
    pub(crate) describe_x: fn(f64) -> String,
    pub(crate) y: Axis,
    /// Describes a value of the curves as text.
    pub(crate) describe: fn(f64) -> String,
    /// The lines, from back to front.
    pub(crate) lines: Vec<Line>,
    pub(crate) best: Option<Best>,
}

impl Panel {
    pub(crate) fn draw(&self, canvas: &mut Canvas, area: Area) {
        let plot = Area {
            x: area.x + LEFT,
            y: area.y + HEADER,
            width: area.width - LEFT,
            height: area.height - HEADER - BOTTOM,
        };
        self.draw_header(canvas, &area, &plot);
        self.draw_axes(canvas, &plot);
        for line in &self.lines {
            // A margin of half a mark, so that marks on the border are not cut off.
            let room = if line.mark == Mark::None { 1.5 } else { 7.0 };
            canvas.clipped(plot.grown(room), |canvas| self.draw_line(canvas, &plot, line));
        }
        if let Some(best) = &self.best {
            canvas.ring(self.place(best.at, &plot), 10.0, INK, 2.0);
        }
    }

    fn place(&self, (x, y): (f64, f64), plot: &Area) -> (f64, f64) {
        let right = plot.x + self.x.position(x) * plot.width;
        // Points far outside are cut off anyway. The drawing library needs bounded numbers.
        let up = self.y.position(y).clamp(-1.0, 2.0);
        (right, plot.bottom() - up * plot.height)
    }

    fn draw_header(&self, canvas: &mut Canvas, area: &Area, plot: &Area) {
        let baseline = area.y + 18.0;
        canvas.text((plot.x, baseline), self.title, Font::new(20, INK).bold(), Align::Left);
        if let Some(best) = &self.best {
            let font = Font::new(17, INK);
            canvas.text((plot.right(), baseline), &best.label, font, Align::Right);
            let ring = plot.right() - font.width(&best.label) - 16.0;
            canvas.ring((ring, baseline - 6.0), 7.0, INK, 2.0);
        }
        let drawn = self.lines.iter().filter(|line| !line.segments.is_empty());
        let mut named: Vec<&Line> = drawn.filter(|line| !line.label.is_empty()).collect();
        // Background lines come last in the legend.
        named.sort_by_key(|line| line.mark == Mark::None);
        let mut x = plot.x;
        for line in named {
            x = draw_legend(canvas, line, (x, area.y + 46.0));
        }
    }

    fn draw_axes(&self, canvas: &mut Canvas, plot: &Area) {
        let font = Font::new(17, MUTED);
        for tick in self.y.ticks() {
            let (_, y) = self.place((0.0, *tick), plot);
            canvas.line(&[(plot.x, y), (plot.right(), y)], GRID, 1.0);
            canvas.text((plot.x - 10.0, y + 6.0), &self.y.label(*tick), font, Align::Right);
        }
        let bottom = plot.bottom();
        for tick in self.x.ticks() {
            let x = plot.x + self.x.position(*tick) * plot.width;
            canvas.line(&[(x, bottom), (x, bottom + 5.0)], RULE, 1.0);
            canvas.text((x, bottom + 24.0), &self.x.label(*tick), font, Align::Center);
        }
        canvas.line(&[(plot.x, plot.y), (plot.x, bottom), (plot.right(), bottom)], RULE, 1.0);
        canvas.text((plot.center().0, bottom + 48.0), self.x_title, font, Align::Center);
    }

    fn draw_line(&self, canvas: &mut Canvas, plot: &Area, line: &Line) {
        let points: usize = line.segments.iter().map(Vec::len).sum();
        for segment in &line.segments {
            let placed: Vec<(f64, f64)> =
                segment.iter().map(|point| self.place(*point, plot)).collect();
            canvas.line(&placed, line.color, line.width);
            // A single point has no line, so only a mark makes it visible.
            if points <= MOST_MARKS || placed.len() == 1 {
                placed.iter().for_each(|at| draw_mark(canvas, line.color, line.mark, *at));
            }
        }
    }
}

fn draw_mark(canvas: &mut Canvas, color: Color, mark: Mark, (x, y): (f64, f64)) {
    match mark {
        Mark::None => {}
        Mark::Disc => canvas.disc((x, y), 5.0, color),
        Mark::Square => {
            let (x, y) = (x - 4.5, y - 4.5);
            canvas.fill(Area { x, y, width: 9.0, height: 9.0 }, color);
        }
    }
}

/// Draws a piece of a line with its mark, 30 pixels wide, for the legend.
pub(crate) fn draw_swatch(canvas: &mut Canvas, (x, y): (f64, f64), color: Color, mark: Mark) {
    canvas.line(&[(x + 2.0, y), (x + 28.0, y)], color, 3.0);
    draw_mark(canvas, color, mark, (x + 15.0, y));
}

/// Draws an entry of the legend. Returns the position of the next one.
fn draw_legend(canvas: &mut Canvas, line: &Line, (x, y): (f64, f64)) -> f64 {
    let font = Font::new(17, MUTED);
    draw_swatch(canvas, (x, y - 6.0), line.color, line.mark);
    canvas.text((x + 38.0, y), &line.label, font, Align::Left);
    x + 38.0 + font.width(&line.label) + 24.0
}
