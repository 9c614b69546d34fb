//! An explanation as an image: the photograph, the heat map, and the map over the photograph.

use std::path::Path;

use candle_vision_explain::ClassActivationMap;
use image::RgbImage;

use crate::canvas::{Align, Area, Canvas, Font, shorten, shorten_middle};
use crate::colormap::{Colormap, unit};
use crate::image::{RgbView, blend, fit, resized_map};
use crate::palette::{INK, MUTED, RULE};
use candle_vision_train::write_atomically;

use crate::{Error, Result};

/// The longest side of a panel, in pixels.
const PANEL: u32 = 448;
const MARGIN: f64 = 28.0;
const GAP: f64 = 24.0;
const HEADER: f64 = 86.0;
const CAPTION: f64 = 40.0;
/// Smallest width of a panel in pixels. A narrow photograph needs room for its captions and the title.
const NARROWEST: f64 = 260.0;
const BAR: f64 = 20.0;
/// Width of the colour bar with its labels and their unit.
const SCALE: f64 = BAR + 68.0;
const SCALE_TITLE: &str = "evidence";

/// The contents of an explanation's image.
#[derive(Debug, Clone, Copy)]
pub struct Explanation<'a> {
    /// The part of the photograph that became the network's input, at any size.
    pub image: RgbView<'a>,
    /// The class activation map.
    pub map: &'a ClassActivationMap,
    /// The file of the photograph.
    pub file: &'a str,
    /// The name of the map's class.
    pub class: &'a str,
    /// How the values of the map become colours.
    pub colormap: Colormap,
}

/// Draws an explanation into a PNG: the image, the heat map, and the map over the image, side by side.
///
/// The page also names the file, the class, its probability and the layer, and has a colour bar from 0
/// to 1. The overlay tints the photograph where the map is high, and leaves it visible where the map is
/// low. If the map is nowhere positive, the page says so. The file is replaced as a whole.
///
/// # Errors
/// If the map's values do not fit its size, or if the file cannot be written.
///
/// # Example
/// ```
/// use candle_vision_explain::ClassActivationMap;
/// use candle_vision_report::{Colormap, Explanation, RgbView, explanation_png};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// let map = ClassActivationMap {
///     map: vec![0.0, 0.2, 0.6, 1.0],
///     height: 2,
///     width: 2,
///     class: 1,
///     probability: 0.973,
///     positive: true,
///     layer: "layer4".into(),
/// };
/// let pixels = vec![128; 32 * 32 * 3];
/// let explanation = Explanation {
///     image: RgbView::new(32, 32, &pixels)?,
///     map: &map,
///     file: "val/bees/1.jpg",
///     class: "bees",
///     colormap: Colormap::default(),
/// };
/// explanation_png(&explanation, folder.path().join("1.png"))?;
/// # Ok(())
/// # }
/// ```
pub fn explanation_png(explanation: &Explanation<'_>, path: impl AsRef<Path>) -> Result<()> {
    Ok(write_atomically(path, &draw(explanation)?.into_png()?)?)
}

fn draw(explanation: &Explanation<'_>) -> Result<Canvas> {
    let map = explanation.map;
    check(map)?;
    let size = fit(explanation.image.size(), PANEL);
    let photograph = explanation.image.resized(size);
    let heat = heat_at(map, size);

    let (width, height) = (f64::from(size.0), f64::from(size.1));
    let column = width.max(NARROWEST);
    let mut canvas = Canvas::new(
        2.0 * MARGIN + 3.0 * column + 3.0 * GAP + SCALE,
        HEADER + height + CAPTION + MARGIN,
    )?;
    draw_header(&mut canvas, explanation, 3.0 * column + 3.0 * GAP + SCALE);
    let colormap = explanation.colormap;
    let panels = [
        (photograph.clone(), "image".to_owned()),
        (heat_map(&heat, size, colormap), heat_caption(map)),
        (overlay(&photograph, &heat, colormap), "overlay".to_owned()),
    ];
    for (index, (image, caption)) in panels.into_iter().enumerate() {
        let left = MARGIN + index as f64 * (column + GAP);
        let center = left + column / 2.0;
        canvas.photograph((center - width / 2.0, HEADER), image);
        let font = Font::new(17, MUTED);
        let caption = shorten(&caption, font, column);
        canvas.text((center, HEADER + height + 26.0), &caption, font, Align::Center);
    }
    let bar = MARGIN + 3.0 * (column + GAP);
    draw_scale(&mut canvas, colormap, Area { x: bar, y: HEADER, width: BAR, height });
    Ok(canvas)
}

fn check(map: &ClassActivationMap) -> Result<()> {
    let &ClassActivationMap { width, height, .. } = map;
    let values = map.map.len();
    if values == 0 || width.checked_mul(height) != Some(values) {
        return Err(Error::MapShape { width, height, values });
    }
    Ok(())
}

/// The map's values at the size of an image, row by row.
fn heat_at(map: &ClassActivationMap, size: (u32, u32)) -> Vec<f64> {
    let heat = resized_map(&map.map, (map.width as u32, map.height as u32), size);
    heat.pixels().map(|pixel| f64::from(pixel.0[0])).collect()
}

