//! Fully connected layers.

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{
    CpuStorage, CustomOp1, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor, bail,
};

#[cfg(feature = "cuda")]
use crate::cuda::{self, Array};
use crate::emulated::{all_widened, is_emulated, widened};
use crate::storage::Float;
use crate::storage::{elements, stored, with_float};
use crate::tape::{Footprint, apply2, apply3};
use candle_vision_kernels::channel_sums::sum_rows;
use candle_vision_kernels::finish::{Finish, finish};
use candle_vision_kernels::gemm::{Matrix, product, product_and_bias};
use candle_vision_kernels::layout::transpose;

/// `x * weight^T + bias` along the last axis of `x`, a fully connected layer.
///
/// # Shapes
/// - `x`: `[.., in_features]`, of any rank from 1; `weight`: `[out_features, in_features]`;
///   `bias`: `[out_features]`; all `f32` or all `f64`
/// - returns `[.., out_features]`
///
/// # Errors
/// If a shape or an element type does not fit, or if `x` is empty.
///
/// # Example
/// ```
/// use candle_core::{Device, Tensor};
/// use candle_vision_ops::linear;
///
/// # fn main() -> candle_core::Result<()> {
/// let x = Tensor::new(&[[1f32, 2.0]], &Device::Cpu)?;
/// let weight = Tensor::new(&[[1f32, 0.0], [0.0, 1.0], [1.0, 1.0]], &Device::Cpu)?;
/// let bias = Tensor::new(&[0.5f32, 0.0, 0.0], &Device::Cpu)?;
/// let y = linear(&x, &weight, Some(&bias))?;
/// assert_eq!(y.to_vec2::<f32>()?, [[1.5, 2.0, 3.0]]);
/// # Ok(())
/// # }
/// ```
pub fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let (out_features, in_features) = check(x, weight, bias)?;
    if is_emulated(x) {
        let (wide_x, weight, bias) = (widened(x)?, widened(weight)?, all_widened(bias)?);
        return linear(&wide_x, &weight, bias.as_ref())?.to_dtype(x.dtype());
    }
    crate::check::copied("linear", "x", x)?;
    let op = Linear { rows: x.elem_count() / in_features, in_features, out_features };
    let (x, weight) = (x.contiguous()?, weight.contiguous()?);
    match bias {
        None => apply2(&x, &weight, op),
        Some(bias) => apply3(&x, &weight, &bias.contiguous()?, op),
    }
}

fn check(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<(usize, usize)> {
    let &[out_features, in_features] = weight.dims() else {
        bail!("linear: weight is [out_features, in_features], got {:?}", weight.dims())
    };
    if x.dims().last() != Some(&in_features) {
        bail!(
            "linear: weight {:?} takes {in_features} features, got x {:?}",
            weight.dims(),
            x.dims()
        )
    }
    if x.elem_count() == 0 || out_features == 0 {
        bail!("linear: no elements in x {:?} and weight {:?}", x.dims(), weight.dims())
    }
    check_bias("linear", x, weight, bias, out_features)?;
    Ok((out_features, in_features))
}

/// Checks that convolutions and linear layers share.
pub(crate) fn check_bias(
    op: &str,
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    out_channels: usize,
) -> Result<()> {
    if x.dtype() != weight.dtype() {
        bail!("{op}: x is {:?}, its weight {:?}; convert one of them", x.dtype(), weight.dtype())
    }
    let Some(bias) = bias else { return Ok(()) };
    if bias.dims() != [out_channels] {
        bail!("{op}: bias is [{out_channels}], one for each output, got {:?}", bias.dims())
    }
    if bias.dtype() != x.dtype() {
        bail!("{op}: x is {:?}, its bias {:?}; convert one of them", x.dtype(), bias.dtype())
    }
    Ok(())
}

/// The op that multiplies `x`, as a matrix `[rows, in_features]`, by the transposed weight.
#[derive(Debug, Clone, Copy)]
struct Linear {
    rows: usize,
    in_features: usize,
    out_features: usize,
}

impl Linear {
    fn forward<T: Float>(&self, x: &[T], weight: &[T], bias: Option<&[T]>) -> Vec<T> {
        let Self { rows, in_features, out_features } = *self;
        let weight = Matrix::new(weight, out_features, in_features);
        // A product copies one factor into the row order of the result. For a small batch this must not be
        // the weight, because transposing it would take longer than the product.
        if 4 * rows >= out_features {
            let (x, weight) = (Matrix::new(x, rows, in_features), weight.transposed());
            return match bias {
                None => product(x, weight),
                Some(bias) => product_and_bias(x, weight, bias),
            };
        }
        let x = transpose(x, rows, in_features);
        let y = product(weight, Matrix::new(&x, in_features, rows));
        let mut y = transpose(&y, out_features, rows);
        finish(&mut y, out_features, &Finish { bias, ..Finish::default() });
        y
    }

    fn output_shape(&self, x: &Layout) -> Shape {
        let mut dims = x.dims().to_vec();
        dims.pop();
        dims.push(self.out_features);
        dims.into()
    }

    fn gradients(
        &self,
        x: &Tensor,
        weight: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (dx, dweight) = (InputGradient(*self), WeightGradient(*self));
        let dx = x.track_op().then(|| grad.apply_op2_no_bwd(weight, &dx)).transpose()?;
        let dweight = weight.track_op().then(|| grad.apply_op2_no_bwd(x, &dweight)).transpose()?;
        Ok((dx, dweight))
    }
}

impl Footprint for Linear {}

impl CustomOp2 for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        with_float!("linear", x, T => {
            let (x, weight) = (elements::<T>(x, x_layout)?, elements(weight, weight_layout)?);
            Ok(stored(self.forward(x, weight, None), self.output_shape(x_layout)))
        })
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        x: &CudaStorage,
        x_layout: &Layout,
        weight: &CudaStorage,
        weight_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let (x_array, weight) = (Array::new(x, x_layout), Array::new(weight, weight_layout));
        cuda::linear(x_array, weight, None, self.rows, self.output_shape(x_layout))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        _y: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        self.gradients(x, weight, &grad.contiguous()?)
    }
}

