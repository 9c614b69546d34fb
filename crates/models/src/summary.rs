//! A network as a table: layers, output shapes, parameters and multiply-adds.

use candle_core::{DType, Result, Tensor};

use crate::path::{is_under, layer_of};
use crate::{Model, Parameter, Pass, RecordShapes};

/// Bytes of a 32-bit float.
const FLOAT: usize = size_of::<f32>();

/// One layer of a [`Summary`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LayerSummary {
    /// The layer's path.
    pub path: String,
    /// Its output shape for one batch. Feature maps are `[batch, channels, height, width]`. It is empty for a row that
    /// the forward pass does not give: that of an auxiliary classifier, or of a parameter outside of all layers, such as a
    /// class token.
    pub output: Vec<usize>,
    /// `[height, width]` of its kernel, if it is a convolution.
    pub kernel: Option<[usize; 2]>,
    /// Number of learned elements of this layer alone.
    pub parameters: usize,
    /// Whether a training pass computes gradients for them. `None` for a layer without parameters.
    pub trainable: Option<bool>,
    /// Multiply-adds of the layer's products: those with its weights, and those of attention. Biases and norms are
    /// not counted. torchinfo counts them, which adds less than one in a thousand.
    pub multiply_adds: usize,
    /// Whether it belongs to an auxiliary classifier, which only training runs.
    pub training_only: bool,
}

/// The result of [`summarize`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Summary {
    /// The layers in the order of the forward pass, then the rows that it does not give.
    pub layers: Vec<LayerSummary>,
    /// Number of learned elements of the whole network: the sum over the rows.
    pub parameters: usize,
    /// Number of learned elements that are not frozen.
    pub trainable: usize,
    /// Multiply-adds of one forward pass over the batch.
    pub multiply_adds: usize,
    /// Bytes of the batch of images in 32-bit floats.
    pub input_bytes: usize,
    /// torchinfo's "forward/backward pass size": twice the bytes of the outputs of the layers that have parameters and no
    /// layers below them, once for the maps and once for their gradients. [`memory::estimate`](crate::memory::estimate) is
    /// the exact account of a training step.
    pub forward_backward_bytes: usize,
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
    let mut layers: Vec<LayerSummary> =
        shapes.shapes.into_iter().map(|(path, output)| layer(path, output, &weights)).collect();
    for (path, multiply_adds) in shapes.products {
        if let Some(layer) = layers.iter_mut().find(|layer| layer.path == path) {
            layer.multiply_adds += multiply_adds;
        }
    }
    layers.extend(beside_the_pass(model, &weights, &layers));
    let count = |keep: fn(&Parameter) -> bool| {
        weights.iter().filter(|weight| keep(weight)).map(Parameter::elem_count).sum()
    };
    Ok(Summary {
        parameters: count(|_| true),
        trainable: count(Parameter::is_trainable),
        multiply_adds: layers.iter().map(|layer| layer.multiply_adds).sum(),
        input_bytes: FLOAT * images.elem_count(),
        forward_backward_bytes: 2 * bytes_of_leaves(&layers),
        layers,
    })
}

/// Bytes of the outputs of the layers that have parameters and no layers below them.
fn bytes_of_leaves(layers: &[LayerSummary]) -> usize {
    let holds = |layer: &LayerSummary, other: &LayerSummary| {
        other.path != layer.path && is_under(&other.path, &layer.path)
    };
    let is_leaf = |layer: &LayerSummary| !layers.iter().any(|other| holds(layer, other));
    let leaves = layers.iter().filter(|layer| layer.parameters > 0 && is_leaf(layer));
    leaves.map(LayerSummary::output_bytes).sum()
}

impl Summary {
    /// Bytes of the learned numbers in 32-bit floats.
    pub fn parameter_bytes(&self) -> usize {
        FLOAT * self.parameters
    }

    /// torchinfo's "estimated total size": input, passes and parameters.
    pub fn total_bytes(&self) -> usize {
        self.input_bytes + self.forward_backward_bytes + self.parameter_bytes()
    }

    /// The same with the layers below `depth` parts of a path added up: `layer1.0.conv1` becomes a part of `layer1.0`
    /// at depth 2, whose output is that of its last layer. The totals stay.
    pub fn at_depth(&self, depth: usize) -> Self {
        let mut layers: Vec<LayerSummary> = Vec::new();
        for layer in &self.layers {
            let parts: Vec<&str> = layer.path.split('.').take(depth.max(1)).collect();
            let path = parts.join(".");
            match layers.iter_mut().find(|whole| whole.path == path) {
                Some(whole) => whole.add(layer),
                None => layers.push(LayerSummary { path, ..layer.clone() }),
            }
        }
        Self { layers, ..self.clone() }
    }
}

impl LayerSummary {
    fn add(&mut self, next: &Self) {
        if !next.output.is_empty() {
            self.output.clone_from(&next.output);
        }
        self.kernel = None;
        self.parameters += next.parameters;
        self.multiply_adds += next.multiply_adds;
        self.trainable = match (self.trainable, next.trainable) {
            (None, trainable) | (trainable, None) => trainable,
            (Some(a), Some(b)) => Some(a || b),
        };
    }

    /// Bytes of its output in 32-bit floats; 0 if it has none.
    pub fn output_bytes(&self) -> usize {
        if self.output.is_empty() {
            return 0;
        }
        FLOAT * self.output.iter().product::<usize>()
    }
}

/// Rows of the parameters whose layers the forward pass did not show.
fn beside_the_pass(
    model: &dyn Model,
    weights: &[Parameter],
    shown: &[LayerSummary],
) -> Vec<LayerSummary> {
    let mut rows: Vec<LayerSummary> = Vec::new();
    for weight in weights {
        let path = layer_of(weight.path());
        if shown.iter().any(|layer| layer.path == path) || rows.iter().any(|row| row.path == path) {
            continue;
        }
        let row = layer(path.to_owned(), Vec::new(), weights);
        let heads = model.auxiliary_heads();
        let training_only = heads.iter().any(|head| is_under(path, head));
        rows.push(LayerSummary { multiply_adds: 0, training_only, ..row });
    }
    rows
}

fn layer(path: String, output: Vec<usize>, weights: &[Parameter]) -> LayerSummary {
    let own: Vec<&Parameter> =
        weights.iter().filter(|weight| layer_of(weight.path()) == path).collect();
    // Each output position takes one product with the whole matrix or kernel. Its first dimension is the number
    // of output channels.
    let positions = match output.as_slice() {
        [batch, _, height, width] => batch * height * width,
        [rows, _] => *rows,
        [batch, tokens, _] => batch * tokens,
        [batch, ..] => *batch,
        [] => 1,
    };
    // Position embeddings, tables and scales are parameters with several dimensions, too, but not of products.
    let of_products = || {
        let weights = own.iter().filter(|weight| weight.path().ends_with("weight"));
        weights.filter(|weight| matches!(weight.var().rank(), 2 | 4))
    };
    let products: usize = of_products().map(|weight| weight.elem_count()).sum();
    let kernel = of_products().find_map(|weight| match weight.var().dims() {
        [_, _, height, width] => Some([*height, *width]),
        _ => None,
    });
    LayerSummary {
        kernel,
        parameters: own.iter().map(|parameter| parameter.elem_count()).sum(),
        trainable: (!own.is_empty()).then(|| own.iter().any(|p| p.is_trainable())),
        multiply_adds: positions * products,
        training_only: false,
        path,
        output,
    }
}
