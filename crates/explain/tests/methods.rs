//! What holds for every method, and what tells them apart.

use candle_vision_test_support::reference;

mod support;

use candle_core::{Device, Tensor};
use candle_vision_explain::{
    CamOptions, Method, Methods, Occlusion, SmoothGrad, Target, embeddings, grad_cam, hires_cam,
    occlusion, saliency, smooth_grad,
};
use candle_vision_models::{Model, ModelSpec, build};
use support::{TestResult, recipe_network, tensor};

fn images(count: usize) -> candle_core::Result<Tensor> {
    reference::image_batch("methods", &[count, 3, 24, 20])
}

fn network() -> candle_core::Result<Box<dyn Model>> {
    recipe_network("gap_cnn_deep", [3, 24, 20])
}

#[test]
fn every_method_gives_a_batch_what_it_gives_each_image() -> TestResult {
    let (model, images) = (network()?, images(2)?);
    for method in &Methods::standard() {
        let together = method.maps(model.as_ref(), &images, &CamOptions::default())?;
        assert_eq!(together.len(), 2, "{method}");
        for (index, map) in together.iter().enumerate() {
            let one = images.narrow(0, index, 1)?;
            let alone = &method.maps(model.as_ref(), &one, &CamOptions::default())?[0];
            assert_eq!((map.height, map.width, map.class), (24, 20, alone.class));
            assert_eq!(map.positive, alone.positive, "{method}");
            assert!(map.map.iter().all(|value| (0.0..=1.0).contains(value)), "{method}");
            let tolerance = match method.name() {
                // The noise is drawn for the batch as a whole.
                "smoothgrad" => continue,
                // On the uniform image that the path begins with, all places of a map are equal:
                // rounding, which depends on the batch, decides where max pooling looks.
                "integrated-gradients" => 2e-2,
                _ => 2e-3,
            };
            reference::assert_close(method.name(), &tensor(map)?, &tensor(alone)?, tolerance);
        }
    }
    Ok(())
}

#[test]
fn every_method_takes_a_frozen_network_and_leaves_it_as_it_was() -> TestResult {
    let (model, images) = (network()?, images(1)?);
    let values = || -> candle_core::Result<Vec<f32>> {
        let all = model.parameters().weights();
        let flat = |p: &candle_vision_models::Parameter| p.detached().flatten_all()?.to_vec1();
        Ok(all.iter().map(flat).collect::<candle_core::Result<Vec<Vec<f32>>>>()?.concat())
    };
    let before = values()?;
    for method in &Methods::standard() {
        model.parameters().unfreeze("")?;
        let trainable = method.maps(model.as_ref(), &images, &CamOptions::default())?;
        model.parameters().freeze("")?;
        let frozen = method.maps(model.as_ref(), &images, &CamOptions::default())?;
        assert_eq!(trainable, frozen, "{method}");
    }
    assert_eq!(values()?, before);
    Ok(())
}

/// Two classes whose logits are opposite: what speaks for one speaks against the other.
fn opposite() -> candle_core::Result<Box<dyn Model>> {
    let model = network_of_two()?;
    let head = model.parameters().get("fc.weight").expect("gap_cnn has it");
    let row = head.detached().narrow(0, 0, 1)?;
    head.set(&Tensor::cat(&[&row, &row.neg()?], 0)?)?;
    let bias = model.parameters().get("fc.bias").expect("gap_cnn has it");
    bias.set(&bias.detached().zeros_like()?)?;
    Ok(model)
}

fn network_of_two() -> candle_core::Result<Box<dyn Model>> {
    build(&ModelSpec::new("gap_cnn", 2).input([3, 24, 20]), 0, &Device::Cpu)
}

