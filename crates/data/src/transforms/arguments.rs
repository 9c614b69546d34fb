//! Arguments that several transforms take, in the forms that recipes know.

use serde::{Deserialize, Serialize};

/// A size argument, in pixels: one number, or `[height, width]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected a size: one number of pixels, or [height, width]")]
pub enum Size {
    /// The shorter side for a resize, both sides for a crop.
    One(u32),
    /// Height, then width.
    HeightWidth([u32; 2]),
}

impl Size {
    /// Height and width of a crop.
    pub(crate) fn square(self) -> (usize, usize) {
        match self {
            Self::One(side) => (side as usize, side as usize),
            Self::HeightWidth([height, width]) => (height as usize, width as usize),
        }
    }
}

impl From<u32> for Size {
    fn from(size: u32) -> Self {
        Self::One(size)
    }
}

impl From<[u32; 2]> for Size {
    fn from(height_width: [u32; 2]) -> Self {
        Self::HeightWidth(height_width)
    }
}

/// How values between pixels are found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Interpolation {
    /// The nearest pixel.
    Nearest,
    /// A triangle of the pixels around, widened when the image shrinks.
    #[default]
    Bilinear,
    /// Cubic with `a = -0.5`, widened when the image shrinks.
    Bicubic,
}

/// Pixels to add: on all sides, `[left and right, top and bottom]`, or `[left, top, right, bottom]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "expected a padding: one number of pixels, [left_right, top_bottom], or [left, top, right, bottom]"
)]
pub enum Padding {
    /// The same on all sides.
    All(u32),
    /// Left and right, then top and bottom.
    Axes([u32; 2]),
    /// Left, top, right, bottom.
    Sides([u32; 4]),
}

impl Default for Padding {
    fn default() -> Self {
        Self::All(0)
    }
}

impl Padding {
    /// Left, top, right, bottom.
    pub fn sides(self) -> [usize; 4] {
        let sides = match self {
            Self::All(all) => [all; 4],
            Self::Axes([x, y]) => [x, y, x, y],
            Self::Sides(sides) => sides,
        };
        sides.map(|side| side as usize)
    }
}

impl From<u32> for Padding {
    fn from(all: u32) -> Self {
        Self::All(all)
    }
}

impl From<[u32; 2]> for Padding {
    fn from(axes: [u32; 2]) -> Self {
        Self::Axes(axes)
    }
}

impl From<[u32; 4]> for Padding {
    fn from(sides: [u32; 4]) -> Self {
        Self::Sides(sides)
    }
}

/// What added pixels show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PaddingMode {
    /// One value.
    #[default]
    Constant,
    /// The pixel at the edge.
    Edge,
    /// The image mirrored at its edge, without repeating the pixel there.
    Reflect,
    /// The image mirrored at its edge, repeating the pixel there.
    Symmetric,
}

/// Range of a rotation.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected degrees: one number, or [least, most]")]
pub enum Degrees {
    /// Between `-d` and `d`.
    Within(f64),
    /// From the first to the second.
    Range([f64; 2]),
}

impl Degrees {
    pub(crate) fn range(self) -> [f64; 2] {
        match self {
            Self::Within(degrees) => [-degrees, degrees],
            Self::Range(range) => range,
        }
    }
}

impl From<f64> for Degrees {
    fn from(degrees: f64) -> Self {
        Self::Within(degrees)
    }
}

impl From<[f64; 2]> for Degrees {
    fn from(range: [f64; 2]) -> Self {
        Self::Range(range)
    }
}

/// Strength of one part of a colour jitter.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected a strength: one number, or [least, most]")]
pub enum Jitter {
    /// Distance from "no change".
    Within(f64),
    /// From the first to the second.
    Range([f64; 2]),
}

impl Default for Jitter {
    fn default() -> Self {
        Self::Within(0.0)
    }
}

impl Jitter {
    /// Range of a factor around 1.
    pub(crate) fn factors(self) -> [f64; 2] {
        match self {
            Self::Within(distance) => [(1.0 - distance).max(0.0), 1.0 + distance],
            Self::Range(range) => range,
        }
    }

    /// Range of a turn around 0.
    pub(crate) fn turns(self) -> [f64; 2] {
        match self {
            Self::Within(distance) => [-distance, distance],
            Self::Range(range) => range,
        }
    }
}

impl From<f64> for Jitter {
    fn from(distance: f64) -> Self {
        Self::Within(distance)
    }
}

impl From<[f64; 2]> for Jitter {
    fn from(range: [f64; 2]) -> Self {
        Self::Range(range)
    }
}
