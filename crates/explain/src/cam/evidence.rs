//! The data that class activation maps are computed from.

use std::cell::OnceCell;

use candle_core::backprop::GradStore;
use candle_core::{Result as TensorResult, Tensor};
use candle_vision_models::{Model, Pass, RecordShapes, TokenGrid, nearest_names};
use candle_vision_ops::channels_last;

use crate::target::{Asked, Question, Response};
use crate::{Error, LeafAt, Result, Target};

/// What one forward pass shows of the layer that a map looks at.
pub(crate) struct Seen {
    /// The path of the layer.
    pub(crate) layer: String,
    pub(crate) response: Response,
    /// The output of the layer, `[batch, channels, height, width]`.
    activations: Tensor,
    /// The same as the layer gives it: `[batch, tokens, channels]` if it gives tokens.
    output: Tensor,
    /// Where the layer's tokens lie, if it gives tokens.
    tokens: Option<TokenGrid>,
    leaf: LeafAt,
    /// `[height, width]` of the images.
    size: [usize; 2],
}

impl Seen {
    /// Runs one forward pass of the whole network. The graph is cut at the layer, so no backward pass goes
    /// below it.
    pub(crate) fn of(
        question: &Question<'_>,
        images: &Tensor,
        layer: Option<&str>,
    ) -> Result<Self> {
        let model = question.model;
        let layer = layer_of(model, layer)?;
        let mut leaf = LeafAt::new(layer);
        let response = question.run(images, &mut leaf)?;
        let Some(output) = leaf.output()? else {
            return Err(unknown_layer(model, images, layer)?);
        };
        let (_, _, height, width) = images.dims4()?;
        let size = [height, width];
        let (tokens, activations) = match (output.rank(), model.token_grid()) {
            (4, _) => (None, output.clone()),
            (3, Some(tokens)) => (Some(tokens), tokens.to_maps(&output, size)?),
            _ => {
                let shape = output.dims().to_vec();
                return Err(Error::NotSpatial { layer: layer.to_owned(), shape });
            }
        };
        let layer = layer.to_owned();
        Ok(Self { layer, response, activations, output, tokens, leaf, size })
    }

    /// The gradient at the layer, in the shape of the activations.
    fn gradient(&self, gradients: &GradStore) -> Result<Tensor> {
        let gradient = self.leaf.gradient(gradients)?;
        let gradient = gradient.ok_or_else(|| Error::NoGradient { layer: self.layer.clone() })?;
        match self.tokens {
            Some(tokens) => Ok(tokens.to_maps(&gradient, self.size)?),
            None => Ok(gradient),
        }
    }

    /// The activations times weights that a method makes of their gradients, `[batch, channels, height, width]`.
    pub(crate) fn weighted_by(&self, weights: Weights, gradients: &GradStore) -> Result<Tensor> {
        self.times_weights(weights, &self.gradient(gradients)?)
    }

    fn times_weights(&self, weights: Weights, gradient: &Tensor) -> Result<Tensor> {
        let (batch, channels, height, width) = self.activations.dims4()?;
        let in_places = |maps: &Tensor| -> TensorResult<Tensor> {
            channels_last(maps)?.reshape((batch, height * width, channels))
        };
        let activations = in_places(&self.activations)?;
        let weights = weights(&activations, &in_places(gradient)?)?;
        let weighted = candle_vision_ops::mul(&activations, &weights)?;
        Ok(weighted.reshape((batch, height, width, channels))?.permute((0, 3, 1, 2))?)
    }
}

/// What a method multiplies activations by. It gets the activations of a layer and the gradient of the score at them,
/// `[batch, places, channels]`. It returns the weights in this shape, or `[batch, 1, channels]`.
///
/// A CUDA device captures this. So operations of candle are used only for tensors of equal shape, and those of
/// `candle_vision_ops` elsewhere.
pub(crate) type Weights = fn(&Tensor, &Tensor) -> TensorResult<Tensor>;

