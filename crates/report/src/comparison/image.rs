//! The image of a comparison: the panels, and below them the table, which is also their legend.

use super::{COLUMNS, ComparedRun, HEADER, Row, gradient_panels, panels, series};
use crate::Result;
use crate::canvas::{Align, Area, Canvas, Font, shorten_middle};
use crate::curves::panel::draw_swatch;
use crate::palette::{INK, MUTED, RULE};

const WIDTH: f64 = 1800.0;
const MARGIN: f64 = 28.0;
const GAP: f64 = 44.0;
const PANELS: f64 = 500.0;
const TOP: f64 = 78.0;
const ROW: f64 = 34.0;
/// Left end of the names. For the other columns, the right end of numbers and the left end of text.
const NAME: f64 = 76.0;
const NAME_WIDTH: f64 = 268.0;
const PLACES: [f64; COLUMNS] =
    [360.0, 490.0, 690.0, 960.0, 1040.0, 1185.0, 1290.0, 1385.0, 1515.0, 1650.0, 1772.0];
/// The first columns are text.
const TEXT_COLUMNS: usize = 3;

pub(super) fn draw(runs: &[ComparedRun<'_>]) -> Result<Canvas> {
    let of_gradients = gradient_panels(runs, false);
    let below = if of_gradients.is_empty() { 0.0 } else { PANELS + MARGIN };
    let height = TOP + PANELS + below + ROW * (runs.len() + 1) as f64 + 2.0 * MARGIN;
    let mut canvas = Canvas::new(WIDTH, height)?;
    let font = Font::new(26, INK).bold();
    canvas.text((MARGIN, MARGIN + 20.0), "Runs compared", font, Align::Left);
    let width = (WIDTH - 2.0 * MARGIN - 2.0 * GAP) / 3.0;
    for (index, panel) in panels(runs, false).iter().enumerate() {
        let x = MARGIN + index as f64 * (width + GAP);
        panel.draw(&mut canvas, Area { x, y: TOP, width, height: PANELS });
    }
    let width = (WIDTH - 2.0 * MARGIN - GAP) / 2.0;
    for (index, panel) in of_gradients.iter().enumerate() {
        let x = MARGIN + index as f64 * (width + GAP);
        let y = TOP + PANELS + MARGIN;
        panel.draw(&mut canvas, Area { x, y, width, height: PANELS });
    }
    draw_table(&mut canvas, runs, TOP + PANELS + below + MARGIN);
    Ok(canvas)
}

fn draw_table(canvas: &mut Canvas, runs: &[ComparedRun<'_>], top: f64) {
    let head = Font::new(16, MUTED);
    canvas.text((NAME, top), "run", head, Align::Left);
    for (column, name) in HEADER.iter().enumerate() {
        canvas.text((PLACES[column], top), name, head, align(column));
    }
    let rule = top + 9.0;
    canvas.line(&[(MARGIN, rule), (WIDTH - MARGIN, rule)], RULE, 1.0);
    for (index, run) in runs.iter().enumerate() {
        let y = top + ROW * (index + 1) as f64;
        let (color, mark) = series(index);
        draw_swatch(canvas, (MARGIN, y - 6.0), color, mark);
        draw_row(canvas, &Row::of(index, run), y);
    }
}

fn draw_row(canvas: &mut Canvas, row: &Row<'_>, y: f64) {
    let font = Font::new(17, INK);
    let name = shorten_middle(row.name, font, NAME_WIDTH);
    canvas.text((NAME, y), &name, font, Align::Left);
    for (column, cell) in row.cells.iter().enumerate() {
        let room =
            if column < TEXT_COLUMNS { PLACES[column + 1] - PLACES[column] - 16.0 } else { 240.0 };
        // The last text column ends where the numbers begin. Numbers extend to the left of their position.
        let room = if column + 1 == TEXT_COLUMNS { room - 130.0 } else { room };
        let text = shorten_middle(&cell.text, font, room);
        canvas.text((PLACES[column], y), &text, font, align(column));
    }
}

fn align(column: usize) -> Align {
    if column < TEXT_COLUMNS { Align::Left } else { Align::Right }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{history, run};
    use super::*;

    #[test]
    fn each_run_has_a_row_under_the_panels() -> Result<()> {
        let history = history(&[0.5, 0.75]);
        let svg = draw(&[run("a 001", &history), run("b 001", &history)])?.into_svg();
        for text in ["a 001", "b 001", "validation loss", "75.00 %", "best accuracy"] {
            assert!(svg.contains(text), "{text}");
        }
        Ok(())
    }
}
