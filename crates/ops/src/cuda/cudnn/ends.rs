//! Convolutions that cuDNN finishes in the same operation: with a bias, another tensor and a ReLU.

use std::ffi::{c_int, c_void};
use std::sync::Arc;

use candle_core::Result;
use candle_core::cuda_backend::cudarc::driver::{CudaSlice, CudaView, DevicePtr};

use super::descriptors::{Descriptor, NHWC};
use super::library::{Functions, Handle, Status};
use super::plan::Plan;
use super::{DataType, Operands, Run};
use crate::cuda::element::Element;
use candle_vision_kernels::conv_shape::ConvShape;

/// `CUDNN_ACTIVATION_RELU` and `CUDNN_ACTIVATION_IDENTITY`, the only ones that finish a convolution.
const RELU: c_int = 1;
const IDENTITY: c_int = 5;
/// `CUDNN_PROPAGATE_NAN`.
const PROPAGATE_NAN: c_int = 1;
/// `CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM`, the only algorithm that may end without a ReLU.
const PRECOMPUTED: c_int = 1;

/// What comes behind a convolution: `relu(y + bias + residual)`, or the same without a ReLU.
pub(crate) struct Ends<'a, T> {
    /// One number for each channel of the output.
    pub(crate) bias: CudaView<'a, T>,
    /// As long as the output.
    pub(crate) residual: Option<CudaView<'a, T>>,
    pub(crate) has_relu: bool,
}

/// cuDNN's descriptors of the bias and of both activations.
pub(super) struct EndsDescriptors {
    bias: Descriptor,
    relu: Descriptor,
    identity: Descriptor,
    /// Kept because the destructors belong to it.
    _functions: Arc<Functions>,
}

impl EndsDescriptors {
    pub(super) fn new(f: &Arc<Functions>, shape: &ConvShape, data: DataType) -> Result<Self> {
        let activation = |mode: c_int| -> Result<Descriptor> {
            let made = Descriptor::new(f, f.create_activation, f.destroy_activation)?;
            // SAFETY: the descriptor was just made; the rest are numbers.
            let status = unsafe { (f.set_activation)(made.raw, mode, PROPAGATE_NAN, 0.0) };
            f.check("describing an activation", status)?;
            Ok(made)
        };
        let bias = Descriptor::new(f, f.create_tensor, f.destroy_tensor)?;
        let channels = shape.out_channels as c_int;
        // SAFETY: as above.
        let status = unsafe { (f.set_tensor)(bias.raw, NHWC, data as c_int, 1, channels, 1, 1) };
        f.check("describing a bias", status)?;
        Ok(Self {
            bias,
            relu: activation(RELU)?,
            identity: activation(IDENTITY)?,
            _functions: f.clone(),
        })
    }

    /// Whether a convolution by this algorithm may end so.
    pub(super) fn can_end<T>(&self, algorithm: c_int, ends: &Ends<'_, T>) -> bool {
        ends.has_relu || algorithm == PRECOMPUTED
    }

    fn activation(&self, has_relu: bool) -> Handle {
        if has_relu { self.relu.raw } else { self.identity.raw }
    }
}

impl Run<'_> {
    /// Writes `y`. Returns cuDNN's answer, because it does not support everything.
    pub(super) fn convolve_finished<T: Element>(
        &self,
        plan: &Plan,
        descriptors: &EndsDescriptors,
        operands: &Operands<'_, T>,
        ends: &Ends<'_, T>,
        workspace: &CudaSlice<u8>,
    ) -> Status {
        let (x, _x) = operands.x.device_ptr(self.stream);
        let (kernel, _kernel) = operands.kernel.device_ptr(self.stream);
        let (y, _y) = operands.y.device_ptr(self.stream);
        let (bias, _bias) = ends.bias.device_ptr(self.stream);
        let residual = ends.residual.as_ref().map(|residual| residual.device_ptr(self.stream));
        // With a factor of 0, what is added is not read.
        let (added, factor) = match &residual {
            Some((residual, _)) => (*residual, 1f32),
            None => (y, 0f32),
        };
        let raw = plan.descriptors.raw();
        let (one, bytes) = (1f32, workspace.len());
        let (space, _space) = workspace.device_ptr(self.stream);
        // SAFETY: the arrays have the sizes that the descriptors say, which the caller's shape gave both; the bias has a
        // number for each channel and the residual as many as y, which op checks have seen to; the workspace is at
        // least as large as the plan asks.
        unsafe {
            (self.functions.forward_finished)(
                self.handle,
                (&raw const one).cast(),
                raw.x,
                x as *const c_void,
                raw.kernel,
                kernel as *const c_void,
                raw.convolution,
                plan.choice.algorithm,
                space as *mut c_void,
                bytes,
                (&raw const factor).cast(),
                raw.y,
                added as *const c_void,
                descriptors.bias.raw,
                bias as *const c_void,
                descriptors.activation(ends.has_relu),
                raw.y,
                y as *mut c_void,
            )
        }
    }
}