/// The data that the class activation maps of one batch of images are computed from.
pub(super) struct Evidence<'a> {
    pub(super) question: Question<'a>,
    pub(super) asked: Asked,
    pub(super) images: &'a Tensor,
    seen: Seen,
    gradients: OnceCell<Tensor>,
}

impl<'a> Evidence<'a> {
    pub(super) fn gather(
        model: &'a dyn Model,
        images: &'a Tensor,
        layer: Option<&str>,
        target: &'a Target,
    ) -> Result<Self> {
        let question = Question::new(model, images, target)?;
        let seen = Seen::of(&question, images, layer)?;
        let asked = question.ask(&seen.response)?;
        Ok(Self { question, asked, images, seen, gradients: OnceCell::new() })
    }

    /// The path of the layer that is looked at.
    pub(super) fn layer(&self) -> &str {
        &self.seen.layer
    }

    /// The output of the layer, `[batch, channels, height, width]`.
    pub(super) fn activations(&self) -> &Tensor {
        &self.seen.activations
    }

    /// The activations times `weights`. `weights` has `batch * channels` values, image by image.
    pub(super) fn weighted(&self, weights: Vec<f32>) -> Result<Tensor> {
        let activations = self.activations();
        let (batch, channels, _, _) = activations.dims4()?;
        let weights = Tensor::from_vec(weights, (batch, channels, 1, 1), self.images.device())?;
        Ok(activations.broadcast_mul(&weights.to_dtype(activations.dtype())?)?)
    }

    /// The activations times weights that a method makes of their gradients, `[batch, channels, height, width]`.
    pub(super) fn weighted_by(&self, weights: Weights) -> Result<Tensor> {
        self.seen.times_weights(weights, self.gradients()?)
    }

    /// The gradient of each image's score at the layer, in the shape of the activations. It is computed on the
    /// first call, so only methods that ask for it pay for the backward pass.
    pub(super) fn gradients(&self) -> Result<&Tensor> {
        if let Some(gradients) = self.gradients.get() {
            return Ok(gradients);
        }
        let gradients = self.seen.gradient(&self.asked.gradients(&self.seen.response)?)?;
        Ok(self.gradients.get_or_init(|| gradients))
    }

    /// The layer's output for image `index`, in as many copies as `keep` has rows: each with its channels times the
    /// factors of a row.
    pub(super) fn with_channels_times(&self, index: usize, keep: &Tensor) -> Result<Tensor> {
        let output = self.seen.output.narrow(0, index, 1)?;
        let keep = match self.seen.tokens {
            None => keep.unsqueeze(2)?.unsqueeze(3)?,
            Some(_) => keep.unsqueeze(1)?,
        };
        Ok(output.broadcast_mul(&keep.to_dtype(output.dtype())?)?)
    }

    /// The score of each image, `batch` values.
    pub(super) fn scores(&self) -> Result<Vec<f64>> {
        let scores = self.asked.scores(&self.seen.response)?.detach();
        Ok(scores.to_dtype(candle_core::DType::F64)?.to_vec1()?)
    }
}

fn layer_of<'a>(model: &'a dyn Model, layer: Option<&'a str>) -> Result<&'a str> {
    layer
        .or_else(|| model.cam_layer())
        .ok_or_else(|| Error::NoSpatialMaps { architecture: model.spec().architecture.clone() })
}

/// The error for a layer that the network does not have. It suggests the nearest paths.
fn unknown_layer(model: &dyn Model, images: &Tensor, layer: &str) -> Result<Error> {
    let mut layers = RecordShapes::default();
    model.forward(&images.narrow(0, 0, 1)?, &mut Pass::eval().with_hooks(&mut layers))?;
    let paths = layers.shapes.iter().map(|(path, _)| path.as_str());
    let near = nearest_names(layer, paths, 4).into_iter().map(str::to_owned).collect();
    Ok(Error::UnknownLayer { layer: layer.to_owned(), near })
}
