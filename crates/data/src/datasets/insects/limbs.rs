//! Legs and antennae. Both insects have them, in different proportions.

use super::canvas::Role;
use super::geometry::{Frame, Point, Shape, polar};
use super::light::Color;
use super::scene::Scene;

/// The proportions of the three pairs of legs, in body lengths: front, middle, hind.
pub(super) struct Legs {
    /// The points where they join the body, on the left side.
    pub(super) hips: [Point; 3],
    /// The directions of the upper parts, in radians from straight ahead.
    pub(super) directions: [f32; 3],
    /// The angle by which the lower part turns at the knee, in radians. Positive is backward.
    pub(super) knees: [f32; 3],
    /// The lengths of upper part, lower part and foot.
    pub(super) lengths: [f32; 3],
    /// The radius at the hip.
    pub(super) radius: f32,
}

impl Legs {
    /// Six legs in a random pose.
    pub(super) fn pose(&self, scene: &mut Scene) -> Vec<Shape> {
        let mut legs = Vec::with_capacity(6);
        for side in [1.0, -1.0] {
            for pair in 0..3 {
                let sway = scene.between(-0.22, 0.22);
                let upper = self.directions[pair] + sway;
                let lower = upper + self.knees[pair] + scene.between(-0.2, 0.2);
                let foot = lower + self.knees[pair] * 0.4 + scene.between(-0.25, 0.25);
                let reach = scene.between(0.88, 1.08) * [0.9, 0.95, 1.15][pair];
                legs.push(self.leg(pair, side, [upper, lower, foot], reach));
            }
        }
        legs
    }

    fn leg(&self, pair: usize, side: f32, angles: [f32; 3], reach: f32) -> Shape {
        let mirrored = |p: Point| Point { y: p.y * side, ..p };
        let mut at = self.hips[pair];
        let mut points = vec![(mirrored(at), self.radius)];
        // A leg is thick at the thigh, thin below the knee and thinnest at the foot.
        let radii = [0.75, 0.5, 0.25];
        for ((angle, length), radius) in angles.into_iter().zip(self.lengths).zip(radii) {
            let end = at + polar(length * reach, angle);
            let middle = at.mix(end, 0.5);
            points.push((mirrored(middle), self.radius * (radius + 0.2)));
            points.push((mirrored(end), self.radius * radius));
            at = end;
        }
        Shape::Stroke(points)
    }
}

/// A pair of elbowed antennae that start at `root`. Each has a shaft of the first length, followed by a whip of
/// the second length that turns forward.
pub(super) fn antennae(
    scene: &mut Scene,
    root: Point,
    spread: f32,
    lengths: [f32; 2],
    radius: f32,
) -> Vec<Shape> {
    [1.0, -1.0]
        .into_iter()
        .map(|side| {
            let mirrored = |p: Point| Point { y: p.y * side, ..p };
            let out = spread + scene.between(-0.2, 0.25);
            let whip = out - scene.between(0.6, 1.1);
            let curl = scene.between(-0.25, 0.45);
            let elbow = root + polar(lengths[0], out);
            let middle = elbow + polar(lengths[1] * 0.5, whip);
            let end = middle + polar(lengths[1] * 0.5, whip + curl);
            Shape::Stroke(vec![
                (mirrored(root), radius * 0.9),
                (mirrored(elbow), radius * 0.75),
                (mirrored(middle), radius * 0.85),
                (mirrored(end), radius * 1.05),
            ])
        })
        .collect()
}

/// Paints parts of the insect in one colour.
pub(super) fn paint_all(
    scene: &mut Scene,
    frame: Frame,
    parts: &[Shape],
    color: Color,
    gloss: f32,
) {
    for part in parts {
        scene.body(frame, part, Role::Subject, color, gloss);
    }
}

/// Adds the shadow of all parts of the insect. `depth` is its height above the ground.
pub(super) fn shadow<'a>(
    scene: &mut Scene,
    frame: Frame,
    parts: impl Iterator<Item = &'a Shape>,
    depth: f32,
) {
    let below = frame.moved(scene.light.side * (-depth * frame.scale));
    for part in parts {
        scene.canvas.shade(below, part, 0.06 * frame.scale, 0.5);
    }
    scene.canvas.cast_shadows();
}
