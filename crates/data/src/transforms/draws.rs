//! How parameters are drawn, against torchvision's draws (`tests/reference/augment.py`).

use std::collections::BTreeMap;

use serde_json::Value;

use super::augment_op::AugmentOp;
use super::augmentation::Augmentation;
use super::*;
use crate::random::{self, Generator};

/// The size of the image that torchvision drew for.
const SIZE: [usize; 2] = [48, 64];
const COUNT: u64 = 20_000;

fn expected() -> BTreeMap<String, Value> {
    let text = include_str!("../../tests/reference/draws.json");
    serde_json::from_str(text).expect("the reference is JSON")
}

/// Compares the shares of values below torchvision's quantiles.
#[track_caller]
fn check(name: &str, values: &[f64]) {
    let expected = expected();
    let points: Vec<[f64; 2]> = serde_json::from_value(expected[name].clone()).expect("pairs");
    assert!(values.len() > 1000, "{name}: {}", values.len());
    // Three standard deviations of both samples.
    let tolerance = 1.5 * (1.0 / values.len() as f64 + 1.0 / 40_000.0).sqrt() + 1e-4;
    for [point, share] in points {
        // The values in the file have six digits.
        let below = values.iter().filter(|&&value| value <= point + 1e-6).count();
        let found = below as f64 / values.len() as f64;
        let difference = (found - share).abs();
        assert!(difference < tolerance, "{name}: {found} of {share} up to {point}");
    }
}

#[track_caller]
fn check_number(name: &str, found: f64, tolerance: f64) {
    let expected = expected()[name].as_f64().expect("a number");
    assert!((found - expected).abs() < tolerance, "{name}: {found}, not {expected}");
}

fn drawn<T>(draw: impl Fn(&mut Generator) -> T) -> Vec<T> {
    (0..COUNT).map(|seed| draw(&mut random::generator(seed))).collect()
}

fn column<T>(rows: &[T], value: impl Fn(&T) -> f64) -> Vec<f64> {
    rows.iter().map(value).collect()
}

/// The one step that a transform draws, or none.
fn step(transform: &impl Transform, rng: &mut Generator) -> Option<PixelStep> {
    let mut steps = PixelSteps::new([SIZE[0], SIZE[1], 3]);
    assert!(transform.draw(&mut steps, rng).expect("it fits"));
    steps.as_slice().first().copied()
}

#[test]
fn affine_changes() {
    let affine = RandomAffine::new([-10.0, 30.0]).translate(0.2, 0.1).scale(0.5, 1.5);
    let affine = affine.shear([-5.0, 5.0, 10.0, 20.0]);
    let changes = drawn(|rng| affine.draw_change(SIZE, rng));
    check("random_affine.angle", &column(&changes, |change| change.degrees));
    check("random_affine.translate_x", &column(&changes, |change| change.translate[0]));
    check("random_affine.translate_y", &column(&changes, |change| change.translate[1]));
    check("random_affine.scale", &column(&changes, |change| change.scale));
    check("random_affine.shear_x", &column(&changes, |change| change.shear[0]));
    check("random_affine.shear_y", &column(&changes, |change| change.shear[1]));
    let rotation = RandomRotation::new([-20.0, 45.0]);
    let angles = drawn(|rng| match step(&rotation, rng) {
        Some(PixelStep::Affine { matrix, .. }) => (-matrix[1]).atan2(matrix[0]).to_degrees(),
        other => panic!("{other:?}"),
    });
    check("random_rotation.angle", &angles);
}

#[test]
fn corners_of_a_perspective() {
    let perspective = RandomPerspective::new().distortion_scale(0.4);
    let corners = drawn(|rng| perspective.draw_corners(SIZE[0], SIZE[1], rng));
    let names = ["upper_left", "upper_right", "lower_right", "lower_left"];
    for (corner, name) in names.iter().enumerate() {
        for (axis, letter) in ["x", "y"].iter().enumerate() {
            let values = column(&corners, |corners| corners[corner][axis]);
            check(&format!("random_perspective.{name}_{letter}"), &values);
        }
    }
}

#[test]
fn elastic_displacements() {
    let elastic = ElasticTransform::new().alpha(30.0).sigma(2.0);
    for (axis, letter) in ["x", "y"].iter().enumerate() {
        let values: Vec<f64> = (0..4000)
            .map(|seed| {
                let field = elastic.draw_axis(axis, [24, 16], &mut random::generator(seed));
                f64::from(field[12 * 16 + 8])
            })
            .collect();
        check(&format!("elastic_transform.{letter}"), &values);
    }
}

