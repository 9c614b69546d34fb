//! Remove and debias, ROAD (Rong et al. 2022, <https://arxiv.org/abs/2202.00449>).

use candle_core::Tensor;
use candle_vision_models::Model;
use candle_vision_ops::Generator;
use rand::SeedableRng;

use super::imputation::fill;
use super::perturbed::Perturbed;
use crate::{ClassActivationMap, Result};

/// The fractions of the pixels that are removed.
const SHARES: [f64; 5] = [0.1, 0.3, 0.5, 0.7, 0.9];

/// The mean probability of the class after pixels were removed in either order.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Road {
    /// The mean probability when the hottest pixels are removed, in `0.0..=1.0`; lower is better.
    pub most_relevant_first: f64,
    /// The mean probability when the coldest pixels are removed, in `0.0..=1.0`; higher is better.
    pub least_relevant_first: f64,
}

impl Road {
    /// Half the difference of the two, in `-0.5..=0.5`: 0 for a map that knows nothing, at best 0.5.
    pub fn score(&self) -> f64 {
        (self.least_relevant_first - self.most_relevant_first) / 2.0
    }
}

/// Removes 10, 30, 50, 70 and 90 % of the pixels, once the hottest first and once the coldest first. The holes
/// are filled from their neighbours. Unlike black pixels, filled holes do not show their shape to the network.
///
/// As in the paper, nothing is retrained. The paper's score is the accuracy over a data set; here it is the
/// probability of one image's class.
///
/// # Shapes
/// - `image`: `[1, channels, height, width]`, of the map's size
///
/// # Errors
/// If the sizes do not fit, or the network cannot take the image.
///
/// # Example
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use candle_vision_explain::{CamOptions, grad_cam, faithfulness};
/// use candle_vision_models::{ModelSpec, build};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let model = build(&ModelSpec::new("gap_cnn", 2), 0, &Device::Cpu)?;
/// let image = Tensor::ones((1, 3, 16, 16), DType::F32, &Device::Cpu)?;
/// let map = &grad_cam(model.as_ref(), &image, &CamOptions::default())?[0];
/// let road = faithfulness::road(model.as_ref(), &image, map)?;
/// // Nothing can be missed in an image of one colour.
/// assert!(road.score().abs() < 0.05);
/// # Ok(())
/// # }
/// ```
pub fn road(model: &dyn Model, image: &Tensor, map: &ClassActivationMap) -> Result<Road> {
    let image = Perturbed::new(model, image, map)?;
    let coldest: Vec<usize> = image.order.iter().rev().copied().collect();
    Ok(Road {
        most_relevant_first: mean_without(&image, &image.order)?,
        least_relevant_first: mean_without(&image, &coldest)?,
    })
}

/// The mean probability of the class without the first pixels of `order`, over all fractions of [`SHARES`].
fn mean_without(image: &Perturbed<'_>, order: &[usize]) -> Result<f64> {
    // A fixed seed gives every map of an image the same noise.
    let mut generator = Generator::seed_from_u64(0);
    let images: Vec<Vec<f32>> = SHARES
        .iter()
        .map(|share| {
            let count = (share * order.len() as f64).round() as usize;
            let mut values = image.values.clone();
            for channel in values.chunks_mut(image.pixels()) {
                fill(channel, image.width, &order[..count], &mut generator);
            }
            values
        })
        .collect();
    let probabilities = image.probabilities(&images)?;
    Ok(probabilities.iter().sum::<f64>() / probabilities.len() as f64)
}
