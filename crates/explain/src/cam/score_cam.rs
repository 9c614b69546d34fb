//! Score-CAM (Wang et al. 2020, <https://arxiv.org/abs/1910.01279>).

use candle_core::Tensor;
use candle_vision_models::Model;

use crate::cam::evidence::Evidence;
use crate::cam::maps_by;
use crate::scale::enlarged;
use crate::{CamOptions, ClassActivationMap, Method, Result};

impl Method {
    /// Score-CAM (Wang et al. 2020): the score of the image under each channel as a mask; slow.
    pub const SCORE_CAM: Self = Self::cam(
        "scorecam",
        "Score-CAM (Wang et al. 2020): the score of the image under each channel as a mask; slow",
        score_cam,
    );
}

/// How many masked images go through the network in one pass.
const CHUNK: usize = 16;

/// Score-CAM of every image of a batch.
///
/// Each channel serves as a mask that keeps only the parts of the image that the channel responds to. The
/// weight of the channel comes from the score of the masked image. The method needs no gradient, but one
/// forward pass for each channel.
///
/// As in pytorch-grad-cam, the weights are the softmax of the scores over the channels. The paper's black
/// baseline is left out, because a softmax cancels it.
///
/// Shapes and errors are those of [`grad_cam`](crate::grad_cam).
///
/// # Example
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use candle_vision_explain::{CamOptions, score_cam};
/// use candle_vision_models::{ModelSpec, build};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let model = build(&ModelSpec::new("gap_cnn", 2), 0, &Device::Cpu)?;
/// let images = Tensor::ones((1, 3, 32, 32), DType::F32, &Device::Cpu)?;
/// let maps = score_cam(model.as_ref(), &images, &CamOptions::default())?;
/// assert_eq!(maps[0].map.len(), 32 * 32);
/// # Ok(())
/// # }
/// ```
pub fn score_cam(
    model: &dyn Model,
    images: &Tensor,
    options: &CamOptions,
) -> Result<Vec<ClassActivationMap>> {
    maps_by(model, images, options, |evidence| {
        let (batch, channels, _, _) = evidence.activations().dims4()?;
        let mut weights = Vec::with_capacity(batch * channels);
        for index in 0..batch {
            weights.extend(softmax(&masked_scores(evidence, index)?));
        }
        evidence.weighted(weights)
    })
}

/// The scores of one image under the masks of all channels.
fn masked_scores(evidence: &Evidence<'_>, index: usize) -> Result<Vec<f64>> {
    let image = evidence.images.get(index)?;
    let (_, height, width) = image.dims3()?;
    let channels = evidence.activations().get(index)?;
    let count = channels.dim(0)?;
    let mut scores = Vec::with_capacity(count);
    for start in (0..count).step_by(CHUNK) {
        let some = channels.narrow(0, start, CHUNK.min(count - start))?;
        let masks = between_0_and_1(&enlarged(&some, [height, width])?)?;
        let masked = image.unsqueeze(0)?.broadcast_mul(&masks.unsqueeze(1)?)?;
        let response = evidence.question.run_unhooked(&masked)?;
        scores.extend(evidence.asked.variant_scores(index, &response)?);
    }
    Ok(scores)
}

/// Stretches each map of `[channels, height, width]` so that its smallest value becomes 0 and its largest 1. A
/// constant map becomes 0.
fn between_0_and_1(maps: &Tensor) -> Result<Tensor> {
    let flat = maps.flatten_from(1)?;
    let smallest = flat.min_keepdim(1)?;
    let range = ((flat.max_keepdim(1)? - &smallest)? + 1e-8)?;
    Ok(flat.broadcast_sub(&smallest)?.broadcast_div(&range)?.reshape(maps.shape())?)
}

fn softmax(scores: &[f64]) -> Vec<f32> {
    let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let powers: Vec<f64> = scores.iter().map(|score| (score - largest).exp()).collect();
    let total: f64 = powers.iter().sum();
    powers.iter().map(|power| (power / total) as f32).collect()
}
