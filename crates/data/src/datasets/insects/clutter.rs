//! Things that are neither insect. Some have an insect's features: glossy berries, striped seeds, twigs as thin
//! as legs, thin husks as clear as wings.

use super::canvas::Role;
use super::geometry::{Frame, Point, Shape, point, polar};
use super::light::{mix, noise, rgb, scaled, smoothstep};
use super::scene::Scene;

/// Scatters up to `most` things.
pub(super) fn scatter(scene: &mut Scene, most: usize) {
    for _ in 0..scene.below(most + 1) {
        let at = scene.place();
        match scene.below(7) {
            0 | 1 => pebble(scene, at),
            2 => twig(scene, at),
            3 => berry(scene, at),
            4 => seed(scene, at),
            5 => fallen_leaf(scene, at),
            _ => husk(scene, at),
        }
    }
}

/// Draws blades of grass that may hide a part of the insect.
pub(super) fn grass_in_front(scene: &mut Scene) {
    let count = scene.below(3);
    let color = scene.pick(&[rgb(104, 140, 58), rgb(150, 150, 80), rgb(86, 112, 60)]);
    for _ in 0..count {
        let root = polar(0.75, scene.angle()) + point(0.5, 0.5);
        let aim = point(scene.between(0.15, 0.85), scene.between(0.15, 0.85));
        let tip = root.mix(aim, scene.between(0.4, 0.85));
        let blade = Shape::Blade {
            base: root,
            tip,
            half_width: scene.between(0.008, 0.02),
            widest: 0.3,
            point: 0.8,
        };
        let color = scene.varied(color, 0.2);
        drop_shadow(scene, Frame::image(), &blade, 0.03);
        scene.paint(Frame::image(), &blade, Role::Scenery, |hit, _| {
            (scaled(color, 0.85 + 0.35 * hit.inner.y.abs()), 1.0)
        });
    }
}

fn drop_shadow(scene: &mut Scene, frame: Frame, shape: &Shape, depth: f32) {
    let shadow = frame.moved(scene.light.side * -depth);
    scene.canvas.shade(shadow, shape, depth * 0.8, 0.45);
    scene.canvas.cast_shadows();
}

fn pebble(scene: &mut Scene, at: Point) {
    let color = scene.pick(&[
        rgb(140, 132, 120),
        rgb(94, 66, 46),
        rgb(60, 52, 48),
        rgb(176, 128, 60),
        rgb(186, 178, 166),
    ]);
    let color = scene.varied(color, 0.2);
    let size = scene.between(0.02, 0.085);
    let radii = point(size, size * scene.between(0.6, 0.95));
    let shape = Shape::ellipse(point(0.0, 0.0), radii, 0.0);
    let frame = Frame::new(at, scene.angle(), 1.0);
    drop_shadow(scene, frame, &shape, size * 0.3);
    let (light, seed) = (scene.light, scene.seed());
    scene.paint(frame, &shape, Role::Scenery, |hit, local| {
        let rough = 0.75 + 0.5 * noise(local * (2.5 / size), seed);
        (light.on(scaled(color, rough), frame.direction(hit.lean), 0.05), 1.0)
    });
}

fn twig(scene: &mut Scene, at: Point) {
    let color =
        scene.pick(&[rgb(70, 52, 40), rgb(40, 32, 28), rgb(128, 98, 66), rgb(150, 136, 96)]);
    let (mut heading, radius) = (scene.angle(), scene.between(0.003, 0.011));
    let mut points = vec![(at, radius)];
    for step in 1..=4 {
        heading += scene.between(-0.5, 0.5);
        let from = points[step - 1].0;
        let next = from + polar(scene.between(0.06, 0.13), heading);
        points.push((next, radius * (1.0 - 0.15 * step as f32)));
    }
    let shape = Shape::Stroke(points);
    drop_shadow(scene, Frame::image(), &shape, 0.02);
    scene.body(Frame::image(), &shape, Role::Scenery, color, 0.05);
}

fn berry(scene: &mut Scene, at: Point) {
    let color =
        scene.pick(&[rgb(40, 26, 26), rgb(110, 34, 26), rgb(70, 40, 30), rgb(200, 140, 40)]);
    let size = scene.between(0.02, 0.06);
    let frame = Frame::new(at, 0.0, 1.0);
    let shape = Shape::ellipse(point(0.0, 0.0), point(size, size), 0.0);
    drop_shadow(scene, frame, &shape, size * 0.5);
    scene.body(frame, &shape, Role::Scenery, color, 0.5);
}

/// Draws a seed with stripes along it.
fn seed(scene: &mut Scene, at: Point) {
    let dark = scene.pick(&[rgb(44, 36, 32), rgb(80, 58, 40)]);
    let bright = scene.pick(&[rgb(214, 204, 180), rgb(206, 150, 54), rgb(180, 150, 100)]);
    let length = scene.between(0.05, 0.13);
    let shape = Shape::Blade {
        base: point(-length * 0.5, 0.0),
        tip: point(length * 0.5, 0.0),
        half_width: length * scene.between(0.2, 0.32),
        widest: 0.42,
        point: 0.7,
    };
    let stripes = scene.between(1.5, 3.5);
    let frame = Frame::new(at, scene.angle(), 1.0);
    drop_shadow(scene, frame, &shape, length * 0.15);
    let light = scene.light;
    scene.paint(frame, &shape, Role::Scenery, |hit, _| {
        let wave = (hit.inner.y * stripes * std::f32::consts::PI).cos();
        let color = mix(dark, bright, smoothstep(-0.2, 0.4, wave));
        (light.on(color, frame.direction(hit.lean), 0.12), 1.0)
    });
}

fn fallen_leaf(scene: &mut Scene, at: Point) {
    let color =
        scene.pick(&[rgb(150, 98, 44), rgb(104, 130, 52), rgb(180, 150, 60), rgb(120, 60, 40)]);
    let color = scene.varied(color, 0.15);
    let length = scene.between(0.12, 0.35);
    let shape = Shape::Blade {
        base: point(-length * 0.5, 0.0),
        tip: point(length * 0.5, 0.0),
        half_width: length * scene.between(0.15, 0.28),
        widest: scene.between(0.35, 0.6),
        point: 1.0,
    };
    let frame = Frame::new(at, scene.angle(), 1.0);
    drop_shadow(scene, frame, &shape, 0.02);
    let seed = scene.seed();
    scene.paint(frame, &shape, Role::Scenery, |hit, local| {
        let rib = ((local.x - local.y.abs() * 0.7) * 9.0 / length).fract().abs();
        let vein =
            (1.0 - smoothstep(0.0, 0.08, hit.inner.y.abs())).max(0.5 * smoothstep(0.85, 0.95, rib));
        let blotch = 0.75 + 0.4 * noise(local * (8.0 / length), seed);
        (mix(scaled(color, blotch), scaled(color, 1.5), 0.5 * vein), 1.0)
    });
}

/// Draws the clear skin of a seed.
fn husk(scene: &mut Scene, at: Point) {
    let length = scene.between(0.08, 0.2);
    let shape = Shape::Blade {
        base: point(-length * 0.5, 0.0),
        tip: point(length * 0.5, 0.0),
        half_width: length * scene.between(0.15, 0.25),
        widest: 0.6,
        point: 0.6,
    };
    let frame = Frame::new(at, scene.angle(), 1.0);
    scene.paint(frame, &shape, Role::Scenery, |hit, _| {
        let rim = smoothstep(0.7, 1.0, hit.inner.y.abs());
        (rgb(232, 224, 204), 0.28 + 0.3 * rim)
    });
}
