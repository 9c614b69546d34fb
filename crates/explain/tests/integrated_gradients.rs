//! Integrated gradients against captum's values, in a process of their own: they need convolutions
//! that are summed plainly.

use candle_vision_test_support::reference;

mod support;

use candle_core::DType;
use candle_vision_explain::{IntegratedGradients, Target, integrated_gradients};
use candle_vision_models::Pass;
use support::{TestResult, case};

#[test]
fn integrated_gradients_are_captum_s() -> TestResult {
    // The path begins at an image of zeros, where all places of a map are equal. Max pooling then
    // takes the first; the last digits of faster convolutions would choose another.
    candle_vision_ops::set_exact_convolution(true);
    let expected = reference::tensors("explain.safetensors");
    for name in ["resnet18", "simple_cnn"] {
        let (model, images) = case(name)?;
        let path = IntegratedGradients { steps: 16, baseline: None };
        let target = Target::Class(3);
        let found = integrated_gradients(model.as_ref(), &images, &target, &path)?.values.get(0)?;
        let case = format!("{name}.integrated_gradients_16_trapezoid");
        // captum's weights add up to 15/16, ours to 1.
        reference::assert_close(&case, &(found * (15.0 / 16.0))?, &expected[&case], 1e-3);
    }
    Ok(())
}

#[test]
fn they_add_up_to_the_difference_of_the_scores() -> TestResult {
    let (model, images) = case("simple_cnn")?;
    let path = IntegratedGradients { steps: 200, baseline: None };
    let score = |images| -> candle_core::Result<f32> {
        model.forward(images, &mut Pass::eval())?.get(0)?.get(3)?.to_scalar()
    };
    let difference = f64::from(score(&images)? - score(&images.zeros_like()?)?);
    let found = integrated_gradients(model.as_ref(), &images, &Target::Class(3), &path)?.values;
    let sum = found.to_dtype(DType::F64)?.sum_all()?.to_scalar::<f64>()?;
    assert!((sum - difference).abs() < 2e-2 * difference.abs(), "{sum}, expected {difference}");
    Ok(())
}
