//! Hooks: what PyTorch calls forward hooks.

use std::sync::Arc;

use candle_core::{Result, Tensor};

/// Sees a gradient on its way back and may hand back another of the same shape and number type.
pub type GradientHook = Arc<dyn Fn(&Tensor) -> Result<Option<Tensor>> + Send + Sync>;

/// Sees the output of each named layer and may replace it. [`Hooks`](crate::Hooks) does so with
/// closures; this trait is for hooks with a state of their own.
///
/// Feature maps are shown as `[batch, channels, height, width]`, also where the network keeps them
/// channels-last. A hook that hands back a leaf [`Var`](candle_core::Var) makes its gradient
/// readable after `backward`, and cuts the graph below it: a class activation map pays no backward
/// through the layers under its target.
///
/// ```
/// use candle_core::{Result, Tensor};
/// use candle_vision_models::LayerHook;
///
/// /// Switches one channel of one layer off.
/// struct Mask { layer: String, channel: usize }
///
/// impl LayerHook for Mask {
///     fn wants(&self, layer: &str) -> bool { layer == self.layer }
///     fn output(&mut self, _: &str, output: Tensor) -> Result<Tensor> {
///         let channels = output.dim(1)?;
///         let keep: Vec<f32> =
///             (0..channels).map(|c| if c == self.channel { 0.0 } else { 1.0 }).collect();
///         let keep = Tensor::from_vec(keep, (1, channels, 1, 1), output.device())?;
///         output.broadcast_mul(&keep)
///     }
/// }
/// ```
pub trait LayerHook {
    /// Whether [`LayerHook::output`] is to be called for this layer. Layers that no hook wants keep
    /// their fused fast path.
    fn wants(&self, layer: &str) -> bool {
        let _ = layer;
        true
    }

    /// Whether [`LayerHook::input`] is to be called for this layer, of which [`LayerHook::wants`] is
    /// true. An activation behind batch norm stays fused with it where only its output is wanted.
    fn wants_input(&self, layer: &str) -> bool {
        self.wants(layer)
    }

    /// Whether what is handed back for this layer may have another number of rows, so that one image
    /// below it is many above it. Any other change of shape is an error that names the layer.
    fn changes_batch(&self, layer: &str) -> bool {
        let _ = layer;
        false
    }

    /// Sees `output`, the result of the layer at path `layer`, and returns what the next layer is
    /// to get instead (usually `output` itself).
    ///
    /// # Errors
    /// An error ends the forward pass.
    fn output(&mut self, layer: &str, output: Tensor) -> Result<Tensor>;

    /// Sees `input`, what the layer at path `layer` is about to get, and returns what it is to get
    /// instead. By default it is left as it is.
    ///
    /// # Errors
    /// An error ends the forward pass.
    fn input(&mut self, layer: &str, input: Tensor) -> Result<Tensor> {
        let _ = layer;
        Ok(input)
    }

    /// What the channels of this layer's output are multiplied by, after [`LayerHook::output`] has seen it;
    /// nothing by default. There are `channels` factors. `backward` keeps to its fast path, which it does
    /// not if a product of candle's changes the output.
    ///
    /// # Errors
    /// An error ends the forward pass.
    fn channel_factors(&mut self, layer: &str, channels: usize) -> Result<Option<Vec<f32>>> {
        let _ = (layer, channels);
        Ok(None)
    }

    /// What sees, during `backward`, the gradient at what [`LayerHook::output`] handed back for this layer;
    /// nothing by default. Feature maps' gradients are `[batch, channels, height, width]`. `backward` keeps
    /// to its fast way, which it does not if the output itself goes through an op of candle's.
    fn gradient_hook(&mut self, layer: &str) -> Option<GradientHook> {
        let _ = layer;
        None
    }
}

/// A hook that notes the shape of every layer's output, in the order of the forward pass.
#[derive(Debug, Default)]
pub struct RecordShapes {
    /// Layer path and output shape.
    pub shapes: Vec<(String, Vec<usize>)>,
}

impl LayerHook for RecordShapes {
    fn wants_input(&self, _: &str) -> bool {
        false
    }

    fn output(&mut self, layer: &str, output: Tensor) -> Result<Tensor> {
        self.shapes.push((layer.to_owned(), output.dims().to_vec()));
        Ok(output)
    }
}
