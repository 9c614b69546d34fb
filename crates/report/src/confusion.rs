//! The confusion matrix: how often each class was predicted as each.

use std::path::Path;

use crate::canvas::{Align, Area, Canvas, Color, Font, shorten, shorten_middle};
use crate::colormap::{needs_light_text, share_color};
use crate::palette::{INK, MUTED, RULE};
use candle_vision_train::write_atomically;

use crate::{Error, Result};

const MARGIN: f64 = 28.0;
const HEADER: f64 = 100.0;
/// The longest name of a class, in pixels.
const LONGEST_NAME: f64 = 180.0;
const AXIS_TITLE: f64 = 34.0;

/// Draws a confusion matrix into a PNG.
///
/// There is one row per true class, with the first class at the top, and one column per predicted
/// class. A cell shows the number of images. The larger its share of the row is, the darker the cell.
///
/// # Shapes
/// - `counts`: one row per class, with one number per class
///
/// # Errors
/// If the rows do not fit the classes, if there are no classes, or if the file cannot be written.
///
/// # Example
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// let counts = [vec![66, 4], vec![6, 77]];
/// let path = folder.path().join("confusion_matrix.png");
/// candle_vision_report::confusion_matrix_png(&counts, &["ants", "bees"], "resnet18", path)?;
/// # Ok(())
/// # }
/// ```
pub fn confusion_matrix_png(
    counts: &[Vec<usize>],
    classes: &[impl AsRef<str>],
    title: &str,
    path: impl AsRef<Path>,
) -> Result<()> {
    let classes: Vec<&str> = classes.iter().map(AsRef::as_ref).collect();
    Ok(write_atomically(path, &draw(counts, &classes, title)?.into_png()?)?)
}

fn draw(counts: &[Vec<usize>], classes: &[&str], title: &str) -> Result<Canvas> {
    check(counts, classes)?;
    let layout = Layout::of(counts, classes);
    let matrix = layout.matrix;
    let width = (matrix.right() + MARGIN).max(420.0);
    let mut canvas = Canvas::new(width, matrix.bottom() + MARGIN)?;

    let font = Font::new(22, INK).bold();
    let heading = shorten_middle(title, font, width - 2.0 * MARGIN);
    canvas.text((MARGIN, 42.0), &heading, font, Align::Left);
    let font = Font::new(17, MUTED);
    canvas.text((MARGIN, 70.0), &summary(counts), font, Align::Left);

    draw_names(&mut canvas, &layout, classes);
    for (row, numbers) in counts.iter().enumerate() {
        let total: usize = numbers.iter().sum();
        for (column, count) in numbers.iter().enumerate() {
            let share = if total == 0 { 0.0 } else { *count as f64 / total as f64 };
            draw_cell(&mut canvas, &layout, (row, column), *count, share);
        }
    }
    canvas.frame(matrix, RULE, 1.0);
    Ok(canvas)
}

fn check(counts: &[Vec<usize>], classes: &[&str]) -> Result<()> {
    let classes = classes.len();
    let shape = |found: String| Err(Error::MatrixShape { classes, found });
    if counts.is_empty() || counts.len() != classes {
        return shape(format!("{} rows", counts.len()));
    }
    match counts.iter().position(|row| row.len() != classes) {
        Some(row) => shape(format!("{} numbers in row {row}", counts[row].len())),
        None => Ok(()),
    }
}

fn summary(counts: &[Vec<usize>]) -> String {
    let right: usize = counts.iter().enumerate().map(|(class, row)| row[class]).sum();
    let total: usize = counts.iter().flatten().sum();
    let percent = 100.0 * right as f64 / total.max(1) as f64;
    format!("{right} of {total} right ({percent:.1} %)")
}

/// Positions of all parts of the image.
struct Layout {
    matrix: Area,
    cell: f64,
    number: Font,
    name: Font,
    /// Whether the names above the columns are turned, because they are wider than a column.
    turned: bool,
}

impl Layout {
    fn of(counts: &[Vec<usize>], classes: &[&str]) -> Self {
        let cell = match classes.len() {
            0..=5 => 96.0,
            6..=12 => 72.0,
            13..=30 => 48.0,
            _ => 22.0,
        };
        let name = Font::new(if cell < 30.0 { 13 } else { 16 }, INK);
        let longest = classes.iter().map(|class| name.width(class)).fold(0.0, f64::max);
        let longest = longest.min(LONGEST_NAME);
        let turned = longest > cell - 8.0;
        let above = if turned { longest } else { f64::from(name.size) };
        let side = cell * counts.len() as f64;
        let matrix = Area {
            x: MARGIN + AXIS_TITLE + longest + 12.0,
            y: HEADER + AXIS_TITLE + above + 12.0,
            width: side,
            height: side,
        };
        Self { matrix, cell, number: number_font(counts, cell), name, turned }
    }

    fn cell(&self, (row, column): (usize, usize)) -> Area {
        Area {
            x: self.matrix.x + column as f64 * self.cell,
            y: self.matrix.y + row as f64 * self.cell,
            width: self.cell,
            height: self.cell,
        }
    }
}