/// An image with a map laid over it.
pub(crate) fn overlaid(image: &RgbImage, map: &ClassActivationMap) -> Result<RgbImage> {
    check(map)?;
    Ok(overlay(image, &heat_at(map, image.dimensions()), Colormap::default()))
}

fn heat_caption(map: &ClassActivationMap) -> String {
    if map.positive {
        format!("heat map at {}", map.layer)
    } else {
        format!("nothing at {} speaks for this class", map.layer)
    }
}

fn draw_header(canvas: &mut Canvas, explanation: &Explanation<'_>, width: f64) {
    let font = Font::new(24, INK).bold();
    let percent = 100.0 * explanation.map.probability;
    let answer = format!(" {percent:.1} %");
    let class = shorten(explanation.class, font, width - font.width(&answer));
    canvas.text((MARGIN, 40.0), &format!("{class}{answer}"), font, Align::Left);
    let font = Font::new(17, MUTED);
    canvas.text((MARGIN, 68.0), &shorten_middle(explanation.file, font, width), font, Align::Left);
}

fn heat_map(heat: &[f64], (width, height): (u32, u32), colormap: Colormap) -> RgbImage {
    let colors = heat.iter().flat_map(|value| colormap.color(*value)).collect();
    RgbImage::from_raw(width, height, colors).expect("one colour for each value")
}

/// Tints the photograph. The hotter a place is, the stronger the tint. Places without heat stay as they
/// are.
fn overlay(photograph: &RgbImage, heat: &[f64], colormap: Colormap) -> RgbImage {
    let mut image = photograph.clone();
    for (pixel, value) in image.pixels_mut().zip(heat) {
        let share = 0.65 * unit(*value).sqrt();
        pixel.0 = blend(pixel.0, colormap.color(*value), share);
    }
    image
}

fn draw_scale(canvas: &mut Canvas, colormap: Colormap, bar: Area) {
    let rows = bar.height as usize;
    for row in 0..rows {
        let value = 1.0 - (row as f64 + 0.5) / rows as f64;
        let line = Area { y: bar.y + row as f64, height: 1.0, ..bar };
        canvas.fill(line, colormap.color(value));
    }
    let font = Font::new(15, MUTED);
    // A very flat image has room only for the labels at the ends.
    let values: &[f64] =
        if bar.height < 100.0 { &[0.0, 1.0] } else { &[0.0, 0.25, 0.5, 0.75, 1.0] };
    for value in values {
        let y = bar.bottom() - value * bar.height;
        canvas.line(&[(bar.right(), y), (bar.right() + 5.0, y)], RULE, 1.0);
        // The labels at the ends stay within the bar's height.
        let baseline = (y + 5.0).clamp(bar.y + 11.0, bar.bottom());
        canvas.text((bar.right() + 9.0, baseline), &value.to_string(), font, Align::Left);
    }
    if bar.height > font.width(SCALE_TITLE) {
        let middle = (bar.right() + 64.0, bar.center().1);
        canvas.upward_text(middle, SCALE_TITLE, font, Align::Center);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(values: &[f32], width: usize, height: usize) -> ClassActivationMap {
        ClassActivationMap {
            map: values.to_vec(),
            height,
            width,
            class: 1,
            probability: 0.973,
            positive: true,
            layer: "layer4".to_owned(),
        }
    }

    fn explanation<'a>(pixels: &'a [u8], map: &'a ClassActivationMap) -> Explanation<'a> {
        let image = RgbView::new(4, pixels.len() / 12, pixels).expect("fits");
        Explanation { image, map, file: "a.jpg", class: "bees", colormap: Colormap::Turbo }
    }

    #[test]
    fn three_panels_side_by_side() -> Result<()> {
        let map = map(&[0.0, 1.0], 2, 1);
        let png = draw(&explanation(&[90; 48], &map))?.into_png()?;
        let page = image::load_from_memory(&png).map_err(Error::draw)?.into_rgb8();
        let at = |panel: u32, x: u32| page.get_pixel(28 + panel * (448 + 24) + x, 300).0;
        assert_eq!(at(0, 2), [90; 3]);
        assert_eq!(at(1, 2), Colormap::Turbo.color(0.0));
        assert_eq!(at(1, 446), Colormap::Turbo.color(1.0));
        // Cold places keep the photograph, hot ones do not.
        assert_eq!(at(2, 2), [90; 3]);
        assert_eq!(at(2, 446), blend([90; 3], Colormap::Turbo.color(1.0), 0.65));
        Ok(())
    }

    #[test]
    fn the_text_tells_class_probability_file_and_layer() -> Result<()> {
        let mut map = map(&[0.0; 4], 2, 2);
        let text = draw(&explanation(&[90; 48], &map))?.into_svg();
        for expected in ["bees 97.3 %", "a.jpg", "heat map at layer4"] {
            assert!(text.contains(expected), "{expected}");
        }
        map.positive = false;
        let text = draw(&explanation(&[90; 48], &map))?.into_svg();
        assert!(text.contains("nothing at layer4 speaks for this class"));
        Ok(())
    }

    #[test]
    fn a_map_of_another_size_is_an_error() {
        let (pixels, wrong) = ([90; 48], map(&[0.0; 3], 2, 2));
        let result = draw(&explanation(&pixels, &wrong));
        assert!(matches!(result, Err(Error::MapShape { width: 2, height: 2, values: 3 })));
    }
}
