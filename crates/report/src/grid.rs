//! Many images on one page.

use std::path::Path;

use crate::canvas::{Align, Area, Canvas, Font, shorten_middle, wrap};
use crate::image::{RgbView, fit};
use crate::palette::{GRID, INK, MUTED};
use candle_vision_train::write_atomically;

use crate::{Error, Result};

/// The longest side of an image on the page, in pixels.
const CELL: u32 = 200;
const MARGIN: f64 = 28.0;
const GAP: f64 = 18.0;
const HEADER: f64 = 56.0;
const LINE: f64 = 20.0;
const MOST_LINES: usize = 2;

/// One image of a grid, and its caption.
#[derive(Debug, Clone)]
pub struct GridImage<'a> {
    /// The image, of any size.
    pub image: RgbView<'a>,
    /// The caption: up to two lines of about 24 letters. The rest is cut off.
    pub caption: String,
}

/// Draws images with captions into a PNG, row by row, with `columns` images per row.
///
/// Each image is scaled so that its sides have at most 200 pixels. The file is replaced as a whole.
///
/// # Errors
/// If there is no image, if a side of the page would exceed 16,384 pixels, or if the file cannot be
/// written.
///
/// # Example
/// ```
/// use candle_vision_report::{GridImage, RgbView, image_grid_png};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// let pixels = vec![128; 32 * 32 * 3];
/// let image = RgbView::new(32, 32, &pixels)?;
/// let images = vec![GridImage { image, caption: "ants, taken for bees".into() }; 5];
/// image_grid_png(&images, 3, "worst mistakes", folder.path().join("grid.png"))?;
/// # Ok(())
/// # }
/// ```
pub fn image_grid_png(
    images: &[GridImage<'_>],
    columns: usize,
    title: &str,
    path: impl AsRef<Path>,
) -> Result<()> {
    Ok(write_atomically(path, &draw(images, columns, title)?.into_png()?)?)
}

fn draw(images: &[GridImage<'_>], columns: usize, title: &str) -> Result<Canvas> {
    if images.is_empty() {
        return Err(Error::EmptyGrid);
    }
    let columns = columns.clamp(1, images.len());
    let font = Font::new(15, MUTED);
    let cell = f64::from(CELL);
    let captions: Vec<Vec<String>> =
        images.iter().map(|item| wrap(&item.caption, font, cell, MOST_LINES)).collect();
    let lines = captions.iter().map(Vec::len).max().unwrap_or(0);
    let row = cell + 8.0 + lines as f64 * LINE + GAP;
    let width = 2.0 * MARGIN + columns as f64 * (cell + GAP) - GAP;
    let height = MARGIN + HEADER + images.len().div_ceil(columns) as f64 * row;
    let mut canvas = Canvas::new(width, height)?;

    let heading = Font::new(22, INK).bold();
    let title = shorten_middle(title, heading, width - 2.0 * MARGIN);
    canvas.text((MARGIN, 42.0), &title, heading, Align::Left);
    for (index, (item, caption)) in images.iter().zip(&captions).enumerate() {
        let x = MARGIN + (index % columns) as f64 * (cell + GAP);
        let y = MARGIN / 2.0 + HEADER + (index / columns) as f64 * row;
        let area = Area { x, y, width: cell, height: cell };
        draw_image(&mut canvas, item.image, area);
        for (number, line) in caption.iter().enumerate() {
            let baseline = area.bottom() + LINE * (number + 1) as f64;
            canvas.text((area.center().0, baseline), line, font, Align::Center);
        }
    }
    Ok(canvas)
}

/// Draws an image in the middle of its cell. The cell's background shows beside or above a smaller image.
fn draw_image(canvas: &mut Canvas, image: RgbView<'_>, area: Area) {
    let size = fit(image.size(), CELL);
    canvas.fill(area, GRID);
    let (x, y) = area.center();
    let corner = (x - f64::from(size.0) / 2.0, y - f64::from(size.1) / 2.0);
    canvas.photograph(corner, image.resized(size));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(count: usize, columns: usize) -> Result<image::RgbImage> {
        let shades: Vec<Vec<u8>> = (0..count).map(|i| vec![10 * i as u8; 100 * 100 * 3]).collect();
        let images: Vec<GridImage<'_>> = shades
            .iter()
            .map(|bytes| {
                let image = RgbView::new(100, 100, bytes).expect("fits");
                GridImage { image, caption: "a caption".to_owned() }
            })
            .collect();
        let png = draw(&images, columns, "title")?.into_png()?;
        Ok(image::load_from_memory(&png).map_err(Error::draw)?.into_rgb8())
    }

    #[test]
    fn images_follow_each_other_row_by_row() -> Result<()> {
        let page = page(5, 2)?;
        assert_eq!(page.width(), 28 * 2 + 200 * 2 + 18);
        for index in 0..5u32 {
            let x = 28 + (index % 2) * 218 + 100;
            let y = 70 + (index / 2) * (200 + 8 + 20 + 18) + 100;
            assert_eq!(page.get_pixel(x, y).0, [10 * index as u8; 3], "image {index}");
        }
        Ok(())
    }

    #[test]
    fn columns_are_at_least_one_and_never_empty() -> Result<()> {
        assert_eq!(page(2, 0)?.width(), 28 * 2 + 200);
        assert_eq!(page(2, 9)?.width(), 28 * 2 + 200 * 2 + 18);
        Ok(())
    }

    #[test]
    fn impossible_grids_are_errors() {
        assert!(matches!(page(0, 3), Err(Error::EmptyGrid)));
        let bytes = [0; 3];
        let image = RgbView::new(1, 1, &bytes).expect("fits");
        let many = vec![GridImage { image, caption: String::new() }; 200];
        assert!(matches!(draw(&many, 1, ""), Err(Error::TooLarge { .. })));
    }
}
