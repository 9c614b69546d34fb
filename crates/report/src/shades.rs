//! Numbers of any range as pixels.

use crate::Colormap;

/// Numbers as bytes: `low` becomes 0 and `high` becomes 255.
///
/// A value outside the range gets the byte of the nearest end. NaN becomes 0.
///
/// ```
/// assert_eq!(candle_vision_report::shades(&[-1.0, 0.5, 2.0], (0.0, 1.0)), [0, 128, 255]);
/// ```
pub fn shades(values: &[f32], (low, high): (f32, f32)) -> Vec<u8> {
    // A range without extent would divide by zero. All values in it count as the lower end.
    let extent = if high > low { high - low } else { f32::INFINITY };
    let shade = |value: &f32| (255.0 * (value - low) / extent).round().clamp(0.0, 255.0) as u8;
    values.iter().map(shade).collect()
}

/// Numbers as colours of `map`, three bytes per value.
///
/// The smallest value gets the first colour of the map, and the largest value the last one.
///
/// ```
/// use candle_vision_report::{Colormap, painted};
///
/// let pixels = painted(&[3.0, 5.0], Colormap::Viridis);
/// assert_eq!(pixels[..3], Colormap::Viridis.color(0.0));
/// assert_eq!(pixels[3..], Colormap::Viridis.color(1.0));
/// ```
pub fn painted(values: &[f32], map: Colormap) -> Vec<u8> {
    let low = values.iter().copied().fold(f32::INFINITY, f32::min);
    let high = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let extent = if high > low { f64::from(high - low) } else { f64::INFINITY };
    values.iter().flat_map(|value| map.color(f64::from(value - low) / extent)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flat_map_is_its_lower_end() {
        assert_eq!(shades(&[7.0, 7.0], (7.0, 7.0)), [0, 0]);
        assert_eq!(painted(&[7.0], Colormap::Inferno), Colormap::Inferno.color(0.0));
        assert_eq!(shades(&[f32::NAN], (0.0, 1.0)), [0]);
    }
}
