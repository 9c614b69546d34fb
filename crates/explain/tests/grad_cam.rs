//! Grad-CAM's public face, against PyTorch's values and on a network small enough to do by hand.

use candle_vision_test_support::reference;

mod support;

use candle_core::{Device, Tensor};
use candle_vision_explain::{CamOptions, Error, Target, grad_cam};
use candle_vision_models::{Model, ModelSpec, Parameters, Pass, build};
use support::{TestResult, recipe_network, tensor};

fn at(layer: &str, target: Target) -> CamOptions {
    CamOptions { layer: Some(layer.to_owned()), target, ..CamOptions::default() }
}

#[test]
fn a_batch_gives_what_its_images_give_alone() -> TestResult {
    let model = recipe_network("gap_cnn_deep", [3, 40, 24])?;
    let images = reference::image_batch("batch", &[3, 3, 40, 24])?;
    let together = grad_cam(model.as_ref(), &images, &CamOptions::default())?;
    assert_eq!(together.len(), 3);
    for (index, map) in together.iter().enumerate() {
        let alone =
            &grad_cam(model.as_ref(), &images.narrow(0, index, 1)?, &CamOptions::default())?[0];
        assert_eq!((map.height, map.width, map.class), (40, 24, alone.class));
        assert!((map.probability - alone.probability).abs() < 1e-6);
        // Matrix products add in another order for another batch size.
        reference::assert_close("image", &tensor(map)?, &tensor(alone)?, 1e-4);
    }
    Ok(())
}

#[test]
fn a_frozen_network_gives_the_same_map_and_stays_as_it_was() -> TestResult {
    let model = recipe_network("simple_cnn", [3, 32, 32])?;
    let images = reference::image_batch("frozen", &[1, 3, 32, 32])?;
    let before = grad_cam(model.as_ref(), &images, &CamOptions::default())?;
    model.parameters().freeze("")?;
    let frozen = grad_cam(model.as_ref(), &images, &CamOptions::default())?;
    assert_eq!(before, frozen);
    assert!(model.parameters().trainable().is_empty());
    Ok(())
}

#[test]
fn predicted_is_the_most_probable_class() -> TestResult {
    let model = recipe_network("simple_cnn", [3, 32, 32])?;
    let images = reference::image_batch("predicted", &[1, 3, 32, 32])?;
    let predicted = &grad_cam(model.as_ref(), &images, &CamOptions::default())?[0];
    let mut total = 0.0;
    for class in 0..10 {
        let map = &grad_cam(model.as_ref(), &images, &at("conv3", Target::Class(class)))?[0];
        assert!(map.probability <= predicted.probability);
        total += map.probability;
    }
    assert!((total - 1.0).abs() < 1e-9, "{total}");
    Ok(())
}

/// Two classes: the mean of the image, and its negative (or half of it, with `both`).
struct Mean {
    spec: ModelSpec,
    parameters: Parameters,
    scale: f64,
}

impl Mean {
    fn new(scale: f64) -> Self {
        let spec = ModelSpec::new("mean", 2).input([3, 2, 3]);
        Self { spec, parameters: Parameters::new(), scale }
    }
}

impl Model for Mean {
    fn spec(&self) -> &ModelSpec {
        &self.spec
    }

    fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    fn forward(&self, images: &Tensor, pass: &mut Pass<'_>) -> candle_core::Result<Tensor> {
        let maps = pass.output("maps", images.permute((0, 2, 3, 1))?.contiguous()?)?;
        let mean = (maps.flatten_from(1)?.mean_keepdim(1)? * self.scale)?;
        let mean = pass.output("mean", mean)?;
        pass.output("unused", images.permute((0, 2, 3, 1))?.contiguous()?)?;
        Tensor::cat(&[&mean, &mean.neg()?], 1)
    }

    fn head(&self) -> &str {
        "mean"
    }

    fn cam_layer(&self) -> Option<&str> {
        Some("maps")
    }
}

