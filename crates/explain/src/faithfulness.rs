//! Faithfulness metrics: how good a map is. Some need no ground truth, some need a mask of the subject, and a
//! random map serves as the baseline.

mod curves;
mod imputation;
mod masks;
mod perturbed;
mod random_map;
mod randomisation;
mod road;

pub use curves::{Curve, deletion, insertion};
pub use masks::{POINTING_MARGIN, energy_in_mask, pointing_game, with_margin};
pub use random_map::random_map;
pub use randomisation::{Randomised, rank_correlation, weight_randomisation};
pub use road::{Road, road};

use candle_core::Tensor;
use candle_vision_models::Model;

use crate::{ClassActivationMap, Result};

/// The number of steps of the deletion and insertion curves in a [`score`].
const STEPS: usize = 20;

/// The faithfulness metrics of one map.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Score {
    /// Area under the [`deletion`] curve, in `0.0..=1.0`; lower is better.
    pub deletion: f64,
    /// Area under the [`insertion`] curve, in `0.0..=1.0`; higher is better.
    pub insertion: f64,
    /// [`Road::score`], in `-0.5..=0.5`; higher is better.
    pub road: f64,
    /// Whether the peak of the map lies in the mask. `None` without a mask.
    pub pointing: Option<bool>,
    /// Whether the peak lies in the mask or its margin ([`POINTING_MARGIN`]). `None` without a mask.
    pub pointing_near: Option<bool>,
    /// The share of the map's sum that lies in the mask, in `0.0..=1.0`. `None` without a mask.
    pub energy: Option<f64>,
}

/// Computes every metric of this module except weight randomisation, for the map of one image. To judge the
/// numbers, score a [`random_map`] as well.
///
/// # Shapes
/// - `image`: `[1, channels, height, width]`, preprocessed as in training, of the map's size
/// - `mask`: `height * width` values, row by row, true on the subject
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
/// let score = faithfulness::score(model.as_ref(), &image, map, None)?;
/// assert!((0.0..=1.0).contains(&score.deletion));
/// assert_eq!(score.pointing, None);
/// # Ok(())
/// # }
/// ```
pub fn score(
    model: &dyn Model,
    image: &Tensor,
    map: &ClassActivationMap,
    mask: Option<&[bool]>,
) -> Result<Score> {
    Ok(Score {
        deletion: deletion(model, image, map, STEPS)?.area(),
        insertion: insertion(model, image, map, STEPS)?.area(),
        road: road(model, image, map)?.score(),
        pointing: mask.map(|mask| pointing_game(map, mask)).transpose()?,
        pointing_near: mask.map(|mask| pointing_game(map, &near(map, mask)?)).transpose()?,
        energy: mask.map(|mask| energy_in_mask(map, mask)).transpose()?,
    })
}

/// The mask enlarged by the margin of the pointing game.
fn near(map: &ClassActivationMap, mask: &[bool]) -> Result<Vec<bool>> {
    with_margin(mask, map.width, POINTING_MARGIN * map.height.max(map.width) as f64)
}
