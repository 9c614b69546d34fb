//! Metrics that compare a map with a mask of the subject.

use super::perturbed::check_size;
use crate::{ClassActivationMap, Error, Result};

/// The pointing game (Zhang et al. 2016, <https://arxiv.org/abs/1608.00507>): whether the hottest pixel of the
/// map lies on the subject. The answer is false for a map without positive values.
///
/// The test has no tolerance. For the paper's margin, enlarge the mask by [`with_margin`].
///
/// `mask` holds `height * width` values, row by row, true on the subject.
///
/// # Errors
/// If the size of the mask differs from that of the map.
///
/// # Example
/// ```
/// use candle_vision_explain::{ClassActivationMap, faithfulness};
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
/// assert!(faithfulness::pointing_game(&map, &[false, true, false, true])?);
/// assert_eq!(faithfulness::energy_in_mask(&map, &[false, false, true, true])?, 1.0 / 3.0);
/// # Ok::<(), candle_vision_explain::Error>(())
/// ```
pub fn pointing_game(map: &ClassActivationMap, mask: &[bool]) -> Result<bool> {
    check_size(map, mask.len())?;
    let hottest =
        (1..mask.len()).fold(0, |best, i| if map.map[i] > map.map[best] { i } else { best });
    Ok(map.positive && mask[hottest])
}

/// The paper's margin around a subject, as a fraction of the image's longer side: 15 pixels of 500.
pub const POINTING_MARGIN: f64 = 0.03;

/// Enlarges a mask: a pixel is true if the subject is at most `margin` pixels away.
///
/// # Errors
/// If the mask does not consist of rows of `width` values.
///
/// # Example
/// ```
/// use candle_vision_explain::faithfulness::with_margin;
///
/// let mask = [true, false, false, false];
/// assert_eq!(with_margin(&mask, 4, 1.0)?, [true, true, false, false]);
/// assert_eq!(with_margin(&mask, 2, 1.0)?, [true, true, true, false]);
/// # Ok::<(), candle_vision_explain::Error>(())
/// ```
pub fn with_margin(mask: &[bool], width: usize, margin: f64) -> Result<Vec<bool>> {
    if width == 0 || !mask.len().is_multiple_of(width) {
        let found = width.to_string();
        return Err(Error::Setting { setting: "width", range: "that of the mask's rows", found });
    }
    let height = mask.len() / width;
    let reach = margin.max(0.0) as usize;
    let mut grown = mask.to_vec();
    for (pixel, _) in mask.iter().enumerate().filter(|(_, inside)| **inside) {
        let (row, column) = (pixel / width, pixel % width);
        for y in row.saturating_sub(reach)..(row + reach + 1).min(height) {
            for x in column.saturating_sub(reach)..(column + reach + 1).min(width) {
                let distance = (y.abs_diff(row) as f64).hypot(x.abs_diff(column) as f64);
                grown[y * width + x] |= distance <= margin;
            }
        }
    }
    Ok(grown)
}

/// The share of the map's sum that lies on the subject, in `0.0..=1.0`. This is the energy-based pointing game
/// of Wang et al. 2020, <https://arxiv.org/abs/1910.01279>.
///
/// The share is 0 for a map without positive values. A map that knows nothing scores the fraction of the image
/// that the subject covers.
///
/// `mask` holds `height * width` values, row by row, true on the subject.
///
/// # Errors
/// If the size of the mask differs from that of the map.
pub fn energy_in_mask(map: &ClassActivationMap, mask: &[bool]) -> Result<f64> {
    check_size(map, mask.len())?;
    let total: f64 = map.map.iter().map(|value| f64::from(*value)).sum();
    let inside = map.map.iter().zip(mask).filter(|(_, inside)| **inside);
    let inside: f64 = inside.map(|(value, _)| f64::from(*value)).sum();
    Ok(if total > 0.0 { inside / total } else { 0.0 })
}
