//! Average pooling to a given size.

use candle_core::{Result, Tensor, bail};

use crate::avg_pool2d::average;
use crate::check;
use candle_vision_kernels::pool::{AxisWindows, Windows};

/// The mean of `output[0]` by `output[1]` windows that cover the images evenly. `[1, 1]` is the global
/// average before a classifier.
///
/// Along a side, window `i` of `n` goes from `side * i / n` (rounded down) to `side * (i + 1) / n` (rounded
/// up), as in PyTorch. Windows overlap if `n` does not divide the side. They repeat inputs if `n` is larger
/// than the side.
///
/// # Shapes
/// - `x`: `[batch, height, width, channels]`, `f32` or `f64`
/// - returns `[batch, output[0], output[1], channels]`
///
/// # Errors
/// If `x` has another rank or number type, or `output` holds a 0.
///
/// # Example
/// ```
/// use candle_core::{Device, Tensor};
///
/// let x = Tensor::arange(0f32, 12.0, &Device::Cpu)?.reshape((1, 2, 3, 2))?;
/// let y = candle_vision_ops::adaptive_avg_pool2d(&x, [1, 1])?;
/// assert_eq!(y.flatten_all()?.to_vec1::<f32>()?, [5.0, 6.0]);
/// # candle_core::Result::Ok(())
/// ```
pub fn adaptive_avg_pool2d(x: &Tensor, output: [usize; 2]) -> Result<Tensor> {
    const NAME: &str = "adaptive_avg_pool2d";
    let [_, height, width, _] = check::images(NAME, x)?;
    if output.contains(&0) {
        bail!("{NAME}: an output side is at least 1, got {output:?}")
    }
    let rows = AxisWindows::adaptive(height, output[0]);
    let columns = AxisWindows::adaptive(width, output[1]);
    average(NAME, x, Windows { rows, columns })
}
