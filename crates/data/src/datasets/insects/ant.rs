//! An ant seen from above: head, slender thorax, thin waist with a node, round gaster, six long legs, elbowed
//! antennae, jaws and no wings. One unit is the length of its body.

use super::canvas::Role;
use super::geometry::{Frame, Point, Shape, point, polar};
use super::light::{Color, mix, noise, rgb, scaled, smoothstep};
use super::limbs::{Legs, antennae, paint_all, shadow};
use super::scene::Scene;

/// The joints where the head and the gaster turn against the thorax.
const NECK: Point = point(0.265, 0.0);
const WAIST: Point = point(-0.10, 0.0);

pub(super) fn draw(scene: &mut Scene, frame: Frame) {
    let body = Body::new(scene);
    let colors = Colors::pick(scene);

    let all = body.limbs.iter().chain(&body.thorax).chain([&body.head, &body.gaster]);
    shadow(scene, frame, all, 0.08);
    paint_all(scene, frame, &body.limbs, colors.legs, 0.15);
    paint_all(scene, frame, &body.jaws, scaled(colors.head, 0.8), 0.2);
    paint_all(scene, frame, &body.thorax, colors.thorax, 0.22);
    paint_gaster(scene, frame, &body.gaster, colors.gaster);
    scene.body(frame, &body.head, Role::Subject, colors.head, 0.28);
    paint_all(scene, frame, &body.eyes, rgb(14, 12, 12), 0.5);
    paint_all(scene, frame, &body.antennae, colors.legs, 0.15);
}

struct Colors {
    head: Color,
    thorax: Color,
    gaster: Color,
    legs: Color,
}

impl Colors {
    /// Picks a colour: black, dark brown, red, or red with a dark gaster.
    fn pick(scene: &mut Scene) -> Self {
        let black = rgb(34, 30, 30);
        let brown = rgb(72, 46, 30);
        let red = rgb(128, 62, 36);
        let [front, gaster] = scene.pick(&[
            [black, black],
            [brown, rgb(48, 32, 24)],
            [red, red],
            [red, rgb(46, 30, 26)],
        ]);
        let front = scene.varied(front, 0.2);
        let gaster = scene.varied(gaster, 0.2);
        let head = scaled(front, scene.between(0.85, 1.1));
        Self { head, thorax: front, gaster, legs: mix(front, brown, 0.4) }
    }
}

struct Body {
    head: Shape,
    thorax: Vec<Shape>,
    gaster: Shape,
    limbs: Vec<Shape>,
    antennae: Vec<Shape>,
    jaws: Vec<Shape>,
    eyes: Vec<Shape>,
}

impl Body {
    fn new(scene: &mut Scene) -> Self {
        let head_turn = scene.between(-0.35, 0.35);
        let gaster_turn = scene.between(-0.45, 0.45);
        let head_size = scene.between(0.9, 1.15);
        let gaster_size = scene.between(0.9, 1.15);

        let on_head = |x: f32, y: f32| NECK + point(x, y).rotated(head_turn) * head_size;
        let head_radii = point(0.105, 0.092) * head_size;
        let eye = |side: f32| {
            Shape::ellipse(on_head(0.105, 0.078 * side), point(0.026, 0.017) * head_size, head_turn)
        };
        let jaw = |side: f32| {
            let points = [(0.185, 0.05), (0.235, 0.048), (0.258, 0.012)];
            let radii = [0.02, 0.016, 0.006];
            let at = |(x, y): (f32, f32), radius: f32| (on_head(x, y * side), radius * head_size);
            Shape::Stroke(points.into_iter().zip(radii).map(|(p, radius)| at(p, radius)).collect())
        };
        let turned = |shape: Shape| turn(shape, NECK, head_turn);
        let feelers =
            antennae(scene, NECK + point(0.16, 0.035) * head_size, 0.85, [0.17, 0.22], 0.011);

        let on_gaster = |x: f32| WAIST + polar(1.0, gaster_turn) * x;
        Self {
            head: Shape::ellipse(on_head(0.10, 0.0), head_radii, head_turn),
            thorax: thorax(on_gaster),
            gaster: Shape::ellipse(
                on_gaster(-0.045 - 0.17 * gaster_size),
                point(0.175, 0.118) * gaster_size,
                gaster_turn,
            ),
            limbs: LEGS.pose(scene),
            antennae: feelers.into_iter().map(turned).collect(),
            jaws: [1.0, -1.0].map(jaw).to_vec(),
            eyes: [1.0, -1.0].map(eye).to_vec(),
        }
    }
}

/// The shapes from the neck to the waist. The node of the waist moves with the gaster.
fn thorax(on_gaster: impl Fn(f32) -> Point) -> Vec<Shape> {
    let spine = [
        (NECK, 0.022),
        (point(0.21, 0.0), 0.062),
        (point(0.13, 0.0), 0.058),
        (point(0.05, 0.0), 0.045),
        (point(-0.03, 0.0), 0.040),
        (point(-0.07, 0.0), 0.014),
    ];
    let stalk = vec![(point(-0.06, 0.0), 0.014), (WAIST, 0.012), (on_gaster(-0.06), 0.014)];
    let node = Shape::ellipse(WAIST, point(0.020, 0.032), 0.0);
    vec![Shape::Stroke(stalk), node, Shape::Stroke(spine.to_vec())]
}

const LEGS: Legs = Legs {
    hips: [point(0.19, 0.045), point(0.12, 0.045), point(0.05, 0.035)],
    directions: [1.0, 1.75, 2.25],
    knees: [-0.55, 0.45, 0.35],
    lengths: [0.21, 0.21, 0.15],
    radius: 0.018,
};

/// Rotates a stroke about a joint.
fn turn(shape: Shape, joint: Point, angle: f32) -> Shape {
    match shape {
        Shape::Stroke(points) => {
            let turned = |(p, radius): (Point, f32)| (p.turned(joint, angle), radius);
            Shape::Stroke(points.into_iter().map(turned).collect())
        }
        other => other,
    }
}

/// Paints the gaster: smooth and glossy, with the fine edges of its plates.
fn paint_gaster(scene: &mut Scene, frame: Frame, shape: &Shape, color: Color) {
    let (light, seed) = (scene.light, scene.seed());
    scene.paint(frame, shape, Role::Subject, |hit, local| {
        let plate = (hit.inner.x + 0.25 * hit.inner.y * hit.inner.y) * 2.2 + 0.3;
        let edge = 1.0 - smoothstep(0.0, 0.10, (plate - plate.round()).abs());
        let down = 0.9 + 0.2 * noise(local * 60.0, seed);
        let color = mix(scaled(color, down), scaled(color, 1.7), 0.45 * edge);
        (light.on(color, frame.direction(hit.lean) * (1.0 / frame.scale), 0.35), 1.0)
    });
}
