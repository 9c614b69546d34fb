//! Hooks that record what passes through a layer.

use std::sync::{Arc, Mutex, PoisonError};

use candle_core::backprop::GradStore;
use candle_core::{Result, Tensor, Var};
use candle_vision_models::{GradientHook, LayerHook};

/// A forward hook that keeps the outputs of chosen layers.
///
/// The outputs are detached: they hold no graph and no gradient.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use candle_vision_explain::Recorder;
/// use candle_vision_models::{ModelSpec, Pass, build};
///
/// # fn main() -> candle_core::Result<()> {
/// let model = build(&ModelSpec::new("gap_cnn", 2), 0, &Device::Cpu)?;
/// let images = Tensor::zeros((1, 3, 32, 32), DType::F32, &Device::Cpu)?;
/// let mut recorder = Recorder::new(["conv1", "conv2"]);
/// model.forward(&images, &mut Pass::eval().with_hooks(&mut recorder))?;
/// assert_eq!(recorder.get("conv1").unwrap().dims(), [1, 16, 32, 32]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Default)]
pub struct Recorder {
    layers: Vec<String>,
    outputs: Vec<(String, Tensor)>,
}

impl Recorder {
    /// Records the layers at these paths. A path that the network does not have gets no output.
    pub fn new(layers: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { layers: layers.into_iter().map(Into::into).collect(), outputs: Vec::new() }
    }

    /// Every recorded output with the path of its layer, in the order of the forward pass. Feature maps are
    /// `[batch, channels, height, width]`. Further passes append their outputs.
    pub fn outputs(&self) -> &[(String, Tensor)] {
        &self.outputs
    }

    /// The latest output of the layer at path `layer`. `None` if it has none.
    pub fn get(&self, layer: &str) -> Option<&Tensor> {
        self.outputs.iter().rev().find(|(path, _)| path == layer).map(|(_, output)| output)
    }
}

impl LayerHook for Recorder {
    fn wants(&self, layer: &str) -> bool {
        self.layers.iter().any(|wanted| wanted == layer)
    }

    fn wants_input(&self, _: &str) -> bool {
        false
    }

    fn output(&mut self, layer: &str, output: Tensor) -> Result<Tensor> {
        if self.wants(layer) {
            self.outputs.push((layer.to_owned(), output.detach()));
        }
        Ok(output)
    }
}

/// A hook that keeps the gradients at the outputs of chosen layers during `backward`.
#[derive(Debug, Default)]
pub(crate) struct GradientsAt {
    layers: Vec<String>,
    gradients: Arc<Mutex<Vec<(String, Tensor)>>>,
}

impl GradientsAt {
    pub(crate) fn new(layers: impl IntoIterator<Item = String>) -> Self {
        Self { layers: layers.into_iter().collect(), gradients: Arc::default() }
    }

