//! Measures on networks and maps whose answers are known.

use candle_vision_test_support::reference;

mod support;

use candle_core::{DType, Device, Tensor};
use candle_vision_explain::{CamOptions, ClassActivationMap, Method, Target, faithfulness};
use candle_vision_models::{Model, ModelSpec, build};
use support::{TestResult, recipe_network};

const SIDE: usize = 16;

/// A network that looks at the upper left quarter of its image alone: class 1 if it is bright.
fn looks_at_a_corner() -> candle_core::Result<Box<dyn Model>> {
    let model = build(&ModelSpec::new("mlp", 2).input([1, SIDE, SIDE]), 0, &Device::Cpu)?;
    let mut first = vec![0f32; 128 * SIDE * SIDE];
    for pixel in corner().iter().enumerate().filter(|(_, inside)| **inside).map(|(i, _)| i) {
        first[pixel] = 0.2;
    }
    let mut second = vec![0f32; 2 * 128];
    second[128] = 1.0;
    for (name, values) in [("layer1.weight", first), ("layer2.weight", second)] {
        let parameter = model.parameters().get(name).expect("mlp has it");
        parameter.set(&Tensor::from_vec(values, parameter.var().shape(), &Device::Cpu)?)?;
    }
    for name in ["layer1.bias", "layer2.bias"] {
        let parameter = model.parameters().get(name).expect("mlp has it");
        parameter.set(&parameter.detached().zeros_like()?)?;
    }
    Ok(model)
}

fn corner() -> Vec<bool> {
    (0..SIDE * SIDE).map(|i| i / SIDE < SIDE / 2 && i % SIDE < SIDE / 2).collect()
}

/// Bright in the corner, dark elsewhere.
fn image() -> candle_core::Result<Tensor> {
    let values =
        corner().iter().map(|inside| if *inside { 1.0 } else { -0.2 }).collect::<Vec<f32>>();
    Tensor::from_vec(values, (1, 1, SIDE, SIDE), &Device::Cpu)
}

fn map(hot: impl Fn(bool) -> f32) -> ClassActivationMap {
    ClassActivationMap {
        map: corner().into_iter().map(hot).collect(),
        height: SIDE,
        width: SIDE,
        class: 1,
        probability: 1.0,
        positive: true,
        layer: "by hand".to_owned(),
    }
}

#[test]
fn a_true_map_beats_a_random_one_and_that_a_false_one() -> TestResult {
    let (model, image) = (looks_at_a_corner()?, image()?);
    let score = |map: &ClassActivationMap| {
        faithfulness::score(model.as_ref(), &image, map, Some(&corner()))
    };
    let right = score(&map(|inside| f32::from(u8::from(inside))))?;
    let wrong = score(&map(|inside| f32::from(u8::from(!inside))))?;
    let random = score(&faithfulness::random_map(&map(|_| 0.0), 3))?;
    assert!(right.deletion < random.deletion && random.deletion < wrong.deletion);
    assert!(right.insertion > random.insertion && random.insertion > wrong.insertion);
    assert!(right.road > random.road && random.road > wrong.road, "{right:?} {random:?} {wrong:?}");
    assert_eq!((right.pointing, right.pointing_near), (Some(true), Some(true)));
    assert_eq!(right.energy, Some(1.0));
    assert_eq!((wrong.pointing, wrong.energy), (Some(false), Some(0.0)));
    Ok(())
}

#[test]
fn a_curve_begins_and_ends_with_the_whole_images() -> TestResult {
    let (model, image) = (looks_at_a_corner()?, image()?);
    let right = map(|inside| f32::from(u8::from(inside)));
    let deletion = faithfulness::deletion(model.as_ref(), &image, &right, 4)?.probabilities;
    // All 64 bright pixels are gone after the first quarter: the logits are equal.
    assert!(deletion[0] > 0.99 && (deletion[1] - 0.5).abs() < 1e-6, "{deletion:?}");
    assert!(deletion[1..].iter().all(|probability| (probability - 0.5).abs() < 1e-6));
    let insertion = faithfulness::insertion(model.as_ref(), &image, &right, 4)?.probabilities;
    assert!((insertion[4] - deletion[0]).abs() < 1e-6, "{insertion:?}");
    Ok(())
}

