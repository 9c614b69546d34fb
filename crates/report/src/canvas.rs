//! Drawing on a page. Only this module knows the drawing library.
//!
//! A page is measured in pixels from its upper left corner. It becomes a PNG or an SVG. The text of a PNG
//! uses the embedded DejaVu Sans, or fonts of the machine if that font lacks the script.

mod lettering;
mod text;
mod upward;

use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{ExtendedColorType, ImageEncoder, RgbImage};
use kuva::backend::raster::RasterBackend;
use kuva::backend::svg::SvgBackend;
use kuva::render::color::Color as Paint;
use kuva::render::render::{Primitive, Scene, TextAnchor, TextSpan};

pub use lettering::characters_without_font;
use lettering::{Lettering, is_embedded};
pub(crate) use text::{Font, shorten, shorten_middle, wrap};
use upward::Upward;

use crate::{Error, Result};

/// Red, green, blue, each `0..=255`.
pub(crate) type Color = [u8; 3];

/// The largest side of a page, in pixels.
const MAX_SIDE: f64 = 16_384.0;

/// Where a text lies relative to its anchor point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Align {
    Left,
    Center,
    Right,
}

/// A rectangle with its upper left corner and its sides.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Area {
    pub(crate) x: f64,
    pub(crate) y: f64,
    pub(crate) width: f64,
    pub(crate) height: f64,
}

impl Area {
    pub(crate) fn right(&self) -> f64 {
        self.x + self.width
    }

    pub(crate) fn bottom(&self) -> f64 {
        self.y + self.height
    }

    pub(crate) fn grown(&self, by: f64) -> Self {
        Self {
            x: self.x - by,
            y: self.y - by,
            width: self.width + 2.0 * by,
            height: self.height + 2.0 * by,
        }
    }

    pub(crate) fn center(&self) -> (f64, f64) {
        (self.x + self.width / 2.0, self.y + self.height / 2.0)
    }
}

/// A page to draw on. Later items cover earlier ones. Photographs and upward text cover everything else.
pub(crate) struct Canvas {
    scene: Scene,
    /// Lines that the embedded font cannot show.
    lettering: Vec<Lettering>,
    upward: Vec<Upward>,
    photographs: Vec<(i64, i64, RgbImage)>,
}

impl Canvas {
    /// A white page.
    pub(crate) fn new(width: f64, height: f64) -> Result<Self> {
        if width > MAX_SIDE || height > MAX_SIDE {
            return Err(Error::TooLarge { width: width as u64, height: height as u64 });
        }
        let mut scene = Scene::new(width.ceil(), height.ceil());
        scene.font_family = Some("DejaVu Sans, Verdana, Arial, sans-serif".to_owned());
        Ok(Self { scene, lettering: Vec::new(), upward: Vec::new(), photographs: Vec::new() })
    }

    /// Draws one line of text. `y` is its baseline.
    pub(crate) fn text(&mut self, at: (f64, f64), text: &str, font: Font, align: Align) {
        if is_embedded(text) {
            self.embedded_text(at, text, font, align);
        } else {
            self.lettering.push(Lettering { at, text: text.to_owned(), font, align });
        }
    }

    fn embedded_text(&mut self, (x, y): (f64, f64), text: &str, font: Font, align: Align) {
        // In plain text the library takes `$` for the beginning of a formula, but not in a span.
        let mut span = TextSpan::plain(text);
        span.bold = font.bold;
        self.scene.add(Primitive::RichText {
            x,
            y,
            spans: vec![span],
            size: font.size,
            anchor: anchor(align),
            color: Some(paint(font.color)),
        });
    }

    /// Draws one line of text that reads upwards. `x` is its baseline, on its right.
    pub(crate) fn upward_text(&mut self, at: (f64, f64), text: &str, font: Font, align: Align) {
        self.upward.push(Upward { at, text: text.to_owned(), font, align });
    }

    pub(crate) fn line(&mut self, points: &[(f64, f64)], color: Color, width: f64) {
        self.scene.add(Primitive::PolyLine {
            points: points.to_vec(),
            stroke: paint(color),
            stroke_width: width,
            stroke_dasharray: None,
        });
    }

    pub(crate) fn fill(&mut self, area: Area, color: Color) {
        self.scene.add(Primitive::Rect {
            x: area.x,
            y: area.y,
            width: area.width,
            height: area.height,
            fill: paint(color),
            stroke: None,
            stroke_width: None,
            opacity: None,
        });
    }

