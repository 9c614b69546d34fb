//! cuDNN's descriptors of tensors, kernels and convolutions. They are destroyed when they are dropped.

use std::ffi::c_int;
use std::ptr::null_mut;
use std::sync::Arc;

use candle_core::Result;

use super::DataType;
use super::library::{Functions, Handle, Status};
use candle_vision_kernels::conv_shape::ConvShape;

/// `CUDNN_TENSOR_NHWC`.
pub(super) const NHWC: c_int = 1;
/// `CUDNN_CROSS_CORRELATION`.
const CROSS_CORRELATION: c_int = 1;

/// One of cuDNN's descriptors.
pub(super) struct Descriptor {
    pub(super) raw: Handle,
    destroy: unsafe extern "C" fn(Handle) -> Status,
}

impl Descriptor {
    pub(super) fn new(
        functions: &Functions,
        create: unsafe extern "C" fn(*mut Handle) -> Status,
        destroy: unsafe extern "C" fn(Handle) -> Status,
    ) -> Result<Self> {
        let mut raw = null_mut();
        // SAFETY: `raw` is a place for one handle.
        functions.check("creating a descriptor", unsafe { create(&raw mut raw) })?;
        Ok(Self { raw, destroy })
    }
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        // SAFETY: made by the matching function, destroyed once.
        unsafe { (self.destroy)(self.raw) };
    }
}

/// Everything that describes one convolution.
pub(super) struct Descriptors {
    x: Descriptor,
    kernel: Descriptor,
    y: Descriptor,
    convolution: Descriptor,
    /// Kept because the destructors belong to it.
    _functions: Arc<Functions>,
}

/// The raw descriptors. They are valid as long as the value that they were taken from.
#[derive(Clone, Copy)]
pub(super) struct Raw {
    pub(super) x: Handle,
    pub(super) kernel: Handle,
    pub(super) y: Handle,
    pub(super) convolution: Handle,
}

impl Raw {
    /// The descriptors of the arrays: `x`, the kernel, `y`.
    pub(super) fn blocks(self) -> [Handle; 3] {
        [self.x, self.kernel, self.y]
    }
}

impl Descriptors {
    /// Sums are computed in `f32`. `math` is the math type of the products (`cudnnMathType_t`).
    pub(super) fn new(
        functions: &Arc<Functions>,
        shape: &ConvShape,
        data: DataType,
        math: c_int,
    ) -> Result<Self> {
        let f = functions;
        let tensor = || Descriptor::new(f, f.create_tensor, f.destroy_tensor);
        let descriptors = Self {
            x: tensor()?,
            y: tensor()?,
            kernel: Descriptor::new(f, f.create_filter, f.destroy_filter)?,
            convolution: Descriptor::new(f, f.create_convolution, f.destroy_convolution)?,
            _functions: functions.clone(),
        };
        let ConvShape { batch, in_size, in_channels, out_size, out_channels, kernel, .. } = *shape;
        let ConvShape { stride, padding, dilation, groups, .. } = *shape;
        let int = |number: usize| number as c_int;
        let images =
            |size: [usize; 2], channels: usize| [batch, channels, size[0], size[1]].map(int);
        let (raw, data) = (descriptors.raw(), data as c_int);
        let [n, c, h, w] = images(in_size, in_channels);
        let [out_n, out_c, out_h, out_w] = images(out_size, out_channels);
        let [k, group_in, k_h, k_w] =
            [out_channels, shape.group_in(), kernel[0], kernel[1]].map(int);
        let [pad_h, pad_w] = padding.map(int);
        let [stride_h, stride_w] = stride.map(int);
        let [dilation_h, dilation_w] = dilation.map(int);
        // SAFETY: the descriptors were just made; the rest are numbers.
        unsafe {
            f.check("describing the input", (f.set_tensor)(raw.x, NHWC, data, n, c, h, w))?;
            let status = (f.set_tensor)(raw.y, NHWC, data, out_n, out_c, out_h, out_w);
            f.check("describing the output", status)?;
            let status = (f.set_filter)(raw.kernel, data, NHWC, k, group_in, k_h, k_w);
            f.check("describing the kernel", status)?;
            let status = (f.set_convolution)(
                raw.convolution,
                pad_h,
                pad_w,
                stride_h,
                stride_w,
                dilation_h,
                dilation_w,
                CROSS_CORRELATION,
                DataType::Float as c_int,
            );
            f.check("describing the convolution", status)?;
            f.check("setting the groups", (f.set_groups)(raw.convolution, int(groups)))?;
        }
        descriptors.set_math(f, math)?;
        Ok(descriptors)
    }

    /// Changes the math type of the products.
    pub(super) fn set_math(&self, functions: &Functions, math: c_int) -> Result<()> {
        // SAFETY: the descriptor is there as long as `self` is.
        let status = unsafe { (functions.set_math)(self.convolution.raw, math) };
        functions.check("setting the arithmetic", status)
    }

    pub(super) fn raw(&self) -> Raw {
        Raw {
            x: self.x.raw,
            kernel: self.kernel.raw,
            y: self.y.raw,
            convolution: self.convolution.raw,
        }
    }
}