#[test]
fn parts_of_an_image() {
    let erasing = RandomErasing::new(1.0);
    let covered: Vec<_> = drawn(|rng| step(&erasing, rng)).into_iter().flatten().collect();
    check_number("random_erasing.share", covered.len() as f64 / COUNT as f64, 0.002);
    let sides = |step: &PixelStep| match *step {
        PixelStep::Fill { top, left, height, width, .. } => [top, left, height, width],
        other => panic!("{other:?}"),
    };
    let names = ["top", "left", "height", "width"];
    for (side, name) in names.iter().enumerate() {
        let values = column(&covered, |step| sides(step)[side] as f64);
        check(&format!("random_erasing.{name}"), &values);
    }
    let zoom = RandomZoomOut::new().side_range(1.0, 3.0).p(1.0);
    let padding = drawn(|rng| match step(&zoom, rng) {
        Some(PixelStep::Window { top, left, height, width, .. }) => {
            let after =
                |before: isize, all: usize, side: usize| all as isize + before - side as isize;
            [-left, -top, after(left, width, SIZE[1]), after(top, height, SIZE[0])]
        }
        other => panic!("{other:?}"),
    });
    for (side, name) in ["left", "top", "right", "bottom"].iter().enumerate() {
        check(&format!("random_zoom_out.{name}"), &column(&padding, |sides| sides[side] as f64));
    }
    let ratio = [3.0 / 4.0, 4.0 / 3.0];
    let parts = drawn(|rng| functional::random_part(SIZE, [0.08, 1.0], ratio, rng));
    for (side, name) in names.iter().enumerate() {
        check(&format!("random_resized_crop.{name}"), &column(&parts, |part| part[side] as f64));
    }
    let crops = drawn(|rng| match step(&RandomCrop::new(24), rng) {
        Some(PixelStep::Window { top, left, .. }) => [top, left],
        other => panic!("{other:?}"),
    });
    check("random_crop.top", &column(&crops, |crop| crop[0] as f64));
    check("random_crop.left", &column(&crops, |crop| crop[1] as f64));
}

#[test]
fn strengths_of_colours() {
    let all = |steps: &[PixelStep], transform: &str| {
        let mut values: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
        for step in steps {
            let (name, value) = match *step {
                PixelStep::Brightness(factor) => ("brightness", f64::from(factor)),
                PixelStep::Contrast(factor) => ("contrast", f64::from(factor)),
                PixelStep::Saturation(factor) => ("saturation", f64::from(factor)),
                _ => continue,
            };
            values.entry(name).or_default().push(value);
        }
        assert_eq!(values.len(), 3);
        values.iter().for_each(|(name, values)| check(&format!("{transform}.{name}"), values));
        values
    };
    let jitter = ColorJitter::new().brightness(0.4).contrast(0.3).saturation(0.2).hue(0.1);
    let steps = drawn(|rng| {
        let mut steps = PixelSteps::new([SIZE[0], SIZE[1], 3]);
        assert!(jitter.draw(&mut steps, rng).expect("it fits"));
        steps.as_slice().to_vec()
    });
    all(&steps.concat(), "color_jitter");
    let distort = RandomPhotometricDistort::new();
    let steps = drawn(|rng| distort.draw_steps(rng)).concat();
    for (name, values) in all(&steps, "random_photometric_distort") {
        let share = values.len() as f64 / COUNT as f64;
        check_number(&format!("random_photometric_distort.{name}.share"), share, 0.015);
    }
    let blur = GaussianBlur::new(3);
    check("gaussian_blur.sigma", &drawn(|rng| blur.draw_sigma(rng)));
    let quality = Jpeg::new([20, 60]);
    check("jpeg.quality", &drawn(|rng| quality.draw_quality(rng).into()));
    let noise = GaussianNoise::new(0.1).mean(0.02);
    let grey = crate::image::Image::filled(200, 200, 3, 100);
    let noisy = noise.apply(grey, &mut random::generator(0)).expect("it fits");
    let values: Vec<f64> = noisy.pixels().iter().map(|&value| value.into()).collect();
    check("gaussian_noise.value", &values);
}

#[test]
fn operations_of_automatic_augmentations() {
    let rand_augment = RandAugment::new().num_ops(3).magnitude(11);
    check_ops("rand_augment", |rng| rand_augment.ops(SIZE, rng));
    check_ops("trivial_augment_wide", |rng| TrivialAugmentWide::new().ops(SIZE, rng));
    for (policy, name) in [
        (AutoAugmentPolicy::ImageNet, "imagenet"),
        (AutoAugmentPolicy::Cifar10, "cifar10"),
        (AutoAugmentPolicy::Svhn, "svhn"),
    ] {
        let augment = AutoAugment::new(policy);
        check_ops(&format!("auto_augment.{name}"), |rng| augment.ops(SIZE, rng));
    }
    // Three chains for each image.
    let mix = AugMix::new().severity(5);
    check_ops("aug_mix", |rng| (0..3).flat_map(|_| mix.chain(SIZE, rng)).collect());
}

/// Compares how often each operation comes, and the mean and deviation of its strength.
fn check_ops(name: &str, draw: impl Fn(&mut Generator) -> Vec<AugmentOp>) {
    let mut found: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for ops in drawn(draw) {
        for op in ops {
            found.entry(format!("{name}.{:?}", op.kind)).or_default().push(op.strength);
        }
    }
    let expected = expected();
    let counts = expected
        .keys()
        .filter(|key| key.starts_with(&format!("{name}.")) && key.ends_with("count"));
    assert_eq!(counts.count(), found.len(), "{name}: {:?}", found.keys());
    for (op, strengths) in found {
        let count = strengths.len() as f64;
        check_number(&format!("{op}.count"), count / COUNT as f64, 0.015);
        let mean = strengths.iter().sum::<f64>() / count;
        let square = strengths.iter().map(|strength| (strength - mean).powi(2)).sum::<f64>();
        let std = (square / count).sqrt();
        let tolerance = 1e-3 + 5.0 * std / count.sqrt();
        check_number(&format!("{op}.mean"), mean, tolerance);
        check_number(&format!("{op}.std"), std, tolerance);
    }
}
