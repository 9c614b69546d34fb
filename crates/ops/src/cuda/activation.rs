//! Activation functions, and the operations at the end of a fused op.

use candle_core::cuda_backend::cudarc::driver::CudaSlice;
use candle_core::{CudaStorage, Result, Shape};
use candle_vision_kernels::activation::Curve;

use super::array::{Array, stored, unwritten};
use super::element::{Element, with_element};
use super::function::{Source, device_function, launch, over_packs};
use crate::Activation;

/// Adds a bias to `y`, if there is one, and applies an activation, in place.
pub(super) fn finish_in_place<T: Element>(
    y: &mut CudaSlice<T>,
    device: &candle_core::CudaDevice,
    channels: usize,
    bias: Option<Array<'_>>,
    activation: Activation,
) -> Result<()> {
    if bias.is_none() && activation.ceiling().is_none() {
        return Ok(());
    }
    let bias = bias.map(|bias| bias.view::<T>()).transpose()?;
    let (n, channels) = (y.len(), channels as u32);
    let (has_relu, ceiling) = relu(activation);
    let function = device_function::<T>(device, Source::Elementwise, "finish")?;
    let config = over_packs::<T>(n);
    let y_in = y.slice(..);
    // SAFETY: x and y are the same n elements and each is read before it is written; bias has one
    // element for each of the channels, which op checks have seen to.
    unsafe {
        launch!(function, config, &n, &channels, &y_in, &bias, &has_relu, &ceiling, &y_in);
    }
    Ok(())
}

/// Whether there is a ReLU, and its upper limit.
pub(super) fn relu(activation: Activation) -> (i32, f32) {
    match activation.ceiling() {
        None => (0, 0.0),
        Some(ceiling) => (1, ceiling as f32),
    }
}

/// Applies the function to every element.
pub(crate) fn curve(curve: Curve, x: Array<'_>) -> Result<(CudaStorage, Shape)> {
    let (device, name) = (x.device(), curve.name());
    with_element!(name, x.storage, T => {
        let (n, mut y) = (x.len(), unwritten::<T>(device, x.len())?);
        let function = device_function::<T>(device, Source::Elementwise, name)?;
        let (x_in, parameter) = (x.view::<T>()?, parameter(curve));
        // SAFETY: both arrays have n elements.
        unsafe { launch!(function, over_packs::<T>(n), &n, &x_in, &parameter, &mut y); }
        Ok(stored(y, device, x.dims()))
    })
}

/// The gradient of the function's input.
pub(crate) fn curve_gradient(
    curve: Curve,
    x: Array<'_>,
    grad: Array<'_>,
) -> Result<(CudaStorage, Shape)> {
    let (device, name) = (x.device(), curve.name());
    with_element!(name, x.storage, T => {
        let (n, mut dx) = (x.len(), unwritten::<T>(device, x.len())?);
        let function = device_function::<T>(device, Source::Elementwise, format!("{name}_gradient"))?;
        let (x_in, grad, parameter) = (x.view::<T>()?, grad.view::<T>()?, parameter(curve));
        // SAFETY: all arrays have n elements.
        unsafe { launch!(function, over_packs::<T>(n), &n, &x_in, &grad, &parameter, &mut dx); }
        Ok(stored(dx, device, x.dims()))
    })
}

/// The parameter that some functions have. The kernels of the others ignore it.
fn parameter(curve: Curve) -> f32 {
    match curve {
        Curve::LeakyRelu { slope } => slope as f32,
        Curve::Elu { alpha } => alpha as f32,
        _ => 0.0,
    }
}

/// The part of `grad` that passes back through a ReLU with this ceiling. `output` is the ReLU's output.
pub(crate) fn relu_gradient(
    output: Array<'_>,
    grad: Array<'_>,
    ceiling: f64,
) -> Result<(CudaStorage, Shape)> {
    let device = output.device();
    with_element!("relu", output.storage, T => {
        let (n, mut dx) = (output.len(), unwritten::<T>(device, output.len())?);
        let function = device_function::<T>(device, Source::Elementwise, "relu_mask")?;
        let (y, grad, ceiling) = (output.view::<T>()?, grad.view::<T>()?, ceiling as f32);
        // SAFETY: all arrays have n elements.
        unsafe { launch!(function, over_packs::<T>(n), &n, &y, &grad, &ceiling, &mut dx); }
        Ok(stored(dx, device, output.dims()))
    })
}