impl CustomOp3 for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        with_float!("linear", x, T => {
            let (x, weight) = (elements::<T>(x, x_layout)?, elements(weight, weight_layout)?);
            let bias = Some(elements(bias, bias_layout)?);
            Ok(stored(self.forward(x, weight, bias), self.output_shape(x_layout)))
        })
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        x: &CudaStorage,
        x_layout: &Layout,
        weight: &CudaStorage,
        weight_layout: &Layout,
        bias: &CudaStorage,
        bias_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let (x_array, weight) = (Array::new(x, x_layout), Array::new(weight, weight_layout));
        let bias = Some(Array::new(bias, bias_layout));
        cuda::linear(x_array, weight, bias, self.rows, self.output_shape(x_layout))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        _y: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let grad = grad.contiguous()?;
        let (dx, dweight) = self.gradients(x, weight, &grad)?;
        Ok((dx, dweight, bias_gradient(bias, &grad)?))
    }
}

/// Multiplies a gradient `[.., out_features]` by the weight.
struct InputGradient(Linear);

impl CustomOp2 for InputGradient {
    fn name(&self) -> &'static str {
        "linear-input-gradient"
    }

    fn cpu_fwd(
        &self,
        grad: &CpuStorage,
        grad_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let Linear { rows, in_features, out_features } = self.0;
        let mut dims = grad_layout.dims().to_vec();
        dims.pop();
        dims.push(in_features);
        with_float!("linear", grad, T => {
            let grad = Matrix::new(elements::<T>(grad, grad_layout)?, rows, out_features);
            let weight = Matrix::new(elements(weight, weight_layout)?, out_features, in_features);
            Ok(stored(product(grad, weight), dims))
        })
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        grad: &CudaStorage,
        grad_layout: &Layout,
        weight: &CudaStorage,
        weight_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let mut dims = grad_layout.dims().to_vec();
        dims.pop();
        dims.push(self.0.in_features);
        let (grad, weight) = (Array::new(grad, grad_layout), Array::new(weight, weight_layout));
        cuda::linear_input_gradient(grad, weight, self.0.rows, dims.into())
    }
}

/// Multiplies the transposed gradient by the input.
struct WeightGradient(Linear);

impl CustomOp2 for WeightGradient {
    fn name(&self) -> &'static str {
        "linear-weight-gradient"
    }

    fn cpu_fwd(
        &self,
        grad: &CpuStorage,
        grad_layout: &Layout,
        x: &CpuStorage,
        x_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let Linear { rows, in_features, out_features } = self.0;
        with_float!("linear", grad, T => {
            let grad = Matrix::new(elements::<T>(grad, grad_layout)?, rows, out_features);
            let x = Matrix::new(elements(x, x_layout)?, rows, in_features);
            Ok(stored(product(grad.transposed(), x), (out_features, in_features)))
        })
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        grad: &CudaStorage,
        grad_layout: &Layout,
        x: &CudaStorage,
        x_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        cuda::linear_weight_gradient(
            Array::new(grad, grad_layout),
            Array::new(x, x_layout),
            self.0.rows,
        )
    }
}

/// The gradient of a bias along the last axis of `grad`. `None` if `bias` needs none.
pub(crate) fn bias_gradient(bias: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
    bias.track_op().then(|| grad.apply_op1_no_bwd(&BiasGradient)).transpose()
}

struct BiasGradient;

impl CustomOp1 for BiasGradient {
    fn name(&self) -> &'static str {
        "bias-gradient"
    }

    fn cpu_fwd(&self, grad: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let channels = layout.dims()[layout.dims().len() - 1];
        with_float!("bias-gradient", grad, T => {
            Ok(stored(sum_rows(elements::<T>(grad, layout)?, channels), channels))
        })
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, grad: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        cuda::sum_columns(Array::new(grad, layout))
    }
}