#[test]
fn random_maps_point_at_the_subject_as_often_as_it_is_large() -> TestResult {
    const LARGE: usize = 63;
    let like = ClassActivationMap { height: LARGE, width: LARGE, ..map(|_| 0.0) };
    let quarter: Vec<bool> = (0..LARGE * LARGE)
        .map(|i| i / LARGE < LARGE / 2 && (LARGE / 4..3 * LARGE / 4).contains(&(i % LARGE)))
        .collect();
    let (mut hits, mut energy) = (0.0, 0.0);
    for seed in 0..400 {
        let random = faithfulness::random_map(&like, seed);
        hits += f64::from(u8::from(faithfulness::pointing_game(&random, &quarter)?));
        energy += faithfulness::energy_in_mask(&random, &quarter)?;
    }
    // A quarter of the image; the standard error of the hits is 0.02.
    assert!((hits / 400.0 - 0.25).abs() < 0.08, "{hits}");
    assert!((energy / 400.0 - 0.25).abs() < 0.03, "{energy}");
    Ok(())
}

#[test]
fn a_map_without_evidence_points_nowhere() -> TestResult {
    let nothing = ClassActivationMap { positive: false, ..map(|_| 0.0) };
    assert!(!faithfulness::pointing_game(&nothing, &vec![true; SIDE * SIDE])?);
    assert_eq!(faithfulness::energy_in_mask(&nothing, &vec![true; SIDE * SIDE])?, 0.0);
    Ok(())
}

#[test]
fn what_the_input_decides_alone_survives_randomisation() -> TestResult {
    let model = recipe_network("gap_cnn", [3, 32, 32])?;
    let image = reference::image_batch("sanity", &[1, 3, 32, 32])?;
    let options = CamOptions { target: Target::Class(2), ..CamOptions::default() };
    let before = model.parameters().get("fc.weight").expect("gap_cnn has it").detached();
    let before = before.copy()?.flatten_all()?.to_vec1::<f32>()?;
    let randomise = |untrained: &dyn Model| {
        faithfulness::weight_randomisation(
            model.as_ref(),
            untrained,
            &image,
            &Method::EIGEN_CAM,
            &options,
        )
    };
    let error = randomise(model.as_ref()).expect_err("it is the network itself").to_string();
    assert!(
        error.contains("`conv1.weight` of the untrained network is the network's own"),
        "{error}"
    );
    let error = randomise(build(&ModelSpec::new("simple_cnn", 4), 1, &Device::Cpu)?.as_ref());
    assert!(matches!(error, Err(candle_vision_explain::Error::NoTwin { .. })), "{error:?}");
    let check = randomise(build(model.spec(), 1, &Device::Cpu)?.as_ref())?;
    let layers: Vec<(usize, &str)> =
        check.iter().map(|stage| (stage.layers, stage.down_to.as_str())).collect();
    assert_eq!(layers, [(1, "fc"), (2, "conv3"), (4, "conv1")]);
    // EigenCAM knows no class: without the head it is the same map.
    assert!((check[0].correlation - 1.0).abs() < 1e-9, "{check:?}");
    assert!(check[2].correlation < 0.9, "{check:?}");
    let after = model.parameters().get("fc.weight").expect("gap_cnn has it").detached();
    assert_eq!(after.flatten_all()?.to_vec1::<f32>()?, before);
    Ok(())
}

#[test]
fn sizes_that_do_not_fit_are_refused() -> TestResult {
    let model = looks_at_a_corner()?;
    let map = map(|_| 1.0);
    let error = faithfulness::pointing_game(&map, &[true; 3]).expect_err("refused").to_string();
    assert!(error.contains("256 values for 16x16") && error.contains("3 pixels"), "{error}");
    let two = Tensor::zeros((2, 1, SIDE, SIDE), DType::F32, &Device::Cpu)?;
    assert!(faithfulness::road(model.as_ref(), &two, &map).is_err());
    let error = faithfulness::deletion(model.as_ref(), &image()?, &map, 0).expect_err("refused");
    assert!(error.to_string().contains("steps must be at least 1"), "{error}");
    Ok(())
}
