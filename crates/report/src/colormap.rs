//! Maps a number in `0.0..=1.0` to a colour.

use colorous::Gradient;

use crate::canvas::Color;

/// How numbers become colours.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Colormap {
    /// Blue over green to red: strong contrasts, for heat maps on photographs.
    #[default]
    Turbo,
    /// Dark violet over green to yellow. Lightness grows evenly, so the order of the colours stays visible
    /// in grey and for colour-blind readers.
    Viridis,
    /// Black over red to light yellow. Lightness grows evenly.
    Inferno,
}

impl Colormap {
    /// The colour (red, green, blue) of `value`. A value outside `0.0..=1.0` gets the colour of the
    /// nearest end, and NaN that of the lower end.
    ///
    /// ```
    /// use candle_vision_report::Colormap;
    ///
    /// assert_eq!(Colormap::Viridis.color(0.0), [68, 1, 84]);
    /// assert_eq!(Colormap::Viridis.color(7.0), Colormap::Viridis.color(1.0));
    /// ```
    pub fn color(self, value: f64) -> [u8; 3] {
        let gradient = match self {
            Self::Turbo => colorous::TURBO,
            Self::Viridis => colorous::VIRIDIS,
            Self::Inferno => colorous::INFERNO,
        };
        sample(gradient, value)
    }
}

/// Colour of a fraction of a whole: white to dark blue.
pub(crate) fn share_color(share: f64) -> Color {
    // The gradient's own first colour is not white, but 0 should look empty.
    if share > 0.0 { sample(colorous::BLUES, 0.08 + 0.87 * share) } else { [255; 3] }
}

fn sample(gradient: Gradient, value: f64) -> Color {
    gradient.eval_continuous(unit(value)).as_array()
}

/// Clamps to `0.0..=1.0`. NaN becomes 0.
pub(crate) fn unit(value: f64) -> f64 {
    if value.is_nan() { 0.0 } else { value.clamp(0.0, 1.0) }
}

/// Whether white text is easier to read on `background` than dark text, by its relative luminance.
pub(crate) fn needs_light_text(background: Color) -> bool {
    let linear = |level: u8| (f64::from(level) / 255.0).powf(2.2);
    let [red, green, blue] = background.map(linear);
    // The contrast ratio alone would switch at 0.18, but on medium blues white text reads better. At 0.3
    // white text still has the contrast of 3:1 that WCAG asks of large text.
    0.2126 * red + 0.7152 * green + 0.0722 * blue < 0.3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_out_of_range_gets_an_end() {
        for map in [Colormap::Turbo, Colormap::Viridis, Colormap::Inferno] {
            assert_eq!(map.color(f64::NAN), map.color(0.0));
            assert_eq!(map.color(-3.0), map.color(0.0));
            assert_eq!(map.color(f64::INFINITY), map.color(1.0));
            assert_ne!(map.color(0.0), map.color(1.0));
        }
    }

    #[test]
    fn text_stands_out_from_its_cell() {
        assert!(!needs_light_text(share_color(0.0)));
        assert!(!needs_light_text(share_color(0.2)));
        assert!(needs_light_text(share_color(1.0)));
    }
}
