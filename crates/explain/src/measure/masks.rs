//! Measures against a mask of the subject.

use super::perturbed::check_size;
use crate::{ClassActivationMap, Result};

/// The pointing game (Zhang et al. 2016, <https://arxiv.org/abs/1608.00507>): whether the hottest
/// pixel lies on the subject. Exactly there: the paper's tolerance of 15 pixels is left out. A map
/// that is nowhere positive points nowhere.
///
/// `mask` holds `height * width` values, row by row, true on the subject.
///
/// # Errors
/// If the mask has another size than the map.
///
/// # Example
/// ```
/// use candle_vision_explain::{ClassActivationMap, measure};
///
/// let map = ClassActivationMap {
///     map: vec![0.0, 1.0, 0.25, 0.25],
///     height: 2,
///     width: 2,
///     class: 0,
///     probability: 0.9,
///     positive: true,
///     layer: "layer4".into(),
/// };
/// assert!(measure::pointing_game(&map, &[false, true, false, true])?);
/// assert_eq!(measure::energy_in_mask(&map, &[false, false, true, true])?, 1.0 / 3.0);
/// # Ok::<(), candle_vision_explain::Error>(())
/// ```
pub fn pointing_game(map: &ClassActivationMap, mask: &[bool]) -> Result<bool> {
    check_size(map, mask.len())?;
    let hottest =
        (1..mask.len()).fold(0, |best, i| if map.map[i] > map.map[best] { i } else { best });
    Ok(map.positive && mask[hottest])
}

/// The share of the map's sum that lies on the subject, in `0.0..=1.0` (the energy-based pointing
/// game of Wang et al. 2020, <https://arxiv.org/abs/1910.01279>); 0 for a map that is nowhere
/// positive. A map without a clue scores the subject's share of the picture.
///
/// `mask` holds `height * width` values, row by row, true on the subject.
///
/// # Errors
/// If the mask has another size than the map.
pub fn energy_in_mask(map: &ClassActivationMap, mask: &[bool]) -> Result<f64> {
    check_size(map, mask.len())?;
    let total: f64 = map.map.iter().map(|value| f64::from(*value)).sum();
    let inside = map.map.iter().zip(mask).filter(|(_, inside)| **inside);
    let inside: f64 = inside.map(|(value, _)| f64::from(*value)).sum();
    Ok(if total > 0.0 { inside / total } else { 0.0 })
}
