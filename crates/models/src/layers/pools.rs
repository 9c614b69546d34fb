//! Pooling as layers: they have a path and no parameters.

use candle_core::{Result, Tensor};
use candle_vision_ops::{
    AvgPool2dConfig, MaxPool2dConfig, adaptive_avg_pool2d, avg_pool2d, flatten, max_pool2d,
};

use super::layer_at;
use crate::{ParameterBuilder, Pass};

/// `torch.nn.MaxPool2d`.
///
/// ```
/// use candle_vision_models::candle_core::{DType, Device, Result, Tensor};
/// use candle_vision_models::layers::MaxPool2d;
/// use candle_vision_models::{Parameters, Pass};
/// use candle_vision_ops::MaxPool2dConfig;
///
/// let vb = Parameters::new().builder(0, DType::F32, &Device::Cpu);
/// let pool = MaxPool2d::new(MaxPool2dConfig::new(3).stride(2).padding(1), vb.pp("maxpool"));
/// let x = Tensor::zeros((1, 8, 8, 4), DType::F32, &Device::Cpu)?;
/// assert_eq!(pool.forward(&x, &mut Pass::eval())?.dims(), [1, 4, 4, 4]);
/// # Ok::<(), candle_vision_models::candle_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct MaxPool2d {
    path: String,
    config: MaxPool2dConfig,
}

impl MaxPool2d {
    /// The layer at the path of `vb`.
    pub fn new(config: MaxPool2dConfig, vb: ParameterBuilder) -> Self {
        Self { path: vb.path().to_owned(), config }
    }

    /// `[batch, height, width, channels]` to `[batch, out_height, out_width, channels]`.
    ///
    /// # Errors
    /// If a window does not fit, or what a hook returns.
    pub fn forward(&self, x: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        layer_at(&self.path, x, pass, |x| max_pool2d(x, &self.config))
    }
}

/// `torch.nn.AvgPool2d`.
#[derive(Debug, Clone)]
pub struct AvgPool2d {
    path: String,
    config: AvgPool2dConfig,
}

impl AvgPool2d {
    /// The layer at the path of `vb`.
    pub fn new(config: AvgPool2dConfig, vb: ParameterBuilder) -> Self {
        Self { path: vb.path().to_owned(), config }
    }

    /// `[batch, height, width, channels]` to `[batch, out_height, out_width, channels]`.
    ///
    /// # Errors
    /// If a window does not fit, or what a hook returns.
    pub fn forward(&self, x: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        layer_at(&self.path, x, pass, |x| avg_pool2d(x, &self.config))
    }
}

/// `torch.nn.AdaptiveAvgPool2d`: averages of as many windows as the output has positions.
#[derive(Debug, Clone)]
pub struct AdaptiveAvgPool2d {
    path: String,
    output: [usize; 2],
}

impl AdaptiveAvgPool2d {
    /// The layer at the path of `vb`, whose maps have the height and width `output`.
    pub fn new(output: [usize; 2], vb: ParameterBuilder) -> Self {
        Self { path: vb.path().to_owned(), output }
    }

    /// `[batch, height, width, channels]` to `[batch, output[0], output[1], channels]`.
    ///
    /// # Errors
    /// If `x` is not of rank 4 or empty, or what a hook returns.
    pub fn forward(&self, x: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        layer_at(&self.path, x, pass, |x| adaptive_avg_pool2d(x, self.output))
    }
}

/// The mean of each channel as a row: `torch.nn.AdaptiveAvgPool2d(1)` and `torch.nn.Flatten`. Hooks see
/// the means as maps of one pixel, before they are made rows.
#[derive(Debug, Clone)]
pub struct GlobalAvgPool(AdaptiveAvgPool2d);

impl GlobalAvgPool {
    /// The layer at the path of `vb`.
    pub fn new(vb: ParameterBuilder) -> Self {
        Self(AdaptiveAvgPool2d::new([1, 1], vb))
    }

    /// `[batch, height, width, channels]` to `[batch, channels]`.
    ///
    /// # Errors
    /// If `x` is not of rank 4 or empty, or what a hook returns.
    pub fn forward(&self, x: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        flatten(&self.0.forward(x, pass)?)
    }
}
