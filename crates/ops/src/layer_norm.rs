//! Layer normalisation.
//!
//! candle-nn's fused `layer_norm` has no gradient. It cuts the tape without an error.

use std::sync::OnceLock;

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{CpuStorage, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor, bail};

use crate::check;
#[cfg(feature = "cuda")]
use crate::cuda::{self, Array};
use crate::emulated::{is_emulated, widened};
use crate::storage::{elements, kept, stored, with_float};
use crate::tape::{Footprint, apply3};
use candle_vision_kernels::layer_norm as kernels;

/// `weight * (x - mean) / sqrt(variance + eps) + bias`, with the mean and the biased variance of each
/// row along the last dimension (Ba, Kiros and Hinton 2016, <https://arxiv.org/abs/1607.06450>).
///
/// # Shapes
/// - `x`: `[.., features]`
/// - `weight`, `bias`: `[features]`; `f32` beside a half-precision `x`
/// - returns a tensor of the shape and number type of `x`
///
/// # Errors
/// If a shape or number type differs, or there are no features.
///
/// # Example
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use candle_vision_ops::layer_norm;
///
/// let x = Tensor::new(&[[1f32, 3.0], [10.0, 30.0]], &Device::Cpu)?;
/// let one = Tensor::ones(2, DType::F32, &Device::Cpu)?;
/// let y = layer_norm(&x, &one, &one.zeros_like()?, 0.0)?;
/// assert_eq!(y.to_vec2::<f32>()?, [[-1.0, 1.0], [-1.0, 1.0]]);
/// # candle_core::Result::Ok(())
/// ```
pub fn layer_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f64) -> Result<Tensor> {
    check::float(NAME, x)?;
    let features = match x.dims().last() {
        Some(&features) if features > 0 => features,
        _ => bail!("{NAME}: expected [.., features], got {:?}", x.dims()),
    };
    check::of_norm(NAME, "weight", weight, &[features], x)?;
    check::of_norm(NAME, "bias", bias, &[features], x)?;
    if is_emulated(x) {
        return layer_norm(&widened(x)?, weight, bias, eps)?.to_dtype(x.dtype());
    }
    let op = LayerNorm { eps, statistics: OnceLock::new() };
    apply3(&x.contiguous()?, &weight.contiguous()?, &bias.contiguous()?, op)
}

const NAME: &str = "layer_norm";

struct LayerNorm {
    eps: f64,
    /// Mean and inverse standard deviation of each row, kept on the device that computed them.
    statistics: OnceLock<Statistics>,
}

enum Statistics {
    Cpu(Vec<[f64; 2]>),
    #[cfg(feature = "cuda")]
    Cuda(cuda::RowStatistics),
}

impl LayerNorm {
    fn keep(&self, statistics: Statistics) {
        // An op runs its forward pass only once.
        let _ = self.statistics.set(statistics);
    }

    fn statistics(&self) -> Result<&Statistics> {
        match self.statistics.get() {
            Some(statistics) => Ok(statistics),
            None => bail!("{NAME}: a gradient before the values"),
        }
    }

    fn on_cpu(&self) -> Result<&[[f64; 2]]> {
        match self.statistics()? {
            Statistics::Cpu(statistics) => Ok(statistics),
            #[cfg(feature = "cuda")]
            Statistics::Cuda(_) => bail!("{NAME}: {ELSEWHERE}"),
        }
    }

    #[cfg(feature = "cuda")]
    fn on_cuda(&self) -> Result<&cuda::RowStatistics> {
        match self.statistics()? {
            Statistics::Cuda(statistics) => Ok(statistics),
            Statistics::Cpu(_) => bail!("{NAME}: {ELSEWHERE}"),
        }
    }
}

#[cfg(feature = "cuda")]
const ELSEWHERE: &str = "the gradient is on another device than the input";

impl Footprint for LayerNorm {
    fn held_bytes(&self) -> usize {
        match self.statistics.get() {
            Some(Statistics::Cpu(statistics)) => size_of_val(&statistics[..]),
            #[cfg(feature = "cuda")]
            Some(Statistics::Cuda(statistics)) => statistics.len() * size_of::<f32>(),
            None => 0,
        }
    }
}

impl CustomOp3 for LayerNorm {
    fn name(&self) -> &'static str {
        NAME
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
        with_float!(NAME, x, T => {
            let (x, weight) = (elements::<T>(x, x_layout)?, elements(weight, weight_layout)?);
            let bias = elements(bias, bias_layout)?;
            let statistics = kernels::statistics(x, weight.len(), self.eps);
            let y = kernels::normalize(x, weight, bias, &statistics);
            self.keep(Statistics::Cpu(statistics));
            Ok(stored(y, x_layout.shape()))
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
        let (weight, bias) = (Array::new(weight, weight_layout), Array::new(bias, bias_layout));
        let (y, statistics) = cuda::layer_norm(Array::new(x, x_layout), weight, bias, self.eps)?;
        self.keep(Statistics::Cuda(statistics));
        Ok(y)
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
        let op = InputGradient { norm: self, weight };
        let dx = x.track_op().then(|| x.apply_op2_no_bwd(&grad, &op)).transpose()?;
        if !weight.track_op() && !bias.track_op() {
            return Ok((dx, None, None));
        }
        let sums = x.apply_op2_no_bwd(&grad, &ParameterGradients(self))?;
        let row = |parameter: &Tensor, row: usize| -> Result<Option<Tensor>> {
            parameter.track_op().then(|| sums.get(row)).transpose()
        };
        Ok((dx, row(weight, 0)?, row(bias, 1)?))
    }
}

/// The gradient of the input. Its arguments are the input and the output's gradient.
struct InputGradient<'a> {
    norm: &'a LayerNorm,
    weight: &'a Tensor,
}

impl CustomOp2 for InputGradient<'_> {
    fn name(&self) -> &'static str {
        NAME
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        grad: &CpuStorage,
        grad_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let weight = kept(self.weight);
        with_float!(NAME, x, T => {
            let (x, grad) = (elements::<T>(x, x_layout)?, elements(grad, grad_layout)?);
            let statistics = self.norm.on_cpu()?;
            let dx = kernels::input_gradient(x, grad, weight.elements()?, statistics);
            Ok(stored(dx, x_layout.shape()))
        })
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        x: &CudaStorage,
        x_layout: &Layout,
        grad: &CudaStorage,
        grad_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let weight = cuda::kept(self.weight);
        let (x, grad) = (Array::new(x, x_layout), Array::new(grad, grad_layout));
        cuda::layer_norm_input_gradient(x, grad, weight.array()?, self.norm.on_cuda()?)
    }
}

/// The gradients of weight and bias, `[2, features]`. Its arguments are the input and the output's
/// gradient.
struct ParameterGradients<'a>(&'a LayerNorm);

impl CustomOp2 for ParameterGradients<'_> {
    fn name(&self) -> &'static str {
        NAME
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        grad: &CpuStorage,
        grad_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let features = x_layout.dims().last().copied().unwrap_or(1);
        with_float!(NAME, x, T => {
            let (x, grad) = (elements::<T>(x, x_layout)?, elements(grad, grad_layout)?);
            let sums = kernels::parameter_gradients(x, grad, features, self.0.on_cpu()?);
            Ok(stored(sums, (2, features)))
        })
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        x: &CudaStorage,
        x_layout: &Layout,
        grad: &CudaStorage,
        grad_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let (x, grad) = (Array::new(x, x_layout), Array::new(grad, grad_layout));
        cuda::layer_norm_parameter_gradients(x, grad, self.0.on_cuda()?)
    }
}
