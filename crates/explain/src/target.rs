//! The question that a network is asked about an image, and how its answer becomes one number, the score.

use candle_core::backprop::GradStore;
use candle_core::{D, DType, Tensor};
use candle_vision_models::{
    EvalPasses, GradientHook, Hooks, LayerHook, Model, Pass, PreparedLayers, RecordShapes,
};
use candle_vision_ops::backward_from;

use crate::record::shown;
use crate::{Error, Result};

/// What an explanation gives reasons for.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub enum Target {
    /// The class with the largest logit, for each image.
    #[default]
    Predicted,
    /// The same class for every image, counted from 0.
    Class(usize),
    /// One class for each image, counted from 0.
    Classes(Vec<usize>),
    /// Why one class rather than another: the difference of their logits.
    Difference {
        /// The class whose logit counts positively.
        class: usize,
        /// The class whose logit counts negatively.
        other: usize,
    },
    /// What makes an image similar to another: the cosine between its [`embeddings`] row and this vector. The
    /// map carries the predicted class.
    Similarity(Vec<f32>),
}

impl Target {
    fn check(&self, model: &dyn Model, images: usize) -> Result<()> {
        let num_classes = model.spec().num_classes;
        let classes = match self {
            Self::Predicted | Self::Similarity(_) => &[],
            Self::Class(class) => std::slice::from_ref(class),
            Self::Classes(classes) if classes.len() != images => {
                return Err(Error::TargetCount { targets: classes.len(), images });
            }
            Self::Classes(classes) => classes.as_slice(),
            Self::Difference { class, other } => &[*class, *other],
        };
        match classes.iter().find(|class| **class >= num_classes) {
            Some(&class) => Err(Error::ClassOutOfRange { class, num_classes }),
            None => Ok(()),
        }
    }

    /// The weight of each logit in the score, `[batch, num_classes]`, for images of these classes.
    pub(crate) fn shares(
        &self,
        classes: impl ExactSizeIterator<Item = usize>,
        num_classes: usize,
    ) -> Vec<f32> {
        let mut shares = vec![0f32; classes.len() * num_classes];
        for (row, class) in shares.chunks_mut(num_classes).zip(classes) {
            row[class] += 1.0;
            if let Self::Difference { other, .. } = self {
                row[*other] -= 1.0;
            }
        }
        shares
    }

    /// The class of the score for the image at `index` of the batch.
    fn class(&self, index: usize, logits: &[f32]) -> usize {
        match self {
            Self::Class(class) | Self::Difference { class, .. } => *class,
            Self::Classes(classes) => classes[index],
            Self::Predicted | Self::Similarity(_) => (1..logits.len())
                .fold(0, |best, class| if logits[class] > logits[best] { class } else { best }),
        }
    }
}

/// The vectors in which images can be compared: the output of the last layer in front of the network's head,
/// flattened.
///
/// # Shapes
/// - `images`: `[batch, channels, height, width]`, preprocessed as in training
/// - returns `[batch, features]`
///
/// # Errors
/// If the network has no layer in front of its head, or the images do not fit it.
///
/// # Example
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use candle_vision_explain::{CamOptions, Target, embeddings, grad_cam};
/// use candle_vision_models::{ModelSpec, build};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let model = build(&ModelSpec::new("gap_cnn", 2), 0, &Device::Cpu)?;
/// let bee = Tensor::ones((1, 3, 32, 32), DType::F32, &Device::Cpu)?;
/// let like = embeddings(model.as_ref(), &bee)?.get(0)?.to_vec1()?;
/// let options = CamOptions { target: Target::Similarity(like), ..CamOptions::default() };
/// let what_is_alike = grad_cam(model.as_ref(), &bee, &options)?;
/// assert_eq!(what_is_alike.len(), 1);
/// # Ok(())
/// # }
/// ```
pub fn embeddings(model: &dyn Model, images: &Tensor) -> Result<Tensor> {
    let layer = embedding_layer(model, images)?;
    let mut seen = None;
    let mut hooks = Hooks::new();
    hooks.on_output(&layer, |_, output| {
        seen = Some(output.detach());
        Ok(None)
    });
    model.forward(images, &mut Pass::eval().with_hooks(&mut hooks))?;
    drop(hooks);
    let seen = seen.ok_or(Error::NoEmbedding)?;
    Ok(seen.flatten_from(1)?)
}

/// The path of the last layer in front of the head.
fn embedding_layer(model: &dyn Model, images: &Tensor) -> Result<String> {
    // Without a head, no layer is in front of it.
    if model.head().is_empty() {
        return Err(Error::NoEmbedding);
    }
    let mut layers = RecordShapes::default();
    model.forward(&images.narrow(0, 0, 1)?, &mut Pass::eval().with_hooks(&mut layers))?;
    let before = layers.shapes.into_iter().map(|(path, _)| path);
    before.take_while(|path| path != model.head()).last().ok_or(Error::NoEmbedding)
}

