//! Local response normalisation.

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Tensor, bail};
use candle_vision_kernels::local_response_norm::{self as kernels, ResponseNorm};

use crate::check;
#[cfg(feature = "cuda")]
use crate::cuda::{self, Array};
use crate::emulated::{is_emulated, widened};
use crate::storage::{elements, stored, with_float};
use crate::tape::{Footprint, apply1};

/// The constants of [`local_response_norm`].
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct LocalResponseNormConfig {
    /// Number of neighbouring channels that are added up.
    pub size: usize,
    /// Factor of their mean square, 1e-4 by default.
    pub alpha: f64,
    /// The exponent, 0.75 by default.
    pub beta: f64,
    /// Added to the mean square, 1 by default.
    pub k: f64,
}

impl LocalResponseNormConfig {
    /// Sums over `size` channels, with PyTorch's defaults.
    pub fn new(size: usize) -> Self {
        Self { size, alpha: 1e-4, beta: 0.75, k: 1.0 }
    }

    /// Sets [`alpha`](Self::alpha).
    pub fn alpha(self, alpha: f64) -> Self {
        Self { alpha, ..self }
    }

    /// Sets [`beta`](Self::beta).
    pub fn beta(self, beta: f64) -> Self {
        Self { beta, ..self }
    }

    /// Sets [`k`](Self::k).
    pub fn k(self, k: f64) -> Self {
        Self { k, ..self }
    }
}

/// `x / (k + alpha / size * sum(x^2))^beta`, with the sum over `size` neighbouring channels, `size / 2` before
/// and `(size - 1) / 2` behind (Krizhevsky, Sutskever and Hinton 2012). Channels that do not exist count as 0.
///
/// As in PyTorch, `alpha` is divided by `size`. The paper and Caffe's old files differ in that.
///
/// # Shapes
/// - `x`: `[batch, height, width, channels]`
/// - returns a tensor of the shape and number type of `x`
///
/// # Errors
/// If `x` has another rank or number type, or the size is 0.
///
/// # Example
/// ```
/// use candle_core::{Device, Tensor};
/// use candle_vision_ops::{LocalResponseNormConfig, local_response_norm};
///
/// let x = Tensor::new(&[3f32, 4.0], &Device::Cpu)?.reshape((1, 1, 1, 2))?;
/// // Two channels: the one before and the channel itself.
/// let config = LocalResponseNormConfig::new(2).alpha(2.0).beta(1.0).k(0.0);
/// let y = local_response_norm(&x, &config)?;
/// assert_eq!(y.flatten_all()?.to_vec1::<f32>()?, [3.0 / 9.0, 4.0 / 25.0]);
/// # candle_core::Result::Ok(())
/// ```
pub fn local_response_norm(x: &Tensor, config: &LocalResponseNormConfig) -> Result<Tensor> {
    check::images(NAME, x)?;
    let LocalResponseNormConfig { size, alpha, beta, k } = *config;
    if size == 0 {
        bail!("{NAME}: size is at least 1, got 0")
    }
    if is_emulated(x) {
        return local_response_norm(&widened(x)?, config)?.to_dtype(x.dtype());
    }
    let norm = ResponseNorm { size, alpha, beta, k };
    apply1(&x.contiguous()?, Value(norm))
}

const NAME: &str = "local_response_norm";

fn channels(layout: &Layout) -> usize {
    layout.dims().last().copied().unwrap_or(1)
}

struct Value(ResponseNorm);

impl Footprint for Value {}

impl CustomOp1 for Value {
    fn name(&self) -> &'static str {
        NAME
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        with_float!(NAME, x, T => {
            let x = elements::<T>(x, layout)?;
            let y = kernels::normalize_responses(x, channels(layout), &self.0);
            Ok(stored(y, layout.shape()))
        })
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, x: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        cuda::local_response_norm(Array::new(x, layout), &self.0)
    }

    fn bwd(&self, x: &Tensor, _y: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        x.apply_op2_no_bwd(&grad.contiguous()?, &Gradient(self.0)).map(Some)
    }
}

struct Gradient(ResponseNorm);

impl CustomOp2 for Gradient {
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
        with_float!(NAME, x, T => {
            let channels = channels(x_layout);
            let (x, grad) = (elements::<T>(x, x_layout)?, elements(grad, grad_layout)?);
            let dx = kernels::normalize_responses_gradient(x, grad, channels, &self.0);
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
        let (x, grad) = (Array::new(x, x_layout), Array::new(grad, grad_layout));
        cuda::local_response_norm_gradient(x, grad, &self.0)
    }
}