#[test]
fn a_difference_of_opposite_classes_is_twice_the_class() -> TestResult {
    let (model, images) = (opposite()?, images(1)?);
    let maps =
        |target| grad_cam(model.as_ref(), &images, &CamOptions { target, ..CamOptions::default() });
    let class = maps(Target::Class(1))?;
    let difference = maps(Target::Difference { class: 1, other: 0 })?;
    assert_eq!(difference[0].class, 1);
    reference::assert_close("difference", &tensor(&difference[0])?, &tensor(&class[0])?, 1e-5);
    let reverse = maps(Target::Difference { class: 0, other: 1 })?;
    assert_ne!(reverse[0].map, class[0].map);
    Ok(())
}

#[test]
fn each_image_may_have_its_own_class() -> TestResult {
    let (model, images) = (network()?, images(2)?);
    let own = CamOptions { target: Target::Classes(vec![4, 7]), ..CamOptions::default() };
    let maps = grad_cam(model.as_ref(), &images, &own)?;
    assert_eq!((maps[0].class, maps[1].class), (4, 7));
    let seven = CamOptions { target: Target::Class(7), ..CamOptions::default() };
    assert_eq!(maps[1], grad_cam(model.as_ref(), &images, &seven)?[1]);
    let short = CamOptions { target: Target::Classes(vec![4]), ..CamOptions::default() };
    let error = grad_cam(model.as_ref(), &images, &short).expect_err("one class is missing");
    assert!(error.to_string().contains("1 target classes for 2 images"), "{error}");
    Ok(())
}

#[test]
fn likeness_to_itself_is_explained_and_a_foreign_vector_refused() -> TestResult {
    let (model, images) = (network()?, images(2)?);
    let vectors = embeddings(model.as_ref(), &images)?;
    assert_eq!(vectors.dims(), [2, 128]);
    let like = CamOptions {
        target: Target::Similarity(vectors.get(1)?.to_vec1()?),
        ..CamOptions::default()
    };
    for method in [Method::GRAD_CAM, Method::SCORE_CAM, Method::ABLATION_CAM, Method::OCCLUSION] {
        let maps = method.maps(model.as_ref(), &images, &like)?;
        assert!(maps[0].map.iter().all(|value| value.is_finite()), "{method}");
    }
    for vector in [vec![1.0; 5], vec![0.0; 128]] {
        let options = CamOptions { target: Target::Similarity(vector), ..CamOptions::default() };
        let error = grad_cam(model.as_ref(), &images, &options).expect_err("not its vector");
        assert!(error.to_string().contains("the network's have 128"), "{error}");
    }
    Ok(())
}

#[test]
fn smoothing_changes_a_map_and_keeps_its_range() -> TestResult {
    let (model, images) = (network()?, images(1)?);
    let plain = grad_cam(model.as_ref(), &images, &CamOptions::default())?;
    for (options, peak) in [
        (CamOptions { eigen_smooth: true, ..CamOptions::default() }, 0.9999..=1.0),
        // A mean of maps that peak at different places.
        (CamOptions { aug_smooth: true, ..CamOptions::default() }, 0.3..=0.9999),
    ] {
        let smooth = grad_cam(model.as_ref(), &images, &options)?;
        assert_ne!(smooth[0].map, plain[0].map);
        assert_eq!(smooth[0].class, plain[0].class);
        let largest = smooth[0].map.iter().copied().fold(0.0, f32::max);
        assert!(peak.contains(&largest), "{largest}");
        assert!(smooth[0].map.iter().all(|value| (0.0..=1.0).contains(value)));
    }
    Ok(())
}

#[test]
fn augmented_maps_are_turned_back() -> TestResult {
    let (model, images) = (network()?, images(1)?);
    let smooth = CamOptions { aug_smooth: true, ..CamOptions::default() };
    let map = tensor(&hires_cam(model.as_ref(), &images, &smooth)?[0])?;
    let mirrored = images.flip(&[3])?;
    let other = tensor(&hires_cam(model.as_ref(), &mirrored, &smooth)?[0])?;
    // The variants of an image and of its mirror image are the same six.
    reference::assert_close("mirrored", &other.flip(&[1])?, &map, 1e-3);
    Ok(())
}

