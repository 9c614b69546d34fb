//! Ablation-CAM (Desai and Ramaswamy 2020, <https://doi.org/10.1109/WACV45572.2020.9093360>).

use candle_core::Tensor;
use candle_vision_models::{LayerHook, Model};

use crate::cam::evidence::Evidence;
use crate::cam::maps_by;
use crate::{CamOptions, ClassActivationMap, Method, Result};

impl Method {
    /// Ablation-CAM (Desai and Ramaswamy 2020): what the score loses without a channel; slow.
    pub const ABLATION_CAM: Self = Self::cam(
        "ablationcam",
        "Ablation-CAM (Desai and Ramaswamy 2020): what the score loses without a channel; slow",
        ablation_cam,
    );
}

/// How many channels are switched off in one pass. Each is switched off in its own copy of the image.
const CHUNK: usize = 32;

/// Ablation-CAM of every image of a batch.
///
/// The weight of a channel is the score that is lost when the channel is switched off. The method needs no
/// gradient, but it runs the part of the network above the layer once for each channel.
///
/// The paper divides the lost score by the full score. Here this division is left out. Where the score is
/// positive, it only scales the map. Where the score is negative, it would turn evidence for the class into
/// evidence against it.
///
/// Shapes and errors are those of [`grad_cam`](crate::grad_cam).
///
/// # Example
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use candle_vision_explain::{CamOptions, ablation_cam};
/// use candle_vision_models::{ModelSpec, build};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let model = build(&ModelSpec::new("gap_cnn", 2), 0, &Device::Cpu)?;
/// let images = Tensor::ones((1, 3, 32, 32), DType::F32, &Device::Cpu)?;
/// let maps = ablation_cam(model.as_ref(), &images, &CamOptions::default())?;
/// assert_eq!(maps[0].map.len(), 32 * 32);
/// # Ok(())
/// # }
/// ```
pub fn ablation_cam(
    model: &dyn Model,
    images: &Tensor,
    options: &CamOptions,
) -> Result<Vec<ClassActivationMap>> {
    maps_by(model, images, options, |evidence| {
        let (batch, channels, _, _) = evidence.activations().dims4()?;
        let mut weights = Vec::with_capacity(batch * channels);
        for (index, whole) in evidence.scores()?.into_iter().enumerate() {
            let without = ablated_scores(evidence, index)?;
            weights.extend(without.into_iter().map(|score| (whole - score) as f32));
        }
        evidence.weighted(weights)
    })
}

/// A hook that replaces the feature maps of a layer by others. The batch size may differ.
struct Replaced<'a> {
    layer: &'a str,
    by: Tensor,
}

impl LayerHook for Replaced<'_> {
    fn wants(&self, layer: &str) -> bool {
        layer == self.layer
    }

    fn wants_input(&self, _: &str) -> bool {
        false
    }

    fn changes_batch(&self, layer: &str) -> bool {
        layer == self.layer
    }

    fn output(&mut self, layer: &str, output: Tensor) -> candle_core::Result<Tensor> {
        Ok(if layer == self.layer { self.by.clone() } else { output })
    }
}

/// The scores of one image, each with one channel switched off.
fn ablated_scores(evidence: &Evidence<'_>, index: usize) -> Result<Vec<f64>> {
    let image = evidence.images.narrow(0, index, 1)?;
    let channels = evidence.activations().dim(1)?;
    let mut scores = Vec::with_capacity(channels);
    for start in (0..channels).step_by(CHUNK) {
        let count = CHUNK.min(channels - start);
        let mut keep = vec![1f32; count * channels];
        for copy in 0..count {
            keep[copy * channels + start + copy] = 0.0;
        }
        let keep = Tensor::from_vec(keep, (count, channels), image.device())?;
        let ablated = evidence.with_channels_times(index, &keep)?;
        let mut hooks = Replaced { layer: evidence.layer(), by: ablated };
        // The part below the layer sees one image, the part above it many copies. If the layer lies inside a
        // block, the shortcut around it keeps the batch size of the image, and the two do not fit. Then the
        // whole network runs on copies.
        let response = match evidence.question.run_again(&image, &mut hooks) {
            Ok(response) => response,
            Err(_) => evidence.question.run_again(&image.repeat((count, 1, 1, 1))?, &mut hooks)?,
        };
        scores.extend(evidence.asked.variant_scores(index, &response)?);
    }
    Ok(scores)
}
