//! Colours, noise, and the light on rounded surfaces.

use super::geometry::{Point, point};

/// Red, green and blue, each in `0.0..=1.0`.
pub(super) type Color = [f32; 3];

/// A colour from 8-bit values.
pub(super) const fn rgb(red: u8, green: u8, blue: u8) -> Color {
    [red as f32 / 255.0, green as f32 / 255.0, blue as f32 / 255.0]
}

pub(super) fn mix(from: Color, to: Color, share: f32) -> Color {
    std::array::from_fn(|c| from[c] + (to[c] - from[c]) * share)
}

pub(super) fn scaled(color: Color, factor: f32) -> Color {
    color.map(|value| value * factor)
}

/// 0 below `from`, 1 above `to`, and smooth in between.
pub(super) fn smoothstep(from: f32, to: f32, value: f32) -> f32 {
    let share = ((value - from) / (to - from)).clamp(0.0, 1.0);
    share * share * (3.0 - 2.0 * share)
}

/// The direction and strength of the light.
#[derive(Clone, Copy, Debug)]
pub(super) struct Light {
    /// The sideways part of the direction to the light. Its length is the sine of the angle to the line of
    /// sight.
    pub(super) side: Point,
    /// The brightness of surfaces that face away from the light.
    pub(super) ambient: f32,
}

impl Light {
    /// The colour of a rounded surface that leans away by `lean`, of length at most 1.
    pub(super) fn on(&self, color: Color, lean: Point, gloss: f32) -> Color {
        let lean_length = lean.length();
        let lean = if lean_length > 0.98 { lean * (0.98 / lean_length) } else { lean };
        let facing = (1.0 - lean.dot(lean)).sqrt();
        let height = (1.0 - self.side.dot(self.side)).max(0.0).sqrt();
        let diffuse = (lean.dot(self.side) + facing * height).max(0.0);
        // The direction halfway between the light and the eye gives the highlight.
        let half = point(self.side.x, self.side.y) * 0.5;
        let half_height = (height + 1.0) * 0.5;
        let half_length = (half.dot(half) + half_height * half_height).sqrt();
        let alignment = ((lean.dot(half) + facing * half_height) / half_length).max(0.0);
        let highlight = gloss * alignment.powi(28);
        let lit = scaled(color, self.ambient + (1.15 - self.ambient) * diffuse);
        lit.map(|value| value + highlight)
    }
}

/// Smooth noise in `0.0..=1.0`, with bumps about one unit wide. It is gradient noise, which does not show the
/// grid. Noise with its peaks on the grid would.
pub(super) fn noise(at: Point, seed: u32) -> f32 {
    let (column, row) = (at.x.floor(), at.y.floor());
    let offset = point(at.x - column, at.y - row);
    let slope = |x: i32, y: i32| {
        let hash = hash(column as i32 + x, row as i32 + y, seed);
        let part = |bits: u32| (bits & 0xFFFF) as f32 / 32_768.0 - 1.0;
        let from_corner = offset - point(x as f32, y as f32);
        point(part(hash), part(hash >> 16)).dot(from_corner)
    };
    let smooth = |share: f32| share * share * (3.0 - 2.0 * share);
    let (across, down) = (smooth(offset.x), smooth(offset.y));
    let upper = slope(0, 0) + (slope(1, 0) - slope(0, 0)) * across;
    let lower = slope(0, 1) + (slope(1, 1) - slope(0, 1)) * across;
    (0.5 + 0.95 * (upper + (lower - upper) * down)).clamp(0.0, 1.0)
}

/// The sum of `octaves` noises. Each has half the size and half the strength of the one before.
pub(super) fn rough_noise(at: Point, octaves: u32, seed: u32) -> f32 {
    let mut sum = 0.0;
    let mut weights = 0.0;
    for octave in 0..octaves {
        let frequency = (1u32 << octave) as f32;
        sum += noise(at * frequency, seed.wrapping_add(octave)) / frequency;
        weights += 1.0 / frequency;
    }
    sum / weights
}

/// A number in `0.0..1.0` for each cell of a grid.
pub(super) fn hashed(x: i32, y: i32, seed: u32) -> f32 {
    (hash(x, y, seed) >> 8) as f32 / (1u32 << 24) as f32
}

fn hash(x: i32, y: i32, seed: u32) -> u32 {
    let mut hash = (x as u32).wrapping_mul(0x9E37_79B1)
        ^ (y as u32).wrapping_mul(0x85EB_CA77)
        ^ seed.wrapping_mul(0xC2B2_AE3D);
    hash = (hash ^ (hash >> 15)).wrapping_mul(0x2C1B_3C6D);
    hash = (hash ^ (hash >> 12)).wrapping_mul(0x297A_2D39);
    hash ^ (hash >> 15)
}