/// Channel sums 3, 6, 9 in the upper row and 12, 15, 18 in the lower.
fn steps() -> candle_core::Result<Tensor> {
    let values: Vec<f32> = (0..18).map(|i| (i % 6 + 1) as f32).collect();
    Tensor::from_vec(values, (1, 3, 2, 3), &Device::Cpu)
}

#[test]
fn a_map_by_hand() -> TestResult {
    let map = &grad_cam(&Mean::new(1.0), &steps()?, &CamOptions::default())?[0];
    for (found, expected) in map.map.iter().zip([0.0, 0.2, 0.4, 0.6, 0.8, 1.0]) {
        assert!((found - expected).abs() < 1e-5, "{map:?}");
    }
    assert!(map.positive);
    assert_eq!((map.class, map.layer.as_str()), (0, "maps"));
    // sigmoid(2 * 3.5)
    assert!((map.probability - 1.0 / (1.0 + f64::exp(-7.0))).abs() < 1e-7);
    Ok(())
}

#[test]
fn a_map_without_positive_evidence_says_so() -> TestResult {
    let options = CamOptions { target: Target::Class(1), ..CamOptions::default() };
    let map = &grad_cam(&Mean::new(1.0), &steps()?, &options)?[0];
    assert!(!map.positive);
    assert_eq!(map.map, [0.0; 6]);
    Ok(())
}

#[track_caller]
fn check_error(model: &dyn Model, images: &Tensor, options: &CamOptions, expected: &str) {
    let error = grad_cam(model, images, options).expect_err("must be refused").to_string();
    assert!(error.contains(expected), "`{error}` does not hold `{expected}`");
}

#[test]
fn bad_requests_are_refused_with_a_remedy() -> TestResult {
    let images = steps()?;
    let mean = Mean::new(1.0);
    let class = CamOptions { target: Target::Class(2), ..CamOptions::default() };
    check_error(&mean, &images, &class, "class 2 is out of range: the network has 2");
    check_error(&mean, &images, &at("mean", Target::Predicted), "`mean` gives [1, 1]");
    check_error(
        &mean,
        &images,
        &at("unused", Target::Predicted),
        "do not depend on layer `unused`",
    );
    check_error(&mean, &images.flatten_all()?, &CamOptions::default(), "got [18]");
    let broken = Mean::new(f64::NAN);
    check_error(&broken, &images, &CamOptions::default(), "image 0 of the batch are not finite");
    Ok(())
}

#[test]
fn an_unknown_layer_is_answered_with_near_names() -> TestResult {
    let model = build(&ModelSpec::new("resnet18", 2), 0, &Device::Cpu)?;
    let images = reference::image_batch("unknown", &[2, 3, 32, 32])?;
    let error = grad_cam(model.as_ref(), &images, &at("layer4.2", Target::Predicted));
    let Err(Error::UnknownLayer { layer, near }) = error else { panic!("{error:?}") };
    assert_eq!(layer, "layer4.2");
    assert!(near.contains(&"layer4.1".to_owned()), "{near:?}");
    check_error(
        model.as_ref(),
        &images,
        &at("layer4.2", Target::Predicted),
        "`candle-vision summary`",
    );
    Ok(())
}

#[test]
fn a_image_smaller_than_the_network_s_grid_is_refused() -> TestResult {
    let model = build(&ModelSpec::new("gap_cnn", 2).input([3, 32, 32]), 0, &Device::Cpu)?;
    let images = reference::image_batch("tiny", &[1, 3, 4, 40])?;
    let expected = "images of 4x40 are too small for `gap_cnn`, which was made for 32x32";
    check_error(model.as_ref(), &images, &CamOptions::default(), expected);
    Ok(())
}

#[test]
fn a_network_without_maps_is_refused() -> TestResult {
    let model = build(&ModelSpec::new("mlp", 10), 0, &Device::Cpu)?;
    let images = reference::image_batch("mlp", &[1, 1, 28, 28])?;
    check_error(model.as_ref(), &images, &CamOptions::default(), "`mlp` has no spatial maps");
    Ok(())
}
