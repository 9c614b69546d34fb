//! A bee seen from above: broad head, furry thorax, stout striped abdomen, two pairs of clear wings, short legs
//! and antennae. One unit is the length of its body.

use std::f32::consts::PI;

use super::canvas::Role;
use super::geometry::{Frame, Point, Shape, point, polar};
use super::light::{Color, mix, noise, rgb, scaled, smoothstep};
use super::limbs::{Legs, antennae, paint_all, shadow};
use super::scene::Scene;

const THORAX: Point = point(0.18, 0.0);
const WAIST: Point = point(0.05, 0.0);

pub(super) fn draw(scene: &mut Scene, frame: Frame) {
    let body = Body::new(scene);
    let colors = Colors::pick(scene);

    let all = body.limbs.iter().chain([&body.head, &body.thorax, &body.abdomen]);
    shadow(scene, frame, all, 0.07);
    paint_all(scene, frame, &body.limbs, colors.legs, 0.1);
    paint_all(scene, frame, &body.antennae, colors.legs, 0.1);
    if scene.chance(0.35) {
        paint_all(scene, frame, &body.pollen, rgb(226, 160, 40), 0.0);
    }
    paint_abdomen(scene, frame, &body.abdomen, &colors);
    paint_fur(scene, frame, &body.head, mix(colors.dark, colors.fur, 0.15), colors.fur, 60);
    paint_all(scene, frame, &body.eyes, rgb(30, 22, 20), 0.45);
    paint_fur(scene, frame, &body.thorax, mix(colors.dark, colors.fur, 0.35), colors.fur, 150);
    for wing in &body.wings {
        paint_wing(scene, frame, wing);
    }
}

struct Colors {
    dark: Color,
    band: Color,
    fur: Color,
    legs: Color,
}

impl Colors {
    /// Picks a colour, from golden to almost black.
    fn pick(scene: &mut Scene) -> Self {
        let [band, fur] = scene.pick(&[
            [rgb(206, 142, 44), rgb(176, 132, 70)],
            [rgb(186, 110, 40), rgb(150, 104, 58)],
            [rgb(150, 116, 76), rgb(128, 106, 76)],
            [rgb(226, 176, 60), rgb(200, 160, 80)],
        ]);
        let dark = scene.pick(&[rgb(40, 30, 26), rgb(58, 38, 26)]);
        let legs = scaled(dark, 1.2);
        Self { dark, band: scene.varied(band, 0.15), fur: scene.varied(fur, 0.15), legs }
    }
}

struct Body {
    head: Shape,
    thorax: Shape,
    abdomen: Shape,
    limbs: Vec<Shape>,
    antennae: Vec<Shape>,
    eyes: Vec<Shape>,
    pollen: Vec<Shape>,
    wings: Vec<Shape>,
}

impl Body {
    fn new(scene: &mut Scene) -> Self {
        let head_turn = scene.between(-0.25, 0.25);
        let tail_turn = scene.between(-0.2, 0.2);
        let stoutness = scene.between(0.9, 1.12);
        let on_head = |x: f32, y: f32| THORAX + point(x, y).rotated(head_turn);
        let eye = |side: f32| {
            Shape::ellipse(
                on_head(0.195, 0.088 * side),
                point(0.058, 0.036),
                head_turn + 0.35 * side,
            )
        };
        let limbs = LEGS.pose(scene);
        let pollen = [2, 5].into_iter().filter_map(|hind| pollen_on(&limbs[hind])).collect();
        let tail = WAIST + polar(-0.46, tail_turn);
        Self {
            head: Shape::ellipse(on_head(0.185, 0.0), point(0.078, 0.118), head_turn),
            thorax: Shape::ellipse(THORAX, point(0.145, 0.140 * stoutness), 0.0),
            abdomen: Shape::Blade {
                base: WAIST + point(0.06, 0.0),
                tip: tail + polar(-0.03, tail_turn),
                half_width: 0.165 * stoutness,
                widest: 0.42,
                point: 0.62,
            },
            limbs,
            antennae: antennae(scene, THORAX + point(0.245, 0.035), 0.75, [0.07, 0.13], 0.011),
            eyes: [1.0, -1.0].map(eye).to_vec(),
            pollen,
            wings: wings(scene),
        }
    }
}

const LEGS: Legs = Legs {
    hips: [point(0.26, 0.09), point(0.17, 0.11), point(0.08, 0.10)],
    directions: [0.9, 1.65, 2.2],
    knees: [-0.5, 0.5, 0.5],
    lengths: [0.13, 0.14, 0.11],
    radius: 0.022,
};

/// The ball of pollen on the lower part of a hind leg.
fn pollen_on(leg: &Shape) -> Option<Shape> {
    let Shape::Stroke(points) = leg else {
        return None;
    };
    let &(at, _) = points.get(3)?;
    Some(Shape::ellipse(at, point(0.042, 0.032), 0.4))
}