    pub(crate) fn frame(&mut self, area: Area, color: Color, width: f64) {
        let (left, right, top, bottom) = (area.x, area.right(), area.y, area.bottom());
        let corners = [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)];
        self.line(&corners, color, width);
    }

    pub(crate) fn disc(&mut self, (x, y): (f64, f64), radius: f64, color: Color) {
        self.circle((x, y), radius, Some(color), None);
    }

    pub(crate) fn ring(&mut self, (x, y): (f64, f64), radius: f64, color: Color, width: f64) {
        self.circle((x, y), radius, None, Some((color, width)));
    }

    fn circle(
        &mut self,
        (cx, cy): (f64, f64),
        r: f64,
        fill: Option<Color>,
        stroke: Option<(Color, f64)>,
    ) {
        self.scene.add(Primitive::Circle {
            cx,
            cy,
            r,
            fill: fill.map_or(Paint::None, paint),
            fill_opacity: None,
            stroke: stroke.map(|(color, _)| paint(color)),
            stroke_width: stroke.map(|(_, width)| width),
        });
    }

    /// Runs `draw` and shows only what it draws inside `area`.
    pub(crate) fn clipped(&mut self, area: Area, draw: impl FnOnce(&mut Self)) {
        let Area { x, y, width, height } = area;
        // The name comes from the area. If several images share a page, equal names then mean equal clips.
        let id = format!("clip-{x:.0}-{y:.0}-{width:.0}-{height:.0}");
        self.scene.add(Primitive::ClipStart { x, y, width, height, id });
        draw(self);
        self.scene.add(Primitive::ClipEnd);
    }

    /// Puts a photograph on the page with its upper left corner at `(x, y)`. An SVG does not show it.
    pub(crate) fn photograph(&mut self, (x, y): (f64, f64), photograph: RgbImage) {
        self.photographs.push((x.round() as i64, y.round() as i64, photograph));
    }

    /// The page as a PNG file.
    pub(crate) fn into_png(self) -> Result<Vec<u8>> {
        let mut page = self.lettered()?;
        for upward in &self.upward {
            upward.stamp(&mut page)?;
        }
        for (x, y, photograph) in &self.photographs {
            image::imageops::replace(&mut page, photograph, *x, *y);
        }
        let mut png = Vec::new();
        PngEncoder::new_with_quality(&mut png, CompressionType::Default, FilterType::Adaptive)
            .write_image(&page, page.width(), page.height(), ExtendedColorType::Rgb8)
            .map_err(Error::draw)?;
        Ok(png)
    }

    /// The page with the lettering but without upward text and photographs.
    fn lettered(&self) -> Result<RgbImage> {
        let mut page = rasterize(&self.scene)?;
        self.lettering.iter().for_each(|line| line.stamp(&mut page));
        Ok(page)
    }

    /// The page as an SVG document, which a browser may scale.
    pub(crate) fn into_svg(mut self) -> String {
        // A browser has its own fonts.
        for line in std::mem::take(&mut self.lettering) {
            self.embedded_text(line.at, &line.text, line.font, line.align);
        }
        self.scene.elements.extend(self.upward.iter().map(Upward::as_primitive));
        let (width, height) = (self.scene.width, self.scene.height);
        let svg = SvgBackend::default().render_scene(&self.scene);
        // Without a view box a browser cuts the image instead of scaling it.
        svg.replacen("<svg ", &format!("<svg viewBox=\"0 0 {width} {height}\" "), 1)
    }
}

/// Reads the fonts that images are drawn with. The drawing library keeps all their characters ready, which takes some 50 MiB
/// for the rest of the process. A program that measures its own memory calls this first.
///
/// # Errors
/// If nothing can be drawn.
pub fn load_fonts() -> Result<()> {
    let mut canvas = Canvas::new(1.0, 1.0)?;
    for bold in [false, true] {
        let font = Font { size: 8, bold, color: [0; 3] };
        canvas.text((0.0, 0.0), "a", font, Align::Left);
    }
    canvas.into_png().map(drop)
}

fn rasterize(scene: &Scene) -> Result<RgbImage> {
    let png = RasterBackend::new().with_scale(1.0).render_scene(scene).map_err(Error::draw)?;
    Ok(image::load_from_memory(&png).map_err(Error::draw)?.into_rgb8())
}

fn anchor(align: Align) -> TextAnchor {
    match align {
        Align::Left => TextAnchor::Start,
        Align::Center => TextAnchor::Middle,
        Align::Right => TextAnchor::End,
    }
}

fn paint([red, green, blue]: Color) -> Paint {
    Paint::Rgb(red, green, blue)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::palette::INK;

    fn pixel(png: &[u8], x: u32, y: u32) -> [u8; 3] {
        image::load_from_memory(png).expect("own PNG").into_rgb8().get_pixel(x, y).0
    }

    #[test]
    fn areas_and_photographs_land_where_they_should() -> Result<()> {
        let mut canvas = Canvas::new(40.0, 30.0)?;
        canvas.fill(Area { x: 10.0, y: 5.0, width: 4.0, height: 6.0 }, [255, 0, 0]);
        canvas.photograph((20.0, 5.0), RgbImage::from_pixel(3, 3, image::Rgb([1, 2, 3])));
        let png = canvas.into_png()?;
        assert_eq!(pixel(&png, 10, 5), [255, 0, 0]);
        assert_eq!(pixel(&png, 13, 10), [255, 0, 0]);
        assert_eq!(pixel(&png, 14, 10), [255, 255, 255]);
        assert_eq!(pixel(&png, 22, 7), [1, 2, 3]);
        assert_eq!(pixel(&png, 23, 8), [255, 255, 255]);
        Ok(())
    }

    #[test]
    fn nothing_is_drawn_outside_a_clip() -> Result<()> {
        let mut canvas = Canvas::new(20.0, 20.0)?;
        let all = Area { x: 0.0, y: 0.0, width: 20.0, height: 20.0 };
        let half = Area { width: 10.0, ..all };
        canvas.clipped(half, |canvas| canvas.fill(all, [0, 0, 255]));
        let png = canvas.into_png()?;
        assert_eq!(pixel(&png, 9, 10), [0, 0, 255]);
        assert_eq!(pixel(&png, 10, 10), [255, 255, 255]);
        Ok(())
    }

    #[test]
    fn text_is_taken_literally() -> Result<()> {
        let mut canvas = Canvas::new(200.0, 20.0)?;
        canvas.text((5.0, 15.0), "<a> & $x$", Font::new(12, INK), Align::Left);
        let svg = canvas.into_svg();
        assert!(svg.contains("&lt;a&gt; &amp; $x$"), "{svg}");
        assert!(svg.starts_with("<svg viewBox=\"0 0 200 20\""), "{svg}");
        Ok(())
    }

    #[test]
    fn a_page_beyond_all_measure_is_refused() {
        assert!(matches!(Canvas::new(1e6, 10.0), Err(Error::TooLarge { .. })));
    }
}
