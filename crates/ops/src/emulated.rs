//! Half precision on the CPU: computed in `f32` and rounded at the end of each op.
//!
//! It is no faster there. It serves to check, without a GPU, what mixed precision does.

use candle_core::{DType, Result, Tensor};

/// Whether `x` is `f16` or `bf16` and on the CPU.
pub(crate) fn is_emulated(x: &Tensor) -> bool {
    matches!(x.dtype(), DType::F16 | DType::BF16) && x.device().is_cpu()
}

/// `x` in `f32`. Its gradient is rounded to the number type of `x`.
pub(crate) fn widened(x: &Tensor) -> Result<Tensor> {
    x.to_dtype(DType::F32)
}

/// [`widened`] for an optional tensor.
pub(crate) fn all_widened(x: Option<&Tensor>) -> Result<Option<Tensor>> {
    x.map(widened).transpose()
}
