//! Half precision on the CPU: worked out in `f32`, rounded where an op ends.
//!
//! No kernel is faster for it there; it is for checking, without a GPU, what mixed precision does.

use candle_core::{DType, Result, Tensor};

/// Whether `x` is `f16` or `bf16` and on the CPU.
pub(crate) fn is_emulated(x: &Tensor) -> bool {
    matches!(x.dtype(), DType::F16 | DType::BF16) && x.device().is_cpu()
}

/// `x` in `f32`; its gradient is rounded to the number type of `x`.
pub(crate) fn widened(x: &Tensor) -> Result<Tensor> {
    x.to_dtype(DType::F32)
}

/// The same of what may not be there.
pub(crate) fn all_widened(x: Option<&Tensor>) -> Result<Option<Tensor>> {
    x.map(widened).transpose()
}