/// The wings, first the hind wings, then the fore wings over them. They are at rest or spread as in flight.
fn wings(scene: &mut Scene) -> Vec<Shape> {
    let (fore, hind) = if scene.chance(0.5) {
        (scene.between(2.45, 2.75), scene.between(2.6, 2.9))
    } else {
        (scene.between(1.75, 2.25), scene.between(2.2, 2.6))
    };
    let mut wings = Vec::with_capacity(4);
    for (angle, length, half_width, root) in
        [(hind, 0.38, 0.072, point(0.12, 0.085)), (fore, 0.56, 0.095, point(0.20, 0.09))]
    {
        for side in [1.0, -1.0] {
            let base = point(root.x, root.y * side);
            let angle = (angle + scene.between(-0.08, 0.08)) * side;
            wings.push(Shape::Blade {
                base,
                tip: base + polar(length, angle),
                half_width,
                widest: 0.66,
                point: 0.6,
            });
        }
    }
    wings
}

/// Paints a wing: clear and slightly brown, with a dark front edge, veins and a sheen.
fn paint_wing(scene: &mut Scene, frame: Frame, shape: &Shape) {
    let tint = mix(rgb(226, 220, 206), rgb(150, 132, 104), scene.between(0.0, 0.6));
    let clarity = scene.between(0.24, 0.40);
    let (light, seed) = (scene.light, scene.seed());
    scene.paint(frame, shape, Role::Subject, |hit, local| {
        let Point { x: along, y: across } = hit.inner;
        let line = |offset: f32, width: f32| 1.0 - smoothstep(width * 0.4, width, offset.abs());
        // Three veins fan out from the root, and a few others join them.
        let fan = [0.0, 0.38, -0.45].map(|at| line(across - at * (0.4 + 0.6 * along), 0.10));
        let joint =
            line(along - 0.15 - 0.3 * across, 0.05).max(line(along - 0.55 + 0.4 * across, 0.05));
        let rim = smoothstep(0.82, 0.97, across.abs());
        let vein = fan.into_iter().fold(0.8 * rim, f32::max).max(0.7 * joint * (1.0 - rim));
        let waves = noise(local * 14.0, seed);
        let sheen = smoothstep(0.55, 0.85, waves) * light.ambient;
        let clear = mix(tint, [0.97, 0.98, 1.0], 0.7 * sheen);
        (mix(clear, rgb(70, 52, 36), 0.75 * vein), clarity + 0.2 * sheen + 0.38 * vein)
    });
}

/// Paints the abdomen: bands across it, curved around the body, with a fringe of hair at their edges.
fn paint_abdomen(scene: &mut Scene, frame: Frame, shape: &Shape, colors: &Colors) {
    let bands = scene.between(4.0, 5.4);
    let share = scene.between(-0.25, 0.35);
    let (light, seed) = (scene.light, scene.seed());
    scene.paint(frame, shape, Role::Subject, |hit, local| {
        let fringe = 0.05 * (noise(point(local.x * 26.0, local.y * 90.0), seed) - 0.5);
        let along = (hit.inner.x + 1.0) * 0.5 - 0.05 * hit.inner.y * hit.inner.y + fringe;
        let wave = (along * bands * 2.0 * PI).cos();
        // The tip is dark.
        let bright =
            smoothstep(share - 0.35, share + 0.35, wave) * (1.0 - smoothstep(0.82, 0.95, along));
        let color = mix(colors.dark, colors.band, bright);
        let down = 0.85 + 0.3 * noise(local * 70.0, seed ^ 6);
        // A blade leans only sideways. The rounding of its ends is added here.
        let lean = hit.lean * 0.95 + point(-0.45 * hit.inner.x.powi(3), 0.0);
        let lean = frame.direction(lean) * (1.0 / frame.scale);
        (light.on(scaled(color, down), lean, 0.12), 1.0)
    });
}

/// Paints a rounded part with fur: many short hairs that point outward.
fn paint_fur(
    scene: &mut Scene,
    frame: Frame,
    shape: &Shape,
    skin: Color,
    fur: Color,
    hairs: usize,
) {
    scene.body(frame, shape, Role::Subject, skin, 0.05);
    let Shape::Ellipse { center, radii, angle } = *shape else {
        return;
    };
    for _ in 0..hairs {
        let (around, out) = (scene.angle(), scene.between(0.0, 1.0).sqrt());
        let inner = polar(out, around);
        let root = center + point(inner.x * radii.x, inner.y * radii.y).rotated(angle);
        let direction = around + angle + scene.between(-0.5, 0.5);
        let tip = root + polar(scene.between(0.014, 0.036), direction);
        let hair = Shape::Stroke(vec![(root, 0.0035), (tip, 0.001)]);
        let color = scene.varied(fur, 0.25);
        let lean = frame.direction(inner.rotated(angle)) * (1.0 / frame.scale);
        let lit = scene.light.on(color, lean * 0.9, 0.0);
        scene.paint(frame, &hair, Role::Subject, |_, _| (lit, 0.7));
    }
}