    /// Takes the gradients out, each with the path of its layer. Feature maps are `[batch, channels, height,
    /// width]`.
    pub(crate) fn take(&self) -> Vec<(String, Tensor)> {
        std::mem::take(&mut *self.gradients.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl LayerHook for GradientsAt {
    fn wants(&self, layer: &str) -> bool {
        self.layers.iter().any(|wanted| wanted == layer)
    }

    fn wants_input(&self, _: &str) -> bool {
        false
    }

    fn output(&mut self, _: &str, output: Tensor) -> Result<Tensor> {
        Ok(output)
    }

    fn gradient_hook(&mut self, layer: &str) -> Option<GradientHook> {
        let (layer, gradients) = (layer.to_owned(), self.gradients.clone());
        Some(Arc::new(move |gradient| {
            let mut gradients = gradients.lock().unwrap_or_else(PoisonError::into_inner);
            gradients.push((layer.clone(), gradient.detach()));
            Ok(None)
        }))
    }
}

/// A hook that cuts the graph at one layer: it replaces the layer's output by a leaf.
///
/// candle keeps the gradients of leaves only. With the leaf, the gradient at the layer can be read after
/// `backward`, and no gradient below the layer is computed. A hook that calls this one passes on
/// [`LayerHook::stored_output`].
#[derive(Debug)]
pub struct LeafAt {
    layer: String,
    leaf: Option<Var>,
}

impl LeafAt {
    /// Cuts at the layer of path `layer`.
    pub fn new(layer: impl Into<String>) -> Self {
        Self { layer: layer.into(), leaf: None }
    }

    /// The output of the layer. Feature maps are `[batch, channels, height, width]`. `None` before a pass, and
    /// after the pass of a network that has no such layer.
    ///
    /// # Errors
    /// If candle fails.
    pub fn output(&self) -> Result<Option<Tensor>> {
        self.leaf.as_ref().map(|leaf| shown(&leaf.as_detached_tensor())).transpose()
    }

    /// The gradient at the layer's output, in the shape of [`LeafAt::output`]. `None` if the differentiated
    /// value does not depend on that output.
    ///
    /// # Errors
    /// If candle fails.
    pub fn gradient(&self, gradients: &GradStore) -> Result<Option<Tensor>> {
        self.leaf.as_ref().and_then(|leaf| gradients.get(leaf)).map(shown).transpose()
    }
}

impl LayerHook for LeafAt {
    fn wants(&self, layer: &str) -> bool {
        layer == self.layer
    }

    fn wants_input(&self, _: &str) -> bool {
        false
    }

    fn output(&mut self, _: &str, output: Tensor) -> Result<Tensor> {
        Ok(output)
    }

    fn stored_output(&mut self, layer: &str, stored: Tensor) -> Result<Tensor> {
        if !self.wants(layer) {
            return Ok(stored);
        }
        let leaf = Var::from_tensor(&stored)?;
        let replacement = leaf.as_tensor().clone();
        self.leaf = Some(leaf);
        Ok(replacement)
    }
}

/// What the network stores channels-last, as hooks see it.
pub(crate) fn shown(leaf: &Tensor) -> Result<Tensor> {
    if leaf.rank() == 4 { leaf.permute((0, 3, 1, 2)) } else { Ok(leaf.clone()) }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};
    use candle_vision_models::{Model, ModelSpec, Pass, build};
    use candle_vision_ops::why_not_direct;

    use super::*;

    fn network() -> Result<Box<dyn Model>> {
        build(&ModelSpec::new("gap_cnn", 2).input([3, 16, 16]), 0, &Device::Cpu)
    }

    fn images() -> Result<Var> {
        let values: Vec<f32> = (0..3 * 256).map(|i| (i as f32 * 0.7).sin()).collect();
        Var::from_vec(values, (1, 3, 16, 16), &Device::Cpu)
    }

    #[test]
    fn recorder_keeps_the_chosen_outputs_in_order_and_without_a_graph() -> Result<()> {
        let mut recorder = Recorder::new(["fc", "conv2", "nothing"]);
        let images = images()?;
        let logits = network()?.forward(&images, &mut Pass::eval().with_hooks(&mut recorder))?;
        let paths: Vec<&str> = recorder.outputs().iter().map(|(path, _)| path.as_str()).collect();
        assert_eq!(paths, ["conv2", "fc"]);
        assert!(recorder.get("nothing").is_none());
        let recorded = recorder.get("fc").expect("the head ran");
        assert_eq!(recorded.to_vec2::<f32>()?, logits.to_vec2::<f32>()?);
        assert!(logits.track_op() && !recorded.track_op());
        Ok(())
    }

    #[test]
    fn a_leaf_changes_no_result_and_stops_the_gradient() -> Result<()> {
        let model = network()?;
        let images = images()?;
        let plain = model.forward(&images, &mut Pass::eval())?;
        assert!(plain.sum_all()?.backward()?.get(&images).is_some());

        let mut leaf = LeafAt::new("conv2");
        let cut = model.forward(&images, &mut Pass::eval().with_hooks(&mut leaf))?;
        assert_eq!(cut.to_vec2::<f32>()?, plain.to_vec2::<f32>()?);
        assert_eq!(why_not_direct(&cut), None);
        let gradients = cut.sum_all()?.backward()?;
        assert!(gradients.get(&images).is_none());
        let gradient = leaf.gradient(&gradients)?.expect("the logits depend on conv2");
        assert_eq!(gradient.dims(), leaf.output()?.expect("conv2 ran").dims());
        assert_eq!(gradient.dims(), [1, 32, 8, 8]);
        Ok(())
    }

    #[test]
    fn a_leaf_in_vectors_keeps_their_shape() -> Result<()> {
        let mut leaf = LeafAt::new("fc");
        let images = images()?;
        let logits = network()?.forward(&images, &mut Pass::eval().with_hooks(&mut leaf))?;
        let gradients = logits.sum_all()?.backward()?;
        let gradient = leaf.gradient(&gradients)?.expect("the logits are the leaf");
        assert_eq!(gradient.to_dtype(DType::F32)?.to_vec2::<f32>()?, [[1.0, 1.0]]);
        Ok(())
    }

    #[test]
    fn a_layer_that_does_not_exist_leaves_no_leaf() -> Result<()> {
        let mut leaf = LeafAt::new("conv9");
        let images = images()?;
        network()?.forward(&images, &mut Pass::eval().with_hooks(&mut leaf))?;
        assert!(leaf.output()?.is_none());
        Ok(())
    }
}
