//! Fully connected layers: three products.

use candle_core::{CudaStorage, Result, Shape};

use super::activation::finish_in_place;
use super::array::{Array, stored, unwritten};
use super::element::with_element;
use super::gemm::{Matrix, product};
use crate::Activation;

const NAME: &str = "linear";

/// `x * weight^T + bias` for `x` of `rows` rows.
pub(crate) fn linear(
    x: Array<'_>,
    weight: Array<'_>,
    bias: Option<Array<'_>>,
    rows: usize,
    shape: Shape,
) -> Result<(CudaStorage, Shape)> {
    let device = x.device();
    let &[outputs, inputs] = weight.dims() else { candle_core::bail!("{NAME}: weight has rank 2") };
    with_element!(NAME, x.storage, T => {
        let mut y = unwritten::<T>(device, rows * outputs)?;
        let (x, weight) = (x.view::<T>()?, weight.view::<T>()?);
        let weight = Matrix::new(&weight, outputs, inputs).transposed();
        product(device, Matrix::new(&x, rows, inputs), weight, &mut y.as_view_mut(), outputs, false)?;
        finish_in_place(&mut y, device, outputs, bias, Activation::Identity)?;
        Ok(stored(y, device, shape))
    })
}

/// `grad * weight`.
pub(crate) fn linear_input_gradient(
    grad: Array<'_>,
    weight: Array<'_>,
    rows: usize,
    shape: Shape,
) -> Result<(CudaStorage, Shape)> {
    let device = grad.device();
    let &[outputs, inputs] = weight.dims() else { candle_core::bail!("{NAME}: weight has rank 2") };
    with_element!(NAME, grad.storage, T => {
        let mut dx = unwritten::<T>(device, rows * inputs)?;
        let (grad, weight) = (grad.view::<T>()?, weight.view::<T>()?);
        let weight = Matrix::new(&weight, outputs, inputs);
        let grad = Matrix::new(&grad, rows, outputs);
        product(device, grad, weight, &mut dx.as_view_mut(), inputs, false)?;
        Ok(stored(dx, device, shape))
    })
}

/// `grad^T * x`.
pub(crate) fn linear_weight_gradient(
    grad: Array<'_>,
    x: Array<'_>,
    rows: usize,
) -> Result<(CudaStorage, Shape)> {
    let device = grad.device();
    let (outputs, inputs) = (grad.channels(), x.channels());
    with_element!(NAME, grad.storage, T => {
        let mut dweight = unwritten::<T>(device, outputs * inputs)?;
        let (grad, x) = (grad.view::<T>()?, x.view::<T>()?);
        let grad = Matrix::new(&grad, rows, outputs).transposed();
        let x = Matrix::new(&x, rows, inputs);
        product(device, grad, x, &mut dweight.as_view_mut(), inputs, false)?;
        Ok(stored(dweight, device, (outputs, inputs)))
    })
}
