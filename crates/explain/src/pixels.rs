//! Attributions of the input's own pixels: the part that all methods share.

mod full_grad;
mod gradient;
mod guided_backprop;
mod integrated_gradients;
mod occlusion;
mod smooth_grad;

pub use full_grad::full_grad;
pub use gradient::{input_x_gradient, saliency};
pub use guided_backprop::guided_backprop;
pub use integrated_gradients::{IntegratedGradients, integrated_gradients};
pub use occlusion::{Occlusion, occlusion};
pub use smooth_grad::{SmoothGrad, smooth_grad};

use candle_core::{DType, Tensor, Var};
use candle_vision_models::{Hooks, LayerHook, Model};

use crate::map::{PIXELS, from_coarse};
use crate::target::{Answer, Asked, Question};
use crate::{ClassActivationMap, Error, Result, Target};

/// What each value of each image adds to the score, according to one method.
#[derive(Debug, Clone)]
pub struct Attributions {
    /// The attributions, `[batch, channels, height, width]` as the images. Those of [`occlusion`] have one
    /// channel.
    pub values: Tensor,
    answers: Vec<Answer>,
    /// Whether the sign has a meaning: values below 0 speak against the class. If not, only the absolute value
    /// counts.
    signed: bool,
}

impl Attributions {
    /// One map for each image, with values in `0.0..=1.0`.
    ///
    /// Where the sign of a value says for or against, the map holds the sum over the channels, and negative
    /// sums become 0. For plain gradients it holds the largest absolute value of the channels, as in the
    /// saliency paper.
    ///
    /// The strongest hundredth of the pixels count as equal. Otherwise a single pixel could leave all others
    /// dark (SmoothGrad's paper, section 3.1).
    ///
    /// # Errors
    /// If a value is not finite.
    pub fn maps(&self) -> Result<Vec<ClassActivationMap>> {
        let values = self.values.to_dtype(DType::F32)?;
        let flat = if self.signed { values.sum(1)?.relu()? } else { values.abs()?.max(1)? };
        let (_, height, width) = flat.dims3()?;
        let rows = flat.flatten_from(1)?.to_vec2::<f32>()?;
        let capped: Vec<f32> = rows.into_iter().flat_map(without_outliers).collect();
        let capped = Tensor::from_vec(capped, flat.shape(), &candle_core::Device::Cpu)?;
        from_coarse(&capped, &self.answers, [height, width], PIXELS)
    }
}

/// Caps values at their 99th percentile, unless the percentile is 0.
fn without_outliers(mut values: Vec<f32>) -> Vec<f32> {
    let mut sorted = values.clone();
    sorted.sort_by(f32::total_cmp);
    let cap = sorted[(sorted.len() - 1) * 99 / 100];
    if cap > 0.0 {
        values.iter_mut().for_each(|value| *value = value.min(cap));
    }
    values
}

/// A question about images, with the network's answer for the unchanged images.
struct Inquiry<'a> {
    question: Question<'a>,
    asked: Asked,
    images: &'a Tensor,
}

impl<'a> Inquiry<'a> {
    fn new(model: &'a dyn Model, images: &'a Tensor, target: &'a Target) -> Result<Self> {
        let question = Question::new(model, images, target)?;
        let asked = question.ask(&question.run(images, &mut Hooks::new())?)?;
        Ok(Self { question, asked, images })
    }

    /// The gradient of each image's score at `points`. `points` has the shape of the images.
    fn gradient_at(&self, points: &Tensor, hook: &mut dyn LayerHook) -> Result<Tensor> {
        let points = Var::from_tensor(&points.contiguous()?)?;
        let response = self.question.run(&points, hook)?;
        let mut gradients = self.asked.gradients(&response)?;
        gradients.remove(&points).ok_or_else(|| Error::NoGradient { layer: PIXELS.to_owned() })
    }

    fn attributions(self, values: Tensor, signed: bool) -> Attributions {
        Attributions { values, answers: self.asked.answers, signed }
    }
}
