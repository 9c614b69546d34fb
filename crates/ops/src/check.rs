//! Argument checks that every op makes, with one-line errors that name the op.

use candle_core::{DType, Result, Tensor, bail};

/// The sizes of a channels-last batch of images, none of them zero but perhaps the first.
pub(crate) fn images(op: &str, x: &Tensor) -> Result<[usize; 4]> {
    float(op, x)?;
    match *x.dims() {
        [batch, height, width, channels] if height > 0 && width > 0 && channels > 0 => {
            Ok([batch, height, width, channels])
        }
        _ => bail!("{op}: expected [batch, height, width, channels], got {:?}", x.dims()),
    }
}

/// That `x` holds floating point numbers that the ops know.
pub(crate) fn float(op: &str, x: &Tensor) -> Result<()> {
    match x.dtype() {
        DType::F32 | DType::F64 | DType::F16 | DType::BF16 => Ok(()),
        dtype => bail!("{op}: expected f32, f64, f16 or bf16, got {dtype:?}"),
    }
}

/// That `x` holds `f32` or `f64`, as what an optimizer updates does.
pub(crate) fn full_float(op: &str, x: &Tensor) -> Result<()> {
    match x.dtype() {
        DType::F32 | DType::F64 => Ok(()),
        dtype => bail!("{op}: expected f32 or f64, got {dtype:?}"),
    }
}

/// That `tensor`, a parameter or statistic of a norm, has the shape `dims` and the number type that
/// goes with `x`: its own, or `f32` beside a half one.
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

/// That `tensor`, called `name`, has the shape `dims` and the number type of `like`.
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
    Ok(())
}