/// The largest font that the widest number allows.
fn number_font(counts: &[Vec<usize>], cell: f64) -> Font {
    let widest = counts.iter().flatten().max().copied().unwrap_or(0).to_string();
    let fits = |size: &u32| Font::new(*size, INK).width(&widest) <= 0.86 * cell;
    let size = (8..=22).rev().filter(|size| f64::from(*size) < 0.5 * cell).find(fits);
    Font::new(size.unwrap_or(8), INK)
}

fn draw_names(canvas: &mut Canvas, layout: &Layout, classes: &[&str]) {
    let Layout { matrix, cell, name, .. } = *layout;
    let middle = f64::from(name.size) * 0.36;
    for (index, class) in classes.iter().enumerate() {
        let text = shorten(class, name, LONGEST_NAME);
        let along = (index as f64 + 0.5) * cell;
        canvas.text((matrix.x - 10.0, matrix.y + along + middle), &text, name, Align::Right);
        let x = matrix.x + along;
        if layout.turned {
            canvas.upward_text((x + middle, matrix.y - 8.0), &text, name, Align::Left);
        } else {
            canvas.text((x, matrix.y - 10.0), &text, name, Align::Center);
        }
    }
    let font = Font::new(17, MUTED);
    let (x, y) = matrix.center();
    canvas.text((x, HEADER + 14.0), "predicted", font, Align::Center);
    canvas.upward_text((MARGIN + 14.0, y), "true", font, Align::Center);
}

fn draw_cell(
    canvas: &mut Canvas,
    layout: &Layout,
    place: (usize, usize),
    count: usize,
    share: f64,
) {
    let area = layout.cell(place);
    let ground = share_color(share);
    canvas.fill(area, ground);
    // Zeros are drawn faintly, so that other numbers stand out.
    let color = if count == 0 { RULE } else { text_color(ground) };
    let font = Font { color, ..layout.number };
    let (x, y) = area.center();
    let text = count.to_string();
    // In small cells zeros would only be noise.
    let worthwhile = count > 0 || layout.cell >= 40.0;
    if worthwhile && font.width(&text) <= area.width {
        canvas.text((x, y + 0.36 * f64::from(font.size)), &text, font, Align::Center);
    }
}

fn text_color(ground: Color) -> Color {
    if needs_light_text(ground) { [255; 3] } else { INK }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(counts: &[Vec<usize>], classes: &[&str]) -> Result<image::RgbImage> {
        let png = draw(counts, classes, "run")?.into_png()?;
        Ok(image::load_from_memory(&png).map_err(Error::draw)?.into_rgb8())
    }

    #[test]
    fn true_classes_go_down_and_predicted_ones_right() -> Result<()> {
        // All ants were taken for bees, no bee for an ant.
        let counts = [vec![0, 9], vec![0, 0]];
        let classes = ["ants", "bees"];
        let page = page(&counts, &classes)?;
        let layout = Layout::of(&counts, &classes);
        let ground = |row, column| {
            let area = layout.cell((row, column));
            page.get_pixel(area.x as u32 + 5, area.y as u32 + 5).0
        };
        assert_eq!(ground(0, 1), share_color(1.0));
        for (row, column) in [(0, 0), (1, 0), (1, 1)] {
            assert_eq!(ground(row, column), [255; 3], "row {row}, column {column}");
        }
        assert!(layout.cell((0, 0)).y < layout.cell((1, 0)).y);
        Ok(())
    }

    #[test]
    fn each_number_and_name_is_where_it_belongs() -> Result<()> {
        let counts = [vec![11, 12], vec![21, 22]];
        let classes = ["ants", "bees"];
        let svg = draw(&counts, &classes, "run")?.into_svg();
        let layout = Layout::of(&counts, &classes);
        let place = |text: &str| {
            let element = svg.split("<text ").find(|e| e.contains(&format!(">{text}<")));
            let element = element.unwrap_or_else(|| panic!("`{text}` is missing"));
            let number = |name: &str| {
                let value =
                    element.split(&format!("{name}=\"")).nth(1).and_then(|v| v.split('"').next());
                value.and_then(|value| value.parse::<f64>().ok()).expect("a number")
            };
            (number("x"), number("y"))
        };
        for (text, cell) in [("11", (0, 0)), ("12", (0, 1)), ("21", (1, 0)), ("22", (1, 1))] {
            let (x, y) = place(text);
            let area = layout.cell(cell);
            assert!((x - area.center().0).abs() < 0.01, "{text}");
            assert!(y > area.y && y < area.bottom(), "{text}");
        }
        assert!(svg.contains("33 of 66 right (50.0 %)"), "{svg}");
        Ok(())
    }

    #[test]
    fn matrices_that_do_not_fit_are_errors() {
        let found = |counts: &[Vec<usize>]| match draw(counts, &["a", "b"], "") {
            Err(Error::MatrixShape { found, .. }) => found,
            _ => panic!("must be refused"),
        };
        assert_eq!(found(&[]), "0 rows");
        assert_eq!(found(&[vec![1, 2]]), "1 rows");
        assert_eq!(found(&[vec![1, 2], vec![1]]), "1 numbers in row 1");
        assert!(draw(&[], &[], "").is_err());
    }

    #[test]
    fn a_hundred_classes_fit_on_a_page() -> Result<()> {
        let names: Vec<String> = (0..100).map(|i| format!("class number {i}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let page = page(&vec![vec![100; 100]; 100], &names)?;
        assert!(page.width() < 3000, "{}", page.width());
        Ok(())
    }
}
