//! The parts that all drawings share: the canvas, the light and the random choices.

use rand_chacha::ChaCha8Rng;

use super::canvas::{Canvas, Paint, Role};
use super::geometry::{Frame, Hit, Point, Shape, point, polar};
use super::light::{Color, Light, hashed, mix};
use crate::random;

/// A drawing in progress.
pub(super) struct Scene {
    pub(super) canvas: Canvas,
    pub(super) light: Light,
    pub(super) rng: ChaCha8Rng,
}

impl Scene {
    /// An empty canvas of `size` pixels a side, under light from a random direction.
    pub(super) fn new(size: usize, rng: ChaCha8Rng) -> Self {
        let light = Light { side: point(0.0, 0.0), ambient: 0.0 };
        let mut scene = Self { canvas: Canvas::new(size), light, rng };
        let (slant, direction) = (scene.between(0.25, 0.7), scene.angle());
        scene.light = Light { side: polar(slant, direction), ambient: scene.between(0.3, 0.5) };
        scene
    }

    pub(super) fn between(&mut self, low: f32, high: f32) -> f32 {
        random::between(&mut self.rng, f64::from(low), f64::from(high)) as f32
    }

    pub(super) fn chance(&mut self, p: f64) -> bool {
        random::chance(&mut self.rng, p)
    }

    pub(super) fn below(&mut self, count: usize) -> usize {
        random::below(&mut self.rng, count)
    }

    pub(super) fn pick<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.below(items.len())]
    }

    pub(super) fn angle(&mut self) -> f32 {
        self.between(0.0, std::f32::consts::TAU)
    }

    pub(super) fn place(&mut self) -> Point {
        point(self.between(-0.05, 1.05), self.between(-0.05, 1.05))
    }

    /// A random seed for noise.
    pub(super) fn seed(&mut self) -> u32 {
        self.between(0.0, 16_000_000.0) as u32
    }

    /// A random colour close to `color`: lighter or darker, with each channel slightly changed.
    pub(super) fn varied(&mut self, color: Color, by: f32) -> Color {
        let brightness = self.between(1.0 - by, 1.0 + by);
        color.map(|value| value * brightness * self.between(1.0 - by * 0.3, 1.0 + by * 0.3))
    }

    pub(super) fn paint(
        &mut self,
        frame: Frame,
        shape: &Shape,
        role: Role,
        paint: impl Fn(&Hit, Point) -> Paint,
    ) {
        self.canvas.paint(frame, shape, role, paint);
    }

    /// Paints a rounded, lit body of one colour.
    pub(super) fn body(
        &mut self,
        frame: Frame,
        shape: &Shape,
        role: Role,
        color: Color,
        gloss: f32,
    ) {
        let light = self.light;
        self.paint(frame, shape, role, |hit, _| {
            (light.on(color, frame.direction(hit.lean) * (1.0 / frame.scale), gloss), 1.0)
        });
    }

    /// Adds a colour cast, a vignette and the noise of a sensor.
    pub(super) fn develop(&mut self) {
        let exposure = self.between(1.0, 1.4);
        let warmth = self.between(-0.06, 0.06);
        let gains = [exposure * (1.0 + warmth), exposure, exposure * (1.0 - warmth)];
        let vignette = self.between(0.0, 0.5);
        let haze = self.between(0.0, 0.06);
        let grain = self.between(0.005, 0.025);
        let seed = self.seed();
        let size = self.canvas.size;
        for index in 0..size * size {
            let (x, y) = (index % size, index / size);
            let offset = self.canvas.position(x, y) - point(0.5, 0.5);
            let shade = 1.0 - vignette * offset.dot(offset);
            // The sum of two uniform numbers is close enough to a bell curve.
            let bell = |channel: u32| {
                let seed = seed.wrapping_add(channel);
                hashed(x as i32, y as i32, seed) + hashed(y as i32, x as i32, !seed) - 1.0
            };
            let color = mix(self.canvas.colors[index], [0.75; 3], haze);
            self.canvas.colors[index] =
                std::array::from_fn(|c| color[c] * gains[c] * shade + 2.0 * grain * bell(c as u32));
        }
    }
}
