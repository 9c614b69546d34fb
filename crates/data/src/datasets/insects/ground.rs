//! The grounds on which the insects sit. Both insects appear on every ground.

use super::geometry::{Point, point, polar};
use super::light::{Color, mix, noise, rgb, rough_noise, scaled, smoothstep};
use super::scene::Scene;

/// Covers the whole image with a random ground.
pub(super) fn cover(scene: &mut Scene) {
    match scene.below(6) {
        0 => soil(scene),
        1 => leaf(scene),
        2 => bark(scene),
        3 => stone(scene),
        4 => blossom(scene),
        _ => foliage(scene),
    }
}

/// Earth or sand: rough, with grains.
fn soil(scene: &mut Scene) {
    let base =
        scene.pick(&[rgb(122, 92, 66), rgb(176, 148, 112), rgb(92, 76, 62), rgb(150, 112, 78)]);
    let base = scene.varied(base, 0.15);
    let (seed, grains) = (scene.seed(), scene.between(30.0, 70.0));
    scene.canvas.cover(|at| {
        let relief = rough_noise(at * 7.0, 5, seed);
        let grain = noise(at * grains, seed ^ 77);
        let bright = 0.55 + 0.65 * relief + 0.30 * (grain - 0.5);
        let speck = smoothstep(0.86, 0.95, noise(at * (grains * 0.7), seed ^ 99));
        mix(scaled(base, bright), rgb(205, 190, 165), 0.5 * speck)
    });
}

/// A leaf seen close up: ribs on both sides of the midrib, and a fine net between them.
fn leaf(scene: &mut Scene) {
    let base =
        scene.pick(&[rgb(84, 132, 48), rgb(58, 108, 44), rgb(122, 150, 62), rgb(148, 140, 60)]);
    let base = scene.varied(base, 0.15);
    let (angle, seed) = (scene.angle(), scene.seed());
    let (shift, ribs, lean) =
        (scene.between(-0.3, 0.3), scene.between(4.0, 8.0), scene.between(0.5, 1.1));
    scene.canvas.cover(|at| {
        let local = (at - point(0.5, 0.5)).rotated(-angle) + point(0.0, shift);
        let wobble = 0.04 * (rough_noise(at * 4.0, 2, seed) - 0.5);
        let across = local.y + wobble;
        let rib = (local.x - lean * across.abs() + wobble) * ribs;
        let rib_distance = (rib - rib.round()).abs() / ribs;
        let vein = (1.0 - smoothstep(0.004, 0.016, across.abs()))
            .max(0.7 * (1.0 - smoothstep(0.002, 0.010, rib_distance)));
        let net = (noise(at * 38.0, seed ^ 5) - 0.5).abs() * 2.0;
        let bulge = rough_noise(at * 3.0, 3, seed ^ 9);
        let green = scaled(base, 0.62 + 0.5 * bulge + 0.16 * net + 0.12 * (rib_distance * ribs));
        mix(green, scaled(base, 1.55), 0.6 * vein)
    });
}

/// Wood: fibres along one direction, with cracks.
fn bark(scene: &mut Scene) {
    let base =
        scene.pick(&[rgb(104, 82, 64), rgb(136, 122, 106), rgb(84, 62, 46), rgb(168, 138, 100)]);
    let base = scene.varied(base, 0.15);
    let (angle, seed, fibres) = (scene.angle(), scene.seed(), scene.between(8.0, 18.0));
    scene.canvas.cover(|at| {
        let local = at.rotated(angle);
        let bend = 0.12 * (noise(local * 2.5, seed ^ 1) - 0.5);
        let along = point(local.x * 2.0, (local.y + bend) * fibres);
        let fibre = rough_noise(along, 4, seed);
        let crack = smoothstep(0.60, 0.72, noise(point(along.x * 0.6, along.y * 0.5), seed ^ 3));
        let bright = 0.45 + 0.9 * fibre;
        mix(scaled(base, bright), scaled(base, 0.25), 0.8 * crack)
    });
}

