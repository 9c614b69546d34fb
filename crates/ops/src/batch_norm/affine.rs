//! Weight and bias of a batch norm as one node of the tape, because an op has at most three arguments. The
//! node stands for them: it passes their gradients on, and nobody reads its values. It can also carry the
//! gradient of a convolution's kernel, for an op that would otherwise need a fourth argument.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, ThreadId};

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{CpuStorage, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor};

use super::NAME;
#[cfg(feature = "cuda")]
use crate::cuda::{self, Array};
use crate::storage::{stored, with_float};
use crate::tape::{Footprint, apply2, apply3};

/// The node, `[2, channels]`. Its gradient is that of the weights, then that of the biases.
pub(super) fn affine(weight: &Tensor, bias: &Tensor) -> Result<Tensor> {
    apply2(&weight.contiguous()?, &bias.contiguous()?, Affine)
}

/// As [`affine`], but the result also stands for `kernel` in the graph. An op that takes the result puts
/// the kernel's gradient into `gradient` while its own `bwd` runs. From there it goes to `kernel`.
pub(super) fn affine_and_kernel(
    weight: &Tensor,
    bias: &Tensor,
    kernel: &Tensor,
    gradient: Arc<Handover>,
) -> Result<Tensor> {
    let op = AffineAndKernel(gradient);
    apply3(&weight.contiguous()?, &bias.contiguous()?, kernel, op)
}

/// Passes a gradient from one op's `bwd` to another's within the same backward pass, and so on one thread.
#[derive(Debug, Default)]
pub(super) struct Handover(Mutex<Vec<(ThreadId, Tensor)>>);

impl Handover {
    pub(super) fn put(&self, gradient: Tensor) {
        let here = thread::current().id();
        let mut gradients = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A backward pass that ended with an error may have left one.
        gradients.retain(|(thread, _)| *thread != here);
        gradients.push((here, gradient));
    }

    fn take(&self) -> Option<Tensor> {
        let here = thread::current().id();
        let mut gradients = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let place = gradients.iter().position(|(thread, _)| *thread == here)?;
        Some(gradients.swap_remove(place).1)
    }
}

struct Affine;

impl Footprint for Affine {}

impl CustomOp2 for Affine {
    fn name(&self) -> &'static str {
        NAME
    }

    fn cpu_fwd(
        &self,
        weight: &CpuStorage,
        weight_layout: &Layout,
        _bias: &CpuStorage,
        _bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let channels = weight_layout.shape().elem_count();
        with_float!(NAME, weight, T => {
            Ok(stored(vec![T::default(); 2 * channels], (2, channels)))
        })
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        weight: &CudaStorage,
        weight_layout: &Layout,
        _bias: &CudaStorage,
        _bias_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let weight = Array::new(weight, weight_layout);
        cuda::unread(weight.device(), (2, weight.len()))
    }

    fn bwd(
        &self,
        weight: &Tensor,
        bias: &Tensor,
        _affine: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        Ok((row(weight, grad, 0)?, row(bias, grad, 1)?))
    }
}

struct AffineAndKernel(Arc<Handover>);

impl Footprint for AffineAndKernel {}

impl CustomOp3 for AffineAndKernel {
    fn name(&self) -> &'static str {
        NAME
    }

    fn cpu_fwd(
        &self,
        weight: &CpuStorage,
        weight_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
        _kernel: &CpuStorage,
        _kernel_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        CustomOp2::cpu_fwd(&Affine, weight, weight_layout, bias, bias_layout)
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        weight: &CudaStorage,
        weight_layout: &Layout,
        bias: &CudaStorage,
        bias_layout: &Layout,
        _kernel: &CudaStorage,
        _kernel_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        CustomOp2::cuda_fwd(&Affine, weight, weight_layout, bias, bias_layout)
    }

    fn bwd(
        &self,
        weight: &Tensor,
        bias: &Tensor,
        _kernel: &Tensor,
        _affine: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        Ok((row(weight, grad, 0)?, row(bias, grad, 1)?, self.0.take()))
    }
}

/// The gradient of a parameter. `None` if it needs none.
fn row(parameter: &Tensor, grad: &Tensor, row: usize) -> Result<Option<Tensor>> {
    parameter.track_op().then(|| grad.get(row)).transpose()
}
