//! Points, frames (the place of a thing in the image), and shapes as distance functions.

use std::f32::consts::PI;
use std::ops::{Add, Mul, Sub};

/// A point or a vector.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Point {
    pub(super) x: f32,
    pub(super) y: f32,
}

pub(super) const fn point(x: f32, y: f32) -> Point {
    Point { x, y }
}

/// The vector with this length and this angle in radians.
pub(super) fn polar(length: f32, angle: f32) -> Point {
    point(length * angle.cos(), length * angle.sin())
}

impl Point {
    pub(super) fn dot(self, other: Self) -> f32 {
        self.x * other.x + self.y * other.y
    }

    pub(super) fn length(self) -> f32 {
        self.dot(self).sqrt()
    }

    pub(super) fn rotated(self, angle: f32) -> Self {
        let (sin, cos) = angle.sin_cos();
        point(cos * self.x - sin * self.y, sin * self.x + cos * self.y)
    }

    /// Rotated about `pivot`.
    pub(super) fn turned(self, pivot: Self, angle: f32) -> Self {
        pivot + (self - pivot).rotated(angle)
    }

    pub(super) fn mix(self, other: Self, share: f32) -> Self {
        self + (other - self) * share
    }
}

impl Add for Point {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        point(self.x + other.x, self.y + other.y)
    }
}

impl Sub for Point {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        point(self.x - other.x, self.y - other.y)
    }
}

impl Mul<f32> for Point {
    type Output = Self;
    fn mul(self, factor: f32) -> Self {
        point(self.x * factor, self.y * factor)
    }
}

/// The place of a thing in the image, whose sides have length 1: position, heading, size and foreshortening. A
/// body seen at an angle is shortened in one direction.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame {
    origin: Point,
    /// The images of the two axes.
    axes: [Point; 2],
    /// The mean enlargement.
    pub(super) scale: f32,
    /// The largest enlargement in any direction.
    pub(super) longest: f32,
}

impl Frame {
    pub(super) fn new(origin: Point, heading: f32, scale: f32) -> Self {
        let axes = [polar(scale, heading), polar(scale, heading + PI / 2.0)];
        Self { origin, axes, scale, longest: scale }
    }

    /// The frame of the image itself.
    pub(super) fn image() -> Self {
        Self::new(point(0.0, 0.0), 0.0, 1.0)
    }

    /// The frame shortened by the factor `share` along the direction `angle` of the image.
    pub(super) fn flattened(self, share: f32, angle: f32) -> Self {
        let flatten = |axis: Point| {
            let turned = axis.rotated(-angle);
            point(turned.x * share, turned.y).rotated(angle)
        };
        Self { axes: self.axes.map(flatten), scale: self.scale * share.sqrt(), ..self }
    }

    pub(super) fn moved(self, by: Point) -> Self {
        Self { origin: self.origin + by, ..self }
    }

    pub(super) fn to_image(self, local: Point) -> Point {
        self.origin + self.direction(local)
    }

    pub(super) fn direction(self, local: Point) -> Point {
        self.axes[0] * local.x + self.axes[1] * local.y
    }

    pub(super) fn to_local(self, position: Point) -> Point {
        let [x, y] = self.axes;
        let offset = position - self.origin;
        let determinant = x.x * y.y - x.y * y.x;
        point(offset.x * y.y - offset.y * y.x, offset.y * x.x - offset.x * x.y)
            * (1.0 / determinant)
    }
}

/// The outline of a part.
#[derive(Clone, Debug)]
pub(super) enum Shape {
    /// An ellipse with half axes `radii`, rotated by `angle`.
    Ellipse { center: Point, radii: Point, angle: f32 },
    /// A line through points, with a radius at each point.
    Stroke(Vec<(Point, f32)>),
    /// A leaf, petal or wing from `base` to `tip`.
    Blade {
        base: Point,
        tip: Point,
        half_width: f32,
        /// The position of the widest part, in `0.0..1.0` from base to tip.
        widest: f32,
        /// 1 for pointed ends, less for rounder ones.
        point: f32,
    },
}

/// The relation of a point to a shape.
pub(super) struct Hit {
    /// The distance from the outline, negative inside. It is exact only near the outline.
    pub(super) distance: f32,
    /// The position within the shape, in `-1..=1` along and across it.
    pub(super) inner: Point,
    /// How far the surface of a rounded body leans away, in the frame of the shape. Its length is at most 1.
    pub(super) lean: Point,
}

impl Shape {
    pub(super) fn ellipse(center: Point, radii: Point, angle: f32) -> Self {
        Self::Ellipse { center, radii, angle }
    }

