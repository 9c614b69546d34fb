//! Padding of images.

use candle_core::{Result, Tensor, bail};
use candle_vision_kernels::rearrange::{Outside, Places};

use crate::check;
use crate::rearrange::along;

/// The pixels around a padded image, as in PyTorch's `F.pad`.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum PadMode {
    /// One value everywhere.
    Constant(f64),
    /// The image mirrored at its edge. The edge pixels are not repeated.
    Reflect,
    /// Copies of the edge pixels.
    Replicate,
    /// The pixels of the opposite side.
    Circular,
}

/// How many pixels [`pad`] adds on each side, and their values.
///
/// ```
/// use candle_vision_ops::{PadConfig, PadMode};
///
/// let config = PadConfig::new([0, 1, 0, 1]).mode(PadMode::Replicate);
/// assert_eq!((config.top, config.bottom), (0, 1));
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct PadConfig {
    /// Rows above.
    pub top: usize,
    /// Rows below.
    pub bottom: usize,
    /// Columns to the left.
    pub left: usize,
    /// Columns to the right.
    pub right: usize,
    /// The values of the added pixels. Zeros by default.
    pub mode: PadMode,
}

impl PadConfig {
    /// Adds `[top, bottom, left, right]` pixels of zeros.
    pub fn new([top, bottom, left, right]: [usize; 4]) -> Self {
        Self { top, bottom, left, right, mode: PadMode::Constant(0.0) }
    }

    /// Adds the same number of pixels of zeros on every side.
    pub fn all(pixels: usize) -> Self {
        Self::new([pixels; 4])
    }

    /// Sets the values of the added pixels.
    pub fn mode(self, mode: PadMode) -> Self {
        Self { mode, ..self }
    }
}

/// Adds pixels around images.
///
/// # Shapes
/// - `x`: `[batch, height, width, channels]`, of any float type
/// - returns `[batch, top + height + bottom, left + width + right, channels]`
///
/// # Errors
/// If `x` has another rank or number type, if a reflected side adds as many pixels as the image has along
/// that axis, or if a circular side adds more than that.
///
/// # Example
/// ```
/// use candle_core::{Device, Tensor};
/// use candle_vision_ops::{PadConfig, PadMode, pad};
///
/// let x = Tensor::new(&[1f32, 2.0, 3.0], &Device::Cpu)?.reshape((1, 1, 3, 1))?;
/// let y = pad(&x, &PadConfig::new([0, 0, 2, 1]).mode(PadMode::Reflect))?;
/// assert_eq!(y.flatten_all()?.to_vec1::<f32>()?, [3.0, 2.0, 1.0, 2.0, 3.0, 2.0]);
/// # candle_core::Result::Ok(())
/// ```
pub fn pad(x: &Tensor, config: &PadConfig) -> Result<Tensor> {
    let [_, height, width, _] = check::images(NAME, x)?;
    let PadConfig { top, bottom, left, right, mode } = *config;
    let (outside, fill) = match mode {
        PadMode::Constant(value) => (Outside::Nothing, value),
        PadMode::Reflect => (Outside::Reflected, 0.0),
        PadMode::Replicate => (Outside::Edge, 0.0),
        PadMode::Circular => (Outside::Circular, 0.0),
    };
    let sides = [("height", height, top, bottom), ("width", width, left, right)];
    for (axis, size, before, after) in sides {
        let most = match mode {
            PadMode::Reflect => size - 1,
            PadMode::Circular => size,
            _ => isize::MAX as usize / 4,
        };
        if before.max(after) > most {
            bail!(
                "{NAME}: {mode:?} takes at most {most} pixels along a {axis} of {size}, got {before} and {after}"
            )
        }
    }
    let rows = Places::padded(height, top, bottom, outside);
    let columns = Places::padded(width, left, right, outside);
    let sizes = [x.dims()[0], rows.outputs(), columns.outputs(), x.dims()[3]];
    if sizes
        .iter()
        .try_fold(1usize, |product, &size| product.checked_mul(size))
        .is_none_or(|n| n > isize::MAX as usize / 8)
    {
        bail!("{NAME}: an output of {sizes:?} is too large")
    }
    along(NAME, x, [(1, rows), (2, columns)], fill)
}

const NAME: &str = "pad";
