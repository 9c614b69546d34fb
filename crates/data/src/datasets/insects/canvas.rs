//! An image on which shapes are painted with smooth edges, and a mask of the subject.

use super::geometry::{Frame, Hit, Point, Shape, point};
use super::light::{Color, mix};
use crate::error::Result;
use crate::image::Image;

/// A colour, and how much of it covers the layer below, in `0.0..=1.0`.
pub(super) type Paint = (Color, f32);

/// Whether a shape belongs to the subject of the image.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Subject,
    Scenery,
}

/// A square image with any number of pixels. Positions are in `0.0..=1.0`.
pub(super) struct Canvas {
    pub(super) size: usize,
    pub(super) colors: Vec<Color>,
    /// How much of each pixel shows the subject, in `0.0..=1.0`.
    mask: Vec<f32>,
    /// How much light each pixel loses when [`Canvas::cast_shadows`] is called.
    shadow: Vec<f32>,
}

impl Canvas {
    pub(super) fn new(size: usize) -> Self {
        let area = size * size;
        Self { size, colors: vec![[0.0; 3]; area], mask: vec![0.0; area], shadow: vec![0.0; area] }
    }

    /// The position of the centre of a pixel.
    pub(super) fn position(&self, x: usize, y: usize) -> Point {
        point(x as f32 + 0.5, y as f32 + 0.5) * (1.0 / self.size as f32)
    }

    /// Sets the colour of every pixel.
    pub(super) fn cover(&mut self, color: impl Fn(Point) -> Color) {
        for y in 0..self.size {
            for x in 0..self.size {
                self.colors[y * self.size + x] = color(self.position(x, y));
            }
        }
    }

    /// Paints a shape that lies in `frame`.
    pub(super) fn paint(
        &mut self,
        frame: Frame,
        shape: &Shape,
        role: Role,
        paint: impl Fn(&Hit, Point) -> Paint,
    ) {
        let pixels_per_unit = frame.scale * self.size as f32;
        for index in self.pixels_near(frame, shape, 0.0) {
            let local = frame.to_local(self.position(index % self.size, index / self.size));
            let hit = shape.hit(local);
            let coverage = (0.5 - hit.distance * pixels_per_unit).clamp(0.0, 1.0);
            if coverage > 0.0 {
                let (color, alpha) = paint(&hit, local);
                self.colors[index] = mix(self.colors[index], color, alpha * coverage);
                // A clear wing still counts fully as the subject. A clear husk hides little of the subject.
                let (subject, share) = match role {
                    Role::Subject => (1.0, coverage),
                    Role::Scenery => (0.0, alpha * coverage),
                };
                self.mask[index] += (subject - self.mask[index]) * share;
            }
        }
    }

    /// Adds the shadow of a shape. `softness` is the width of its edge. Overlapping shadows of one body do not
    /// add up.
    pub(super) fn shade(&mut self, frame: Frame, shape: &Shape, softness: f32, strength: f32) {
        for index in self.pixels_near(frame, shape, softness) {
            let local = frame.to_local(self.position(index % self.size, index / self.size));
            let distance = shape.hit(local).distance * frame.scale;
            let depth = (0.5 - distance / softness).clamp(0.0, 1.0);
            let depth = depth * depth * (3.0 - 2.0 * depth) * strength;
            self.shadow[index] = self.shadow[index].max(depth);
        }
    }

    /// Darkens the image by the shadows that were added since the last call.
    pub(super) fn cast_shadows(&mut self) {
        for (color, shadow) in self.colors.iter_mut().zip(&mut self.shadow) {
            let light = 1.0 - std::mem::take(shadow);
            *color = color.map(|value| value * light);
        }
    }

    /// The pixels of a square around the shape.
    fn pixels_near(
        &self,
        frame: Frame,
        shape: &Shape,
        margin: f32,
    ) -> impl Iterator<Item = usize> + use<> {
        let (center, radius) = shape.bounds();
        let center = frame.to_image(center);
        let reach = radius * frame.longest + margin + 1.5 / self.size as f32;
        let size = self.size;
        let pixel = |value: f32| (value * size as f32).clamp(0.0, size as f32) as usize;
        let columns = pixel(center.x - reach)..pixel(center.x + reach + 1.0 / size as f32);
        let rows = pixel(center.y - reach)..pixel(center.y + reach + 1.0 / size as f32);
        rows.flat_map(move |y| columns.clone().map(move |x| y * size + x))
    }

    /// Blurs the colours by two box filters of this radius. The radius is a fraction of the image's side.
    pub(super) fn blur(&mut self, radius: f32) {
        let radius = (radius * self.size as f32).round() as usize;
        if radius == 0 {
            return;
        }
        for _ in 0..2 {
            // Each pass blurs the rows and swaps rows and columns. After two passes they are in place again.
            for _ in 0..2 {
                self.colors = blur_rows_transposed(&self.colors, self.size, radius);
            }
        }
    }

    /// The image in 8 bits, and its mask.
    pub(super) fn finish(self) -> Result<(Image, Image)> {
        let byte = |value: f32| (value * 255.0).round().clamp(0.0, 255.0) as u8;
        let pixels = self.colors.iter().flat_map(|color| color.map(byte)).collect();
        let mask = self.mask.iter().map(|&share| byte(share)).collect();
        let image = Image::new(self.size, self.size, 3, pixels)?;
        Ok((image, Image::new(self.size, self.size, 1, mask)?))
    }
}

fn blur_rows_transposed(colors: &[Color], size: usize, radius: usize) -> Vec<Color> {
    let mut blurred = vec![[0.0; 3]; colors.len()];
    let share = 1.0 / (2 * radius + 1) as f32;
    for (y, row) in colors.chunks_exact(size).enumerate() {
        // Beyond the border, the border pixel is repeated.
        let at = |x: isize| row[x.clamp(0, size as isize - 1) as usize];
        let radius = radius as isize;
        let mut sum = [0.0f32; 3];
        for x in -radius..=radius {
            sum = std::array::from_fn(|c| sum[c] + at(x)[c]);
        }
        for x in 0..size {
            blurred[x * size + y] = sum.map(|value| value * share);
            let (next, last) = (at(x as isize + radius + 1), at(x as isize - radius));
            sum = std::array::from_fn(|c| sum[c] + next[c] - last[c]);
        }
    }
    blurred
}
