//! Every method against the values of pytorch-grad-cam and PyTorch (`tests/reference`).

#[path = "../../../tests/support/reference.rs"]
mod reference;

mod support;

use candle_vision_explain::{CamOptions, Method, Target, saliency};
use support::{TestResult, case, tensor};

fn tolerance(method: Method) -> f64 {
    match method {
        Method::ScoreCam | Method::AblationCam => 1e-2,
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
        reference::assert_close(&case, &tensor(&maps[0])?, &expected[&case], tolerance(method));
    }
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
