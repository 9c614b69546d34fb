//! Taps: what PyTorch calls forward hooks.

use candle_core::{Result, Tensor};

/// Sees the output of each named layer and may replace it. [`Taps`](crate::Taps) does so with
/// closures; this trait is for taps with a state of their own.
///
/// Feature maps are shown as `[batch, channels, height, width]`, also where the network keeps them
/// channels-last. A tap that hands back a leaf [`Var`](candle_core::Var) makes its gradient
/// readable after `backward`, and cuts the graph below it: a class activation map pays no backward
/// through the layers under its target.
///
/// ```
/// use candle_core::{Result, Tensor};
/// use candle_vision_models::LayerTap;
///
/// /// Switches one channel of one layer off.
/// struct Mask { layer: String, channel: usize }
///
/// impl LayerTap for Mask {
///     fn wants(&self, layer: &str) -> bool { layer == self.layer }
///     fn tap(&mut self, _: &str, output: Tensor) -> Result<Tensor> {
///         let channels = output.dim(1)?;
///         let keep: Vec<f32> =
///             (0..channels).map(|c| if c == self.channel { 0.0 } else { 1.0 }).collect();
///         let keep = Tensor::from_vec(keep, (1, channels, 1, 1), output.device())?;
///         output.broadcast_mul(&keep)
///     }
/// }
/// ```
pub trait LayerTap {
    /// Whether [`LayerTap::tap`] is to be called for this layer. Layers that no tap wants keep
    /// their fused fast path.
    fn wants(&self, layer: &str) -> bool {
        let _ = layer;
        true
    }

    /// Sees `output`, the result of the layer at path `layer`, and returns what the next layer is
    /// to get instead (usually `output` itself).
    ///
    /// # Errors
    /// An error ends the forward pass.
    fn tap(&mut self, layer: &str, output: Tensor) -> Result<Tensor>;

    /// Sees `input`, what the layer at path `layer` is about to get, and returns what it is to get
    /// instead. By default it is left as it is.
    ///
    /// # Errors
    /// An error ends the forward pass.
    fn tap_input(&mut self, layer: &str, input: Tensor) -> Result<Tensor> {
        let _ = layer;
        Ok(input)
    }
}

/// A tap that notes the shape of every layer's output, in the order of the forward pass.
#[derive(Debug, Default)]
pub struct RecordShapes {
    /// Layer path and output shape.
    pub shapes: Vec<(String, Vec<usize>)>,
}

impl LayerTap for RecordShapes {
    fn tap(&mut self, layer: &str, output: Tensor) -> Result<Tensor> {
        self.shapes.push((layer.to_owned(), output.dims().to_vec()));
        Ok(output)
    }
}