/// The class in question for one image, and its probability.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Answer {
    pub(crate) class: usize,
    pub(crate) probability: f64,
}

/// A question to a network.
pub(crate) struct Question<'a> {
    pub(crate) model: &'a dyn Model,
    target: &'a Target,
    embedding_layer: Option<String>,
    prepared: PreparedLayers,
    passes: EvalPasses<&'a dyn Model>,
}

/// The results of one pass that a score may depend on.
pub(crate) struct Response {
    pub(crate) logits: Tensor,
    embedding: Option<Tensor>,
}

impl<'a> Question<'a> {
    pub(crate) fn new(model: &'a dyn Model, images: &Tensor, target: &'a Target) -> Result<Self> {
        check_images(images)?;
        target.check(model, images.dim(0)?)?;
        let embedding_layer = match target {
            Target::Similarity(_) => Some(embedding_layer(model, images)?),
            _ => None,
        };
        let (prepared, passes) = (PreparedLayers::new(), EvalPasses::new(model));
        Ok(Self { model, target, embedding_layer, prepared, passes })
    }

    /// Runs one pass of the whole network in evaluation mode.
    pub(crate) fn run(&self, images: &Tensor, hook: &mut dyn LayerHook) -> Result<Response> {
        self.pass(images, Pass::eval(), hook)
    }

    /// Runs one of many passes without gradients. All of them share what the layers prepare in the first.
    pub(crate) fn run_again(&self, images: &Tensor, hook: &mut dyn LayerHook) -> Result<Response> {
        self.pass(images, Pass::eval().with_prepared(&self.prepared), hook)
    }

    /// Runs one of many passes without gradients and hooks.
    pub(crate) fn run_unhooked(&self, images: &Tensor) -> Result<Response> {
        if self.embedding_layer.is_some() {
            return self.run_again(images, &mut Hooks::new());
        }
        let logits = self.passes.forward(images);
        let logits = logits.map_err(|error| too_small(self.model, images, error))?;
        Ok(Response { logits, embedding: None })
    }

    fn pass(&self, images: &Tensor, pass: Pass<'_>, hook: &mut dyn LayerHook) -> Result<Response> {
        let mut watch = Watch { hook, layer: self.embedding_layer.as_deref(), seen: None };
        let logits = self.model.forward(images, &mut pass.with_hooks(&mut watch));
        let logits = logits.map_err(|error| too_small(self.model, images, error))?;
        Ok(Response { logits, embedding: watch.seen })
    }

    /// Fixes the class and the score of each image from the network's answer.
    pub(crate) fn ask(&self, response: &Response) -> Result<Asked> {
        let answers = self.answers(&response.logits)?;
        let objective = self.objective(&answers, response)?;
        Ok(Asked { answers, objective })
    }

    /// The class of each image and its probability.
    pub(crate) fn answers(&self, logits: &Tensor) -> Result<Vec<Answer>> {
        let rows = logits.detach().to_dtype(DType::F32)?.to_vec2::<f32>()?;
        let answer = |(index, row): (usize, &Vec<f32>)| {
            if row.iter().any(|logit| !logit.is_finite()) {
                return Err(Error::NotFinite { index });
            }
            let class = self.target.class(index, row);
            Ok(Answer { class, probability: self.model.spec().probability(row, class) })
        };
        rows.iter().enumerate().map(answer).collect()
    }

    fn objective(&self, answers: &[Answer], response: &Response) -> Result<Objective> {
        let (logits, device) = (&response.logits, response.logits.device());
        if let (Target::Similarity(vector), Some(seen)) = (self.target, &response.embedding) {
            let features = seen.flatten_from(1)?.dim(1)?;
            let norm = vector.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
            if vector.len() != features || !norm.is_normal() {
                return Err(Error::Embedding { found: vector.len(), features });
            }
            let unit: Vec<f32> = vector.iter().map(|x| (f64::from(*x) / norm) as f32).collect();
            return Ok(Objective::Similarity(Tensor::from_vec(unit, (1, features), device)?));
        }
        let num_classes = logits.dim(D::Minus1)?;
        let shares = self.target.shares(answers.iter().map(|answer| answer.class), num_classes);
        let shares = Tensor::from_vec(shares, (answers.len(), num_classes), device)?;
        Ok(Objective::Logits(shares.to_dtype(logits.dtype())?))
    }
}

/// The class and the score in question for each image of a batch.
pub(crate) struct Asked {
    pub(crate) answers: Vec<Answer>,
    objective: Objective,
}

