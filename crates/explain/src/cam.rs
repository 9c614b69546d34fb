//! Class activation maps: what is asked, what is answered, and what all methods share.
//!
//! A method gets the output of one layer and the gradient of the class score there, and says how
//! they become one map a picture; everything before and after that is here.

use candle_core::{D, DType, Tensor};
use candle_vision_models::{Model, Pass, RecordShapes, nearest_names};

use crate::scale::to_input_size;
use crate::{Error, LeafAt, Result};

/// Which layer and which class a map is about.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CamOptions {
    /// The path of the layer to look at; by default the one that the network names
    /// ([`Model::cam_layer`]).
    pub layer: Option<String>,
    /// The class whose reasons are asked for.
    pub target: Target,
}

/// The class whose reasons are asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Target {
    /// Of each picture the class with the largest logit.
    #[default]
    Predicted,
    /// The same class for every picture, counted from 0.
    Class(usize),
}

impl Target {
    fn class(self, logits: &[f32]) -> usize {
        match self {
            Self::Class(class) => class,
            Self::Predicted => (1..logits.len())
                .fold(0, |best, class| if logits[class] > logits[best] { class } else { best }),
        }
    }
}

/// Which places of a picture speak for a class.
#[derive(Debug, Clone, PartialEq)]
pub struct ClassActivationMap {
    /// Row by row, `height * width` values in `0.0..=1.0`; 1 speaks for the class most.
    pub map: Vec<f32>,
    /// Height of the network's input, in pixels.
    pub height: usize,
    /// Width of the network's input, in pixels.
    pub width: usize,
    /// The class that the map is about.
    pub class: usize,
    /// The probability that the network gives to this class.
    pub probability: f64,
    /// Whether any place speaks for the class. If not, the map is 0 everywhere, and that is the
    /// answer.
    pub positive: bool,
    /// The path of the layer that was looked at.
    pub layer: String,
}

/// What a class activation map is made from, for a batch of pictures.
pub(crate) struct Evidence {
    /// The output of the layer, `[batch, channels, height, width]`.
    pub(crate) activations: Tensor,
    /// The gradient of each picture's class score there, in the same shape.
    pub(crate) gradients: Tensor,
    layer: String,
    size: [usize; 2],
    answers: Vec<Answer>,
}

/// The class that one picture is asked about.
struct Answer {
    class: usize,
    probability: f64,
}

impl Evidence {
    /// One forward pass of the whole network, one backward pass of the part above the layer.
    pub(crate) fn gather(model: &dyn Model, images: &Tensor, options: &CamOptions) -> Result<Self> {
        let size = picture_size(images)?;
        let layer = layer_of(model, options)?;
        check_class(model, options.target)?;
        let mut leaf = LeafAt::new(layer);
        let logits = model.forward(images, &mut Pass::eval().with_tap(&mut leaf))?;
        let Some(activations) = leaf.output()? else {
            return Err(unknown_layer(model, images, layer)?);
        };
        if activations.rank() != 4 {
            let shape = activations.dims().to_vec();
            return Err(Error::NotSpatial { layer: layer.to_owned(), shape });
        }
        let answers = answers(&logits, options.target)?;
        let gradients = leaf.gradient(&score(&logits, &answers)?.backward()?)?;
        let gradients = gradients.ok_or_else(|| Error::NoGradient { layer: layer.to_owned() })?;
        Ok(Self { activations, gradients, layer: layer.to_owned(), size, answers })
    }

    /// The answers from one coarse map a picture, `[batch, height, width]`: negative evidence is
    /// dropped, the rest scaled to the input.
    pub(crate) fn into_maps(self, coarse: &Tensor) -> Result<Vec<ClassActivationMap>> {
        let (_, height, width) = coarse.dims3()?;
        let coarse = coarse.relu()?.to_dtype(DType::F32)?.flatten_from(1)?.to_vec2::<f32>()?;
        let [input_height, input_width] = self.size;
        let map = |(coarse, answer): (Vec<f32>, Answer)| ClassActivationMap {
            map: to_input_size(&coarse, [height, width], self.size),
            height: input_height,
            width: input_width,
            class: answer.class,
            probability: answer.probability,
            positive: coarse.iter().any(|value| *value > 0.0),
            layer: self.layer.clone(),
        };
        Ok(coarse.into_iter().zip(self.answers).map(map).collect())
    }
}

