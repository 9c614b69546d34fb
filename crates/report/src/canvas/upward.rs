//! Text that reads upwards, for axes and for narrow columns.

use image::RgbImage;
use kuva::render::render::Primitive;

use super::{Align, Canvas, Font, anchor, paint};
use crate::Result;

/// A line of text that reads from bottom to top.
pub(super) struct Upward {
    pub(super) at: (f64, f64),
    pub(super) text: String,
    pub(super) font: Font,
    pub(super) align: Align,
}

impl Upward {
    pub(super) fn as_primitive(&self) -> Primitive {
        Primitive::Text {
            x: self.at.0,
            y: self.at.1,
            // A dollar sign would begin a formula in plain text.
            content: self.text.replace('$', "\\$"),
            size: self.font.size,
            anchor: anchor(self.align),
            rotate: Some(-90.0),
            bold: self.font.bold,
            color: Some(paint(self.font.color)),
        }
    }

    /// Draws the text horizontally and turns its pixels, because the library's own turned text is blurred.
    pub(super) fn stamp(&self, page: &mut RgbImage) -> Result<()> {
        let (size, length) = (f64::from(self.font.size), self.font.width(&self.text).ceil());
        let mut level = Canvas::new(length.max(1.0), 1.75 * size)?;
        level.text((0.0, size), &self.text, self.font, Align::Left);
        let turned = image::imageops::rotate270(&level.lettered()?);
        let before = match self.align {
            Align::Left => 0.0,
            Align::Center => length / 2.0,
            Align::Right => length,
        };
        let left = (self.at.0 - size).round() as i64;
        let top = (self.at.1 - length + before).round() as i64;
        for (x, y, pixel) in turned.enumerate_pixels() {
            let (Ok(x), Ok(y)) =
                (u32::try_from(left + i64::from(x)), u32::try_from(top + i64::from(y)))
            else {
                continue;
            };
            // Dark text on white is laid over the page: of each two pixels the darker one stays.
            if let Some(ground) = page.get_pixel_mut_checked(x, y) {
                ground.0 = [0, 1, 2].map(|i| ground.0[i].min(pixel.0[i]));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Error;
    use crate::palette::INK;

    #[test]
    fn upward_text_ends_above_its_beginning() -> Result<()> {
        let mut canvas = Canvas::new(40.0, 100.0)?;
        canvas.upward_text((30.0, 90.0), "$ab$", Font::new(16, INK), Align::Left);
        let length = Font::new(16, INK).width("$ab$");
        let page = image::load_from_memory(&canvas.into_png()?).map_err(Error::draw)?.into_rgb8();
        let dark = page.enumerate_pixels().filter(|(_, _, pixel)| pixel.0[0] < 128);
        let (columns, rows): (Vec<u32>, Vec<u32>) = dark.map(|(x, y, _)| (x, y)).unzip();
        let within = |values: &[u32], low: f64, high: f64| {
            !values.is_empty() && values.iter().all(|v| (low..=high).contains(&f64::from(*v)))
        };
        assert!(within(&columns, 30.0 - 16.0, 30.0 + 5.0), "{columns:?}");
        assert!(within(&rows, 90.0 - length - 1.0, 90.0), "{rows:?}");
        Ok(())
    }
}