enum Objective {
    /// The weight of each logit in the score, `[batch, num_classes]`.
    Logits(Tensor),
    /// The vector to compare with, `[1, features]`, of length 1.
    Similarity(Tensor),
}

impl Asked {
    /// The score of each image of the batch in question, `[batch]`.
    pub(crate) fn scores(&self, response: &Response) -> Result<Tensor> {
        match &self.objective {
            Objective::Logits(shares) => Ok((&response.logits * shares)?.sum(D::Minus1)?),
            Objective::Similarity(unit) => similarity(response, unit),
        }
    }

    /// The gradients of the sum of the scores. In evaluation mode the images of a batch do not influence each other. So
    /// this sum's gradient contains each image's own.
    pub(crate) fn gradients(&self, response: &Response) -> Result<GradStore> {
        match &self.objective {
            Objective::Logits(shares) => Ok(backward_from(&response.logits, shares)?),
            Objective::Similarity(_) => Ok(self.scores(response)?.sum_all()?.backward()?),
        }
    }

    /// The scores of a batch in which all images are variants of the image at `index`.
    pub(crate) fn variant_scores(&self, index: usize, response: &Response) -> Result<Vec<f64>> {
        let scores = match &self.objective {
            Objective::Logits(shares) => {
                let shares = shares.narrow(0, index, 1)?;
                response.logits.broadcast_mul(&shares)?.sum(D::Minus1)?
            }
            Objective::Similarity(unit) => similarity(response, unit)?,
        };
        Ok(scores.to_dtype(DType::F64)?.to_vec1()?)
    }
}

fn similarity(response: &Response, unit: &Tensor) -> Result<Tensor> {
    let seen = response.embedding.as_ref().ok_or(Error::NoEmbedding)?.flatten_from(1)?;
    // A vector of zeros is similar to nothing. The small constant prevents a division by 0.
    let length = (seen.sqr()?.sum(1)? + 1e-12)?.sqrt()?;
    Ok((seen.broadcast_mul(unit)?.sum(1)? / length)?)
}

/// A hook that keeps the output of one layer and passes everything on to another hook.
struct Watch<'t> {
    hook: &'t mut dyn LayerHook,
    layer: Option<&'t str>,
    seen: Option<Tensor>,
}

impl LayerHook for Watch<'_> {
    fn wants(&self, layer: &str) -> bool {
        self.layer == Some(layer) || self.hook.wants(layer)
    }

    fn output(&mut self, layer: &str, output: Tensor) -> candle_core::Result<Tensor> {
        if self.hook.wants(layer) { self.hook.output(layer, output) } else { Ok(output) }
    }

    fn stored_output(&mut self, layer: &str, stored: Tensor) -> candle_core::Result<Tensor> {
        let stored =
            if self.hook.wants(layer) { self.hook.stored_output(layer, stored)? } else { stored };
        if self.layer == Some(layer) {
            self.seen = Some(shown(&stored)?);
        }
        Ok(stored)
    }

    fn input(&mut self, layer: &str, input: Tensor) -> candle_core::Result<Tensor> {
        if self.hook.wants(layer) { self.hook.input(layer, input) } else { Ok(input) }
    }

    fn wants_input(&self, layer: &str) -> bool {
        self.hook.wants(layer) && self.hook.wants_input(layer)
    }

    fn changes_batch(&self, layer: &str) -> bool {
        self.hook.changes_batch(layer)
    }

    fn gradient_hook(&mut self, layer: &str) -> Option<GradientHook> {
        if self.hook.wants(layer) { self.hook.gradient_hook(layer) } else { None }
    }
}

fn check_images(images: &Tensor) -> Result<()> {
    match *images.dims() {
        [batch, channels, height, width] if batch * channels * height * width > 0 => Ok(()),
        _ => Err(Error::ImageShape { shape: images.dims().to_vec() }),
    }
}

/// The error of a network whose images are too small. Pooling only reports that its window does not fit.
fn too_small(model: &dyn Model, images: &Tensor, source: candle_core::Error) -> Error {
    let spec = model.spec();
    let [_, height, width] = spec.input;
    match *images.dims() {
        [_, _, h, w] if h < height || w < width => Error::TooSmall {
            architecture: spec.architecture.clone(),
            found: [h, w],
            wanted: [height, width],
            source: Box::new(source),
        },
        _ => Error::Tensor(source),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn predicted_is_the_first_of_the_largest() {
        let logits = [0.0, 2.0, 1.0, 2.0];
        assert_eq!(Target::Predicted.class(0, &logits), 1);
        assert_eq!(Target::Class(3).class(0, &logits), 3);
        assert_eq!(Target::Classes(vec![0, 2]).class(1, &logits), 2);
    }
}