    /// A circle that contains the shape.
    pub(super) fn bounds(&self) -> (Point, f32) {
        match self {
            Self::Ellipse { center, radii, .. } => (*center, radii.x.max(radii.y)),
            Self::Stroke(points) => {
                let sum = points.iter().fold(Point::default(), |sum, (p, _)| sum + *p);
                let center = sum * (1.0 / points.len().max(1) as f32);
                let reach = |(p, radius): &(Point, f32)| (*p - center).length() + radius;
                (center, points.iter().map(reach).fold(0.0, f32::max))
            }
            Self::Blade { base, tip, half_width, .. } => {
                (base.mix(*tip, 0.5), (*tip - *base).length() * 0.5 + half_width)
            }
        }
    }

    pub(super) fn hit(&self, p: Point) -> Hit {
        match self {
            Self::Ellipse { center, radii, angle } => hit_ellipse(p - *center, *radii, *angle),
            Self::Stroke(points) => hit_stroke(p, points),
            &Self::Blade { base, tip, half_width, widest, point } => {
                hit_blade(p - base, tip - base, half_width, widest, point)
            }
        }
    }
}

fn hit_ellipse(offset: Point, radii: Point, angle: f32) -> Hit {
    let local = offset.rotated(-angle);
    let inner = point(local.x / radii.x, local.y / radii.y);
    let gradient = point(inner.x / radii.x, inner.y / radii.y).length().max(1e-6);
    let level = inner.length();
    // The first-order distance: the level divided by its gradient.
    Hit { distance: (level - 1.0) * level.max(1e-6) / gradient, inner, lean: inner.rotated(angle) }
}

fn hit_stroke(p: Point, points: &[(Point, f32)]) -> Hit {
    let mut nearest = Hit { distance: f32::MAX, inner: Point::default(), lean: Point::default() };
    let segments = points.len().saturating_sub(1).max(1) as f32;
    for (number, pair) in points.windows(2).enumerate() {
        let [(from, from_radius), (to, to_radius)] = [pair[0], pair[1]];
        let line = to - from;
        let share = ((p - from).dot(line) / line.dot(line).max(1e-12)).clamp(0.0, 1.0);
        let radius = from_radius + (to_radius - from_radius) * share;
        let offset = p - (from + line * share);
        let distance = offset.length() - radius;
        if distance < nearest.distance {
            let along = (number as f32 + share) / segments;
            let lean = offset * (1.0 / radius.max(1e-6));
            nearest = Hit { distance, inner: point(2.0 * along - 1.0, lean.length()), lean };
        }
    }
    nearest
}

fn hit_blade(offset: Point, axis: Point, half_width: f32, widest: f32, pointed: f32) -> Hit {
    let length = axis.length().max(1e-6);
    let forward = axis * (1.0 / length);
    let sideways = point(-forward.y, forward.x);
    let (along, across) = (offset.dot(forward) / length, offset.dot(sideways));
    let stretch = 0.5f32.ln() / widest.ln();
    let width_at = |along: f32| {
        half_width * (PI * along.clamp(0.0, 1.0).powf(stretch)).sin().max(0.0).powf(pointed)
    };
    let width = width_at(along);
    let slope = (width_at(along + 0.01) - width_at(along - 0.01)) / (0.02 * length);
    let beyond = (-along).max(along - 1.0) * length;
    let beside = (across.abs() - width) / (1.0 + slope * slope).sqrt();
    let inner = point(2.0 * along - 1.0, across / width.max(1e-6));
    let lean = sideways * inner.y.clamp(-1.0, 1.0);
    Hit { distance: if beyond > 0.0 { beyond.max(beside) } else { beside }, inner, lean }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_invert() {
        let frame = Frame::new(point(0.3, 0.6), 1.1, 0.4).flattened(0.7, 2.0);
        let local = point(-0.2, 0.5);
        assert!((frame.to_local(frame.to_image(local)) - local).length() < 1e-5);
    }

    #[test]
    fn distances_change_sign_at_the_outline() {
        let ellipse = Shape::ellipse(point(0.0, 0.0), point(2.0, 1.0), 0.0);
        let stroke = Shape::Stroke(vec![(point(-1.0, 0.0), 1.0), (point(1.0, 0.0), 1.0)]);
        let blade = Shape::Blade {
            base: point(-2.0, 0.0),
            tip: point(2.0, 0.0),
            half_width: 1.0,
            widest: 0.5,
            point: 1.0,
        };
        for shape in [ellipse, stroke, blade] {
            for (x, y) in [(2.0, 0.0), (-2.0, 0.0), (0.0, 1.0), (0.0, -1.0)] {
                let at = |share: f32| shape.hit(point(x * share, y * share)).distance;
                assert!(at(0.9) < 0.0 && at(1.1) > 0.0, "{shape:?} at {x}, {y}");
            }
            let (center, radius) = shape.bounds();
            assert!((point(2.0, 0.0) - center).length() <= radius + 1e-6);
        }
    }
}