fn picture_size(images: &Tensor) -> Result<[usize; 2]> {
    match *images.dims() {
        [batch, channels, height, width] if batch * channels * height * width > 0 => {
            Ok([height, width])
        }
        _ => Err(Error::ImageShape { shape: images.dims().to_vec() }),
    }
}

fn layer_of<'a>(model: &dyn Model, options: &'a CamOptions) -> Result<&'a str> {
    match &options.layer {
        Some(layer) => Ok(layer),
        None => model.cam_layer().ok_or_else(|| Error::NoSpatialMaps {
            architecture: model.spec().architecture.clone(),
        }),
    }
}

fn check_class(model: &dyn Model, target: Target) -> Result<()> {
    let num_classes = model.spec().num_classes;
    match target {
        Target::Class(class) if class >= num_classes => {
            Err(Error::ClassOutOfRange { class, num_classes })
        }
        _ => Ok(()),
    }
}

fn answers(logits: &Tensor, target: Target) -> Result<Vec<Answer>> {
    let rows = logits.detach().to_dtype(DType::F32)?.to_vec2::<f32>()?;
    let answer = |(index, row): (usize, &Vec<f32>)| {
        if row.iter().any(|logit| !logit.is_finite()) {
            return Err(Error::NotFinite { index });
        }
        let class = target.class(row);
        Ok(Answer { class, probability: softmax_at(row, class) })
    };
    rows.iter().enumerate().map(answer).collect()
}

/// The softmax of one element. Subtracting it first keeps every exponential of a likely class
/// finite; of an unlikely one the sum may reach infinity, and the probability is rightly 0.
fn softmax_at(logits: &[f32], class: usize) -> f64 {
    let own = f64::from(logits[class]);
    1.0 / logits.iter().map(|logit| (f64::from(*logit) - own).exp()).sum::<f64>()
}

/// The sum over the batch of each picture's class score. Pictures do not meet in an evaluation
/// pass, so its gradient holds each picture's own.
fn score(logits: &Tensor, answers: &[Answer]) -> Result<Tensor> {
    let num_classes = logits.dim(D::Minus1)?;
    let mut chosen = vec![0f32; answers.len() * num_classes];
    for (index, answer) in answers.iter().enumerate() {
        chosen[index * num_classes + answer.class] = 1.0;
    }
    let chosen = Tensor::from_vec(chosen, (answers.len(), num_classes), logits.device())?;
    Ok((logits * chosen.to_dtype(logits.dtype())?)?.sum_all()?)
}

/// The error for a layer that did not show up, with the names that it was meant to be.
fn unknown_layer(model: &dyn Model, images: &Tensor, layer: &str) -> Result<Error> {
    let mut layers = RecordShapes::default();
    model.forward(&images.narrow(0, 0, 1)?, &mut Pass::eval().with_tap(&mut layers))?;
    let paths = layers.shapes.iter().map(|(path, _)| path.as_str());
    let near = nearest_names(layer, paths, 3).into_iter().map(str::to_owned).collect();
    Ok(Error::UnknownLayer { layer: layer.to_owned(), near })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn predicted_is_the_first_of_the_largest() {
        assert_eq!(Target::Predicted.class(&[0.0, 2.0, 1.0, 2.0]), 1);
        assert_eq!(Target::Class(3).class(&[0.0, 2.0, 1.0, 2.0]), 3);
    }

    #[test]
    fn softmax_survives_large_logits() {
        assert!((softmax_at(&[1.0, 1.0], 0) - 0.5).abs() < 1e-12);
        assert_eq!(softmax_at(&[3000.0, 0.0], 0), 1.0);
        assert_eq!(softmax_at(&[3000.0, 0.0], 1), 0.0);
    }
}