#[test]
fn a_layer_inside_a_block_can_be_ablated() -> TestResult {
    let model = recipe_network("resnet18", [3, 32, 32])?;
    let images = reference::image_batch("inside", &[1, 3, 32, 32])?;
    let options = CamOptions { layer: Some("layer1.0.conv2".into()), ..CamOptions::default() };
    let maps = Method::ABLATION_CAM.maps(model.as_ref(), &images, &options)?;
    assert!(maps[0].map.iter().all(|value| value.is_finite()));
    Ok(())
}

#[test]
fn methods_of_pixels_refuse_what_is_for_layers() -> TestResult {
    let (model, images) = (network()?, images(1)?);
    let options = CamOptions { layer: Some("conv1".into()), ..CamOptions::default() };
    let error = Method::SALIENCY.maps(model.as_ref(), &images, &options).expect_err("refused");
    assert!(error.to_string().contains("`saliency` looks at the pixels: a layer is for"));
    // A network without spatial maps has pixels all the same.
    let mlp = build(&ModelSpec::new("mlp", 10), 0, &Device::Cpu)?;
    let digits = reference::image_batch("digits", &[1, 1, 28, 28])?;
    for method in Methods::standard().iter().filter(|method| !method.takes_layer()) {
        let maps = method.maps(mlp.as_ref(), &digits, &CamOptions::default())?;
        assert_eq!(maps[0].map.len(), 28 * 28, "{method}");
    }
    Ok(())
}

#[test]
fn occlusion_finds_the_only_place_that_matters() -> TestResult {
    // A linear network that looks at one pixel.
    let model = build(&ModelSpec::new("mlp", 2).input([1, 8, 8]), 0, &Device::Cpu)?;
    let mut first = vec![0f32; 128 * 64];
    first[8 * 2 + 5] = 1.0;
    let mut second = vec![0f32; 2 * 128];
    second[0] = 1.0;
    let set = |name: &str, values: Vec<f32>| -> TestResult {
        let parameter = model.parameters().get(name).expect("mlp has it");
        Ok(parameter.set(&Tensor::from_vec(values, parameter.var().shape(), &Device::Cpu)?)?)
    };
    set("layer1.weight", first)?;
    set("layer2.weight", second)?;
    let images = Tensor::ones((1, 1, 8, 8), candle_core::DType::F32, &Device::Cpu)?;
    let patch = Occlusion { window: Some(1), stride: Some(1), fill: 0.0 };
    let lost = occlusion(model.as_ref(), &images, &Target::Class(0), &patch)?.values;
    let lost = lost.flatten_all()?.to_vec1::<f32>()?;
    let gradient = saliency(model.as_ref(), &images, &Target::Class(0))?.values;
    let gradient = gradient.flatten_all()?.to_vec1::<f32>()?;
    for (pixel, (lost, gradient)) in lost.iter().zip(&gradient).enumerate() {
        let expected = if pixel == 21 { 1.0 } else { 0.0 };
        assert!((lost - expected).abs() < 1e-5 && (gradient - expected).abs() < 1e-6, "{pixel}");
    }
    Ok(())
}

#[test]
fn settings_out_of_range_are_refused() -> TestResult {
    let (model, images) = (network()?, images(1)?);
    let target = Target::Predicted;
    for window in [0, 21] {
        let patch = Occlusion { window: Some(window), ..Occlusion::default() };
        let error = occlusion(model.as_ref(), &images, &target, &patch).expect_err("refused");
        assert!(error.to_string().contains("window must be at least 1 pixel"), "{error}");
    }
    for noise in [
        SmoothGrad { samples: 0, ..SmoothGrad::default() },
        SmoothGrad { noise: f64::NAN, ..SmoothGrad::default() },
    ] {
        let error = smooth_grad(model.as_ref(), &images, &target, &noise).expect_err("refused");
        assert!(error.to_string().contains("must be"), "{error}");
    }
    Ok(())
}