/// Concrete or rock: grey and speckled.
fn stone(scene: &mut Scene) {
    let base = scene.pick(&[
        rgb(150, 148, 142),
        rgb(178, 172, 160),
        rgb(112, 110, 112),
        rgb(160, 132, 116),
    ]);
    let base = scene.varied(base, 0.12);
    let (seed, grains) = (scene.seed(), scene.between(40.0, 90.0));
    scene.canvas.cover(|at| {
        let cloud = rough_noise(at * 3.0, 5, seed);
        let grain = noise(at * grains, seed ^ 8);
        let dark = smoothstep(0.62, 0.85, grain) * noise(at * 9.0, seed ^ 6);
        let bright = smoothstep(0.30, 0.12, grain);
        scaled(base, 0.72 + 0.5 * cloud - 0.45 * dark + 0.12 * bright)
    });
}

/// A flower: petals around a disc of florets.
fn blossom(scene: &mut Scene) {
    let colors = [
        rgb(236, 226, 232),
        rgb(214, 120, 170),
        rgb(150, 104, 190),
        rgb(236, 196, 60),
        rgb(226, 140, 70),
    ];
    let petal = scene.pick(&colors);
    let petal = scene.varied(petal, 0.08);
    let heart = scene.pick(&[rgb(214, 160, 40), rgb(120, 84, 40), rgb(150, 160, 60)]);
    let behind = scene.pick(&[rgb(52, 84, 38), rgb(70, 92, 60), rgb(40, 56, 40)]);
    let center = point(scene.between(0.25, 0.75), scene.between(0.25, 0.75));
    let (count, turn, seed) = (scene.between(7.0, 16.0).floor(), scene.angle(), scene.seed());
    let (heart_radius, reach) = (scene.between(0.10, 0.22), scene.between(0.45, 0.75));
    scene.canvas.cover(|at| {
        let offset = at - center;
        let radius = offset.length();
        let around = (offset.y.atan2(offset.x) + turn) / std::f32::consts::TAU * count;
        let from_middle = (around - around.round()).abs() * 2.0;
        let ground = scaled(behind, 0.6 + 0.7 * rough_noise(at * 5.0, 3, seed));
        // For a round tip, the petal ends earlier at its sides.
        let edge = reach * (1.0 - 0.35 * from_middle * from_middle);
        let streak = noise(point(around * 9.0, radius * 6.0), seed ^ 2);
        let lit = 0.72 + 0.30 * radius / reach - 0.28 * from_middle.powi(3) + 0.14 * (streak - 0.5);
        let flower =
            mix(ground, scaled(petal, lit), 1.0 - smoothstep(edge - 0.008, edge + 0.008, radius));
        let floret = noise(at * 46.0, seed ^ 4);
        let dome = 1.0 - 0.35 * (radius / heart_radius).powi(2);
        let florets = scaled(heart, (0.55 + 0.7 * floret) * dome.max(0.2));
        mix(flower, florets, 1.0 - smoothstep(heart_radius * 0.94, heart_radius * 1.04, radius))
    });
}

/// Plants in the distance, out of focus.
fn foliage(scene: &mut Scene) {
    let dark = scene.pick(&[rgb(38, 60, 34), rgb(66, 74, 50), rgb(54, 50, 40), rgb(60, 78, 80)]);
    let bright = scene.pick(&[
        rgb(140, 172, 84),
        rgb(190, 184, 120),
        rgb(170, 190, 180),
        rgb(196, 160, 110),
    ]);
    let seed = scene.seed();
    let spots: Vec<(Point, f32, Color)> = (0..14)
        .map(|_| {
            let color = mix(dark, bright, scene.between(0.2, 1.1));
            (scene.place(), scene.between(0.04, 0.14), color)
        })
        .collect();
    let stem = (scene.place(), polar(1.0, scene.angle()), scene.between(0.015, 0.05));
    scene.canvas.cover(|at| {
        let cloud = smoothstep(0.25, 0.75, rough_noise(at * 2.6, 2, seed));
        let mut color = mix(dark, bright, 0.75 * cloud);
        for (center, radius, spot) in &spots {
            let share = 1.0 - smoothstep(radius * 0.75, radius * 1.15, (at - *center).length());
            color = mix(color, *spot, 0.5 * share);
        }
        let (through, along, width) = stem;
        let offset = at - through;
        let distance = (offset.x * along.y - offset.y * along.x).abs();
        mix(
            color,
            mix(dark, bright, 0.5),
            0.8 * (1.0 - smoothstep(width * 0.6, width * 1.4, distance)),
        )
    });
}
