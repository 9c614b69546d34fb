//! Arithmetic of batch transforms on candle's tensors, on any device.

use candle_core::{Result, Tensor};

use crate::error::Error;

/// `share` of each row and `1 - share` of the row before it. The first row gets the last. This is torchvision's order of
/// operations, so that the results have its bits.
pub(super) fn mixed(rows: &Tensor, share: f64) -> Result<Tensor> {
    rows.roll(1, 0)?.affine(1.0 - share, 0.0)? + rows.affine(share, 0.0)?
}

/// Images in the order of their memory, `[batch, height, width, channels]`.
pub(super) fn channels_last(images: &Tensor) -> Result<Tensor> {
    images.permute((0, 2, 3, 1))
}

/// Images `[batch, height, width, channels]` in the usual order.
pub(super) fn channels_first(images: &Tensor) -> Result<Tensor> {
    images.permute((0, 3, 1, 2))
}

/// Checks a parameter of the beta distribution.
pub(super) fn check_alpha(op: &str, alpha: f64) -> crate::Result<()> {
    if alpha > 0.0 && alpha.is_finite() {
        return Ok(());
    }
    Err(Error::transform(
        op,
        format!("`alpha` is {alpha}; give a number above 0, such as 0.2 or 1"),
    ))
}
