//! The data that class activation maps are computed from.

use std::cell::OnceCell;

use candle_core::Tensor;
use candle_vision_models::{Model, Pass, RecordShapes, TokenGrid, nearest_names};

use crate::target::{Asked, Question, Response};
use crate::{Error, LeafAt, Result, Target};

/// The data that the class activation maps of one batch of images are computed from.
pub(super) struct Evidence<'a> {
    pub(super) question: Question<'a>,
    pub(super) asked: Asked,
    pub(super) images: &'a Tensor,
    /// The path of the layer that is looked at.
    pub(super) layer: String,
    /// The output of the layer, `[batch, channels, height, width]`.
    pub(super) activations: Tensor,
    /// The same as the layer gives it: `[batch, tokens, channels]` if it gives tokens.
    output: Tensor,
    /// Where the layer's tokens lie, if it gives tokens.
    tokens: Option<TokenGrid>,
    leaf: LeafAt,
    response: Response,
    gradients: OnceCell<Tensor>,
}

impl<'a> Evidence<'a> {
    /// The activations times `weights`. `weights` has `batch * channels` values, image by image.
    pub(super) fn weighted(&self, weights: Vec<f32>) -> Result<Tensor> {
        let (batch, channels, _, _) = self.activations.dims4()?;
        let weights = Tensor::from_vec(weights, (batch, channels, 1, 1), self.images.device())?;
        Ok(self.activations.broadcast_mul(&weights.to_dtype(self.activations.dtype())?)?)
    }

    /// Runs one forward pass of the whole network. The graph is cut at the layer, so no backward pass goes
    /// below it.
    pub(super) fn gather(
        model: &'a dyn Model,
        images: &'a Tensor,
        layer: Option<&str>,
        target: &'a Target,
    ) -> Result<Self> {
        let question = Question::new(model, images, target)?;
        let layer = layer_of(model, layer)?;
        let mut leaf = LeafAt::new(layer);
        let response = question.run(images, &mut leaf)?;
        let Some(output) = leaf.output()? else {
            return Err(unknown_layer(model, images, layer)?);
        };
        let (tokens, activations) = match (output.rank(), model.token_grid()) {
            (4, _) => (None, output.clone()),
            (3, Some(tokens)) => (Some(tokens), tokens.to_maps(&output, size_of(images)?)?),
            _ => {
                let shape = output.dims().to_vec();
                return Err(Error::NotSpatial { layer: layer.to_owned(), shape });
            }
        };
        Ok(Self {
            asked: question.ask(&response)?,
            layer: layer.to_owned(),
            question,
            images,
            activations,
            output,
            tokens,
            leaf,
            response,
            gradients: OnceCell::new(),
        })
    }

    /// The gradient of each image's score at the layer, in the shape of the activations. It is computed on the
    /// first call, so only methods that ask for it pay for the backward pass.
    ///
    /// In evaluation mode the images of a batch do not influence each other. So the gradient of the sum of the
    /// scores contains each image's own gradient.
    pub(super) fn gradients(&self) -> Result<&Tensor> {
        if let Some(gradients) = self.gradients.get() {
            return Ok(gradients);
        }
        let backward = self.asked.scores(&self.response)?.sum_all()?.backward()?;
        let gradients = self.leaf.gradient(&backward)?;
        let mut gradients =
            gradients.ok_or_else(|| Error::NoGradient { layer: self.layer.clone() })?;
        if let Some(tokens) = self.tokens {
            gradients = tokens.to_maps(&gradients, size_of(self.images)?)?;
        }
        Ok(self.gradients.get_or_init(|| gradients))
    }

    /// The layer's output for image `index`, in as many copies as `keep` has rows: each with its channels times the
    /// factors of a row.
    pub(super) fn with_channels_times(&self, index: usize, keep: &Tensor) -> Result<Tensor> {
        let output = self.output.narrow(0, index, 1)?;
        let keep = match self.tokens {
            None => keep.unsqueeze(2)?.unsqueeze(3)?,
            Some(_) => keep.unsqueeze(1)?,
        };
        Ok(output.broadcast_mul(&keep.to_dtype(output.dtype())?)?)
    }

    /// The score of each image, `batch` values.
    pub(super) fn scores(&self) -> Result<Vec<f64>> {
        let scores = self.asked.scores(&self.response)?.detach();
        Ok(scores.to_dtype(candle_core::DType::F64)?.to_vec1()?)
    }
}

/// `[height, width]`
fn size_of(images: &Tensor) -> Result<[usize; 2]> {
    let (_, _, height, width) = images.dims4()?;
    Ok([height, width])
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
