//! Padding of images.

use candle_core::{Result, Tensor, bail};
use candle_vision_kernels::rearrange::{Outside, Places};

use crate::check;
use crate::rearrange::along;

/// What stands around an image that is padded, as in PyTorch's `F.pad`.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum PadMode {
    /// One value everywhere.
    Constant(f64),
    /// The image mirrored at its edge pixels, which are not repeated.
    Reflect,
    /// The edge pixels.
    Replicate,
    /// The other end of the image.
    Circular,
}

/// How many pixels [`pad`] adds on each side, and which.
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
    /// What they hold. Default zeros.
    pub mode: PadMode,
}

impl PadConfig {
    /// `[top, bottom, left, right]` pixels of zeros.
    pub fn new([top, bottom, left, right]: [usize; 4]) -> Self {
        Self { top, bottom, left, right, mode: PadMode::Constant(0.0) }
    }

    /// As many pixels of zeros on every side.
    pub fn all(pixels: usize) -> Self {
        Self::new([pixels; 4])
    }

    /// Sets what the added pixels hold.
    pub fn mode(self, mode: PadMode) -> Self {
        Self { mode, ..self }
    }
}

/// Images with pixels added around them.
///
/// # Shapes
/// - `x`: `[batch, height, width, channels]`, of any float type
/// - returns `[batch, top + height + bottom, left + width + right, channels]`
///
/// # Errors
/// If `x` has another rank or number type, or more is reflected than the image holds beside its edge, or
/// more is wrapped around than it holds.
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
