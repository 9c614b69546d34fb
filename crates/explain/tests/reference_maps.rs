//! Every method against the values of pytorch-grad-cam and PyTorch (`tests/reference`).

use candle_vision_test_support::reference;

mod support;

use candle_vision_explain::{CamOptions, Method, Target, full_grad, saliency};
use support::{TestResult, case, tensor};

fn tolerance(method: &Method) -> f64 {
    match method.name() {
        "scorecam" | "ablationcam" => 1e-2,
        _ => 1e-3,
    }
}

#[test]
fn maps_are_those_of_pytorch_grad_cam() -> TestResult {
    let expected = reference::tensors("explain.safetensors");
    let cases = reference::json("explain.json");
    let cases = cases.as_array().expect("a list");
    assert_eq!(cases.len(), 16);
    for entry in cases {
        let (name, method) = (entry["model"].as_str(), entry["method"].as_str());
        let (name, written) = (name.expect("a name"), method.expect("a name"));
        let method: Method = written.parse()?;
        let (model, images) = case(name)?;
        let options = CamOptions { target: Target::Class(3), ..CamOptions::default() };
        let maps = method.maps(model.as_ref(), &images, &options)?;
        assert!(maps[0].positive);
        assert_eq!(maps[0].class, 3);
        let case = format!("{name}.{written}");
        reference::assert_close(&case, &tensor(&maps[0])?, &expected[&case], tolerance(&method));
    }
    Ok(())
}

// From pytorch-grad-cam 1.5.7 and torchvision 0.29.2, with `recipe_network` and its image:
//     with METHOD(model=resnet18, target_layers=[resnet18.layer4[-1]]) as cam:
//         cam(images, [ClassifierOutputTarget(3)], aug_smooth=True, eigen_smooth=EIGEN)[0]
#[test]
fn maps_over_augmentations_are_those_of_pytorch_grad_cam() -> TestResult {
    let expected = reference::tensors("aug_smooth.safetensors");
    let (model, images) = case("resnet18")?;
    for (name, map) in &expected {
        let (method, eigen) = name.split_once('.').unwrap_or((name, ""));
        let method: Method = method.parse()?;
        let options = CamOptions {
            target: Target::Class(3),
            aug_smooth: true,
            eigen_smooth: eigen == "eigen",
            ..CamOptions::default()
        };
        let found = method.maps(model.as_ref(), &images, &options)?;
        reference::assert_close(name, &tensor(&found[0])?, map, tolerance(&method));
    }
    assert_eq!(expected.len(), 5);
    Ok(())
}

#[test]
fn the_gradient_at_the_pixels_is_pytorch_s() -> TestResult {
    let expected = reference::tensors("explain.safetensors");
    for name in ["resnet18", "simple_cnn"] {
        let (model, images) = case(name)?;
        let found = saliency(model.as_ref(), &images, &Target::Class(3))?.values.get(0)?;
        let case = format!("{name}.saliency_grad");
        reference::assert_close(&case, &found, &expected[&case], 1e-3);
    }
    Ok(())
}

// From pytorch-grad-cam 1.5.7 and torchvision 0.29.2, with `recipe_network` and its image:
//     FullGrad(model=resnet18, target_layers=[])(images, [ClassifierOutputTarget(3)])[0]
#[test]
fn full_grad_is_that_of_pytorch_grad_cam() -> TestResult {
    let expected = &reference::tensors("full_grad.safetensors")["resnet18.FullGrad"];
    let (model, images) = case("resnet18")?;
    let maps = full_grad(model.as_ref(), &images, &Target::Class(3))?;
    reference::assert_close("FullGrad", &tensor(&maps[0])?, expected, 1e-3);
    Ok(())
}
