//! A network as a table: layers, output shapes, parameters and multiply-adds.

use candle_core::{DType, Result, Tensor};

use crate::{Model, Parameter, Pass, RecordShapes};

/// One layer of a [`Summary`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerSummary {
    /// The layer's path.
    pub path: String,
    /// Its output shape for one batch. Feature maps are `[batch, channels, height, width]`.
    pub output: Vec<usize>,
    /// Number of learned elements of this layer alone.
    pub parameters: usize,
    /// Whether a training pass computes gradients for them. `None` for a layer without parameters.
    pub trainable: Option<bool>,
    /// Multiply-adds of the layer's products. Biases and norms are not counted. torchinfo counts them, which
    /// adds less than one in a thousand.
    pub multiply_adds: usize,
}

/// The result of [`summarize`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// The layers in the order of the forward pass.
    pub layers: Vec<LayerSummary>,
    /// Number of learned elements of the whole network.
    pub parameters: usize,
    /// Number of learned elements that are not frozen.
    pub trainable: usize,
    /// Multiply-adds of one forward pass over the batch.
    pub multiply_adds: usize,
}

/// Runs one batch of `batch` images of zeros, in the network's input size, and records each layer's output
/// shape and parameters.
///
/// # Errors
/// If the forward pass fails.
pub fn summarize(model: &dyn Model, batch: usize) -> Result<Summary> {
    let weights = model.parameters().weights();
    let [channels, height, width] = model.spec().input;
    let shape = (batch, channels, height, width);
    let images = Tensor::zeros(shape, DType::F32, &model.parameters().device())?;
    let mut shapes = RecordShapes::default();
    model.forward(&images, &mut Pass::eval().with_hooks(&mut shapes))?;
    let layers: Vec<LayerSummary> =
        shapes.shapes.into_iter().map(|(path, output)| layer(path, output, &weights)).collect();
    let count = |keep: fn(&Parameter) -> bool| {
        weights.iter().filter(|weight| keep(weight)).map(Parameter::elem_count).sum()
    };
    Ok(Summary {
        parameters: count(|_| true),
        trainable: count(Parameter::is_trainable),
        multiply_adds: layers.iter().map(|layer| layer.multiply_adds).sum(),
        layers,
    })
}

fn layer(path: String, output: Vec<usize>, weights: &[Parameter]) -> LayerSummary {
    let own: Vec<&Parameter> = weights
        .iter()
        .filter(|weight| weight.path().rsplit_once('.').is_some_and(|(layer, _)| layer == path))
        .collect();
    // Each output position takes one product with the whole matrix or kernel. Its first dimension is the number
    // of output channels.
    let positions = match output.as_slice() {
        [batch, _, height, width] => batch * height * width,
        [batch, ..] => *batch,
        [] => 1,
    };
    let products: usize = own.iter().filter(|p| p.var().rank() > 1).map(|p| p.elem_count()).sum();
    LayerSummary {
        parameters: own.iter().map(|parameter| parameter.elem_count()).sum(),
        trainable: (!own.is_empty()).then(|| own.iter().any(|p| p.is_trainable())),
        multiply_adds: positions * products,
        path,
        output,
    }
}
