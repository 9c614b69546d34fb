//! Hooks, the counterpart of PyTorch's forward hooks.

use std::sync::Arc;

use candle_core::{Result, Tensor};

/// Sees a gradient during `backward`. It may return another gradient of the same shape and number type.
pub type GradientHook = Arc<dyn Fn(&Tensor) -> Result<Option<Tensor>> + Send + Sync>;

/// Sees the output of each named layer and may replace it. This trait is for hooks with their own state;
/// [`Hooks`](crate::Hooks) takes closures.
///
/// A hook sees feature maps as `[batch, channels, height, width]`, even where the network stores them
/// channels-last.
///
/// A hook may return a leaf [`Var`](candle_core::Var). Then the gradient of the leaf can be read after
/// `backward`, and the graph below the leaf is cut. So a class activation map needs no backward pass through
/// the layers below its layer.
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
    /// Whether [`LayerHook::output`] is called for this layer. Layers that no hook wants keep their fused fast
    /// path.
    fn wants(&self, layer: &str) -> bool {
        let _ = layer;
        true
    }

    /// Whether [`LayerHook::input`] is called for this layer. It is only asked if [`LayerHook::wants`] is true
    /// for the layer. An activation after batch norm stays fused with it if only its output is wanted.
    fn wants_input(&self, layer: &str) -> bool {
        self.wants(layer)
    }

    /// Whether the tensor returned for this layer may have another batch size. Then the part above the layer
    /// can run on many images while the part below runs on one. Any other change of shape is an error that
    /// names the layer.
    fn changes_batch(&self, layer: &str) -> bool {
        let _ = layer;
        false
    }

    /// Sees `output`, the result of the layer at path `layer`. Returns the tensor that the next layer gets,
    /// usually `output` itself.
    ///
    /// # Errors
    /// An error ends the forward pass.
    fn output(&mut self, layer: &str, output: Tensor) -> Result<Tensor>;

    /// Sees what [`LayerHook::output`] gave for this layer, in the order in which the network stores it: feature maps are
    /// `[batch, height, width, channels]`. Returns the tensor that the next layer gets, by default `stored` itself.
    ///
    /// With a leaf from here, `backward` keeps its fast path. It loses it behind a leaf from [`LayerHook::output`],
    /// because candle reorders its axes.
    ///
    /// # Errors
    /// An error ends the forward pass.
    fn stored_output(&mut self, layer: &str, stored: Tensor) -> Result<Tensor> {
        let _ = layer;
        Ok(stored)
    }

    /// Sees `input`, the input of the layer at path `layer`. Returns the tensor that the layer gets. By default
    /// it returns `input`.
    ///
    /// # Errors
    /// An error ends the forward pass.
    fn input(&mut self, layer: &str, input: Tensor) -> Result<Tensor> {
        let _ = layer;
        Ok(input)
    }

    /// The factors that the channels of this layer's output are multiplied by, after [`LayerHook::output`] has
    /// seen it. There are `channels` factors. The default is no factors.
    ///
    /// With these factors, `backward` keeps its fast path. It loses it if a hook changes the output by candle's
    /// multiplication.
    ///
    /// # Errors
    /// An error ends the forward pass.
    fn channel_factors(&mut self, layer: &str, channels: usize) -> Result<Option<Vec<f32>>> {
        let _ = (layer, channels);
        Ok(None)
    }

    /// Hears that the layer computes `multiply_adds` products without parameters, such as those of attention. They
    /// cannot be counted from the layer's parameters and its output. By default nothing is done.
    fn products(&mut self, layer: &str, multiply_adds: usize) {
        let _ = (layer, multiply_adds);
    }

    /// A hook that sees the gradient at the tensor that [`LayerHook::output`] returned for this layer, during
    /// `backward`. The default is no hook. Gradients of feature maps are `[batch, channels, height, width]`.
    ///
    /// With this hook, `backward` keeps its fast path. It loses it if the output itself goes through a candle
    /// op.
    fn gradient_hook(&mut self, layer: &str) -> Option<GradientHook> {
        let _ = layer;
        None
    }
}

/// A hook that records the shape of every layer's output, in the order of the forward pass.
#[derive(Debug, Default)]
pub struct RecordShapes {
    /// The path and output shape of each layer.
    pub shapes: Vec<(String, Vec<usize>)>,
    /// The path of each layer that computes products without parameters, and their multiply-adds.
    pub products: Vec<(String, usize)>,
}

impl LayerHook for RecordShapes {
    fn wants_input(&self, _: &str) -> bool {
        false
    }

    fn output(&mut self, layer: &str, output: Tensor) -> Result<Tensor> {
        self.shapes.push((layer.to_owned(), output.dims().to_vec()));
        Ok(output)
    }

    fn products(&mut self, layer: &str, multiply_adds: usize) {
        self.products.push((layer.to_owned(), multiply_adds));
    }
}
