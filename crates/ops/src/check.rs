//! Argument checks that every op makes. The errors have one line and name the op.

use candle_core::{DType, Result, Tensor, bail};

/// The sizes of a channels-last batch of images. Only the first may be zero.
pub(crate) fn images(op: &str, x: &Tensor) -> Result<[usize; 4]> {
    float(op, x)?;
    match *x.dims() {
        [batch, height, width, channels] if height > 0 && width > 0 && channels > 0 => {
            Ok([batch, height, width, channels])
        }
        _ => bail!("{op}: expected [batch, height, width, channels], got {:?}", x.dims()),
    }
}

/// Checks that `x` has a float type that the ops support, and that candle can make it contiguous.
pub(crate) fn float(op: &str, x: &Tensor) -> Result<()> {
    match x.dtype() {
        DType::F32 | DType::F64 | DType::F16 | DType::BF16 => copied(op, "x", x),
        dtype => bail!("{op}: expected f32, f64, f16 or bf16, got {dtype:?}"),
    }
}

/// Checks that candle can copy the tensor called `name`. A contiguous tensor needs no copy.
pub(crate) fn copied(op: &str, name: &str, x: &Tensor) -> Result<()> {
    if x.is_contiguous() { Ok(()) } else { within_candle(op, name, x) }
}

/// Checks that candle's own kernels can handle the tensor called `name`. On a CUDA device they count
/// elements in 32 bits. Beyond that they give wrong numbers without an error.
pub(crate) fn within_candle(op: &str, name: &str, x: &Tensor) -> Result<()> {
    within(op, name, x.device().is_cuda(), x.dims())
}

fn within(op: &str, name: &str, on_cuda: bool, dims: &[usize]) -> Result<()> {
    const MOST: usize = i32::MAX as usize;
    let elements = dims.iter().fold(1usize, |product, &size| product.saturating_mul(size));
    if on_cuda && elements > MOST {
        bail!(
            "{op}: {name} of shape {dims:?} has {elements} elements, and candle's CUDA kernels take at \
             most {MOST}; use a smaller batch"
        )
    }
    Ok(())
}

/// Checks that `x` holds `f32` or `f64`, as tensors that an optimizer updates do.
pub(crate) fn full_float(op: &str, x: &Tensor) -> Result<()> {
    match x.dtype() {
        DType::F32 | DType::F64 => copied(op, "x", x),
        dtype => bail!("{op}: expected f32 or f64, got {dtype:?}"),
    }
}

/// Checks that `tensor`, a parameter or statistic of a norm, has the shape `dims` and the right number
/// type: that of `x`, or `f32` beside a half-precision `x`.
pub(crate) fn of_norm(
    op: &str,
    name: &str,
    tensor: &Tensor,
    dims: &[usize],
    x: &Tensor,
) -> Result<()> {
    if tensor.dims() != dims {
        bail!("{op}: expected {name} of shape {dims:?}, got {:?}", tensor.dims())
    }
    let expected = match x.dtype() {
        DType::F16 | DType::BF16 => DType::F32,
        dtype => dtype,
    };
    if tensor.dtype() != expected {
        bail!(
            "{op}: expected {name} of {expected:?} for an input of {:?}, got {:?}",
            x.dtype(),
            tensor.dtype()
        )
    }
    Ok(())
}

/// Checks that `tensor`, called `name`, has the shape `dims` and the number type of `like`.
pub(crate) fn matches(
    op: &str,
    name: &str,
    tensor: &Tensor,
    dims: &[usize],
    like: &Tensor,
) -> Result<()> {
    if tensor.dims() != dims {
        bail!("{op}: expected {name} of shape {dims:?}, got {:?}", tensor.dims())
    }
    if tensor.dtype() != like.dtype() {
        bail!("{op}: {name} is {:?} but the input is {:?}", tensor.dtype(), like.dtype())
    }
    copied(op, name, tensor)
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn a_tensor_that_candle_would_miscount_is_named() {
        let images = [240, 2000, 2000, 3];
        let error = within("scale", "x", true, &images).unwrap_err().to_string();
        let parts =
            ["scale: x of shape [240, 2000, 2000, 3]", "2880000000 elements", "smaller batch"];
        for part in parts {
            assert!(error.contains(part), "{error}");
        }
        // As many as can be counted; and the CPU counts in 64 bits.
        within("scale", "x", true, &[i32::MAX as usize]).unwrap();
        within("scale", "x", true, &[0, usize::MAX]).unwrap();
        within("scale", "x", false, &images).unwrap();
    }

    #[test]
    fn the_cpu_takes_any_number_in_any_order() {
        let one = Tensor::zeros((1, 1, 1, 1), DType::F32, &Device::Cpu).unwrap();
        let many = one.broadcast_as((240, 2000, 2000, 3)).unwrap();
        float("scale", &many).unwrap();
        copied("scale", "x", &many).unwrap();
    }
}
