//! Arguments of several transforms, in the forms that recipes allow.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A size argument, in pixels: one number, or `[height, width]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected a size: one number of pixels, or [height, width]")]
pub enum Size {
    /// The shorter side for a resize, and both sides for a crop.
    One(u32),
    /// Height, then width.
    HeightWidth([u32; 2]),
}

impl Size {
    /// Height and width of a crop, in pixels.
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

/// How values between pixels are computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Interpolation {
    /// The nearest pixel. Pillow has one such rule, so torchvision's `nearest_exact` is the same.
    #[serde(alias = "nearest_exact", alias = "nearest-exact")]
    Nearest,
    /// A triangle filter over the neighbouring pixels, wider when the image shrinks.
    #[default]
    Bilinear,
    /// A cubic filter with `a = -0.5`, wider when the image shrinks.
    Bicubic,
    /// The mean over the area of a pixel. Only for scaling.
    Box,
    /// A Hamming window of two pixels, sharper than bilinear. Only for scaling.
    Hamming,
    /// A Lanczos filter of six pixels. Only for scaling.
    Lanczos,
}

/// torchvision's argument `antialias`. Images are scaled as Pillow scales them, so it can only be on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Antialias;

impl<'de> Deserialize<'de> for Antialias {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        if bool::deserialize(from)? {
            return Ok(Self);
        }
        let problem = "`antialias` can only be true: images are scaled with antialiasing, as Pillow does; leave it out";
        Err(serde::de::Error::custom(problem))
    }
}

/// The colour of pixels that come from outside an image: one value for all channels, or red, green and blue.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected a fill: one number from 0 to 255, or [red, green, blue]")]
pub enum Fill {
    /// The same value in all channels.
    One(u8),
    /// Red, green and blue. Grey images take the first.
    Channels([u8; 3]),
}

/// As in a recipe. Older checkpoints describe their preprocessing so.
impl fmt::Debug for Fill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(value) => value.fmt(f),
            Self::Channels(color) => color.fmt(f),
        }
    }
}

impl Default for Fill {
    /// Black.
    fn default() -> Self {
        Self::One(0)
    }
}

impl Fill {
    /// Red, green and blue.
    pub fn color(self) -> [u8; 3] {
        match self {
            Self::One(value) => [value; 3],
            Self::Channels(color) => color,
        }
    }
}

impl From<u8> for Fill {
    fn from(value: u8) -> Self {
        Self::One(value)
    }
}

impl From<[u8; 3]> for Fill {
    fn from(color: [u8; 3]) -> Self {
        Self::Channels(color)
    }
}

/// Number of pixels to add: on all sides, `[left and right, top and bottom]`, or `[left, top, right, bottom]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "expected a padding: one number of pixels, [left_right, top_bottom], or [left, top, right, bottom]"
)]
pub enum Padding {
    /// The same number on all sides.
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

/// The content of added pixels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PaddingMode {
    /// A constant value.
    #[default]
    Constant,
    /// The nearest pixel of the edge.
    Edge,
    /// The image mirrored at its edge. The edge pixel is not repeated.
    Reflect,
    /// The image mirrored at its edge. The edge pixel is repeated.
    Symmetric,
}

/// The range of a rotation, in degrees.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected degrees: one number, or [least, most]")]
pub enum Degrees {
    /// Between `-d` and `d` degrees.
    Within(f64),
    /// From the first to the second number of degrees.
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

/// The strength of one part of a colour jitter.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected a strength: one number, or [least, most]")]
pub enum Jitter {
    /// The largest distance from "no change".
    Within(f64),
    /// From the first to the second value.
    Range([f64; 2]),
}

impl Default for Jitter {
    fn default() -> Self {
        Self::Within(0.0)
    }
}

impl Jitter {
    /// The range of a factor around 1.
    pub(crate) fn factors(self) -> [f64; 2] {
        match self {
            Self::Within(distance) => [(1.0 - distance).max(0.0), 1.0 + distance],
            Self::Range(range) => range,
        }
    }

    /// The range of a turn around 0, as a fraction of the colour circle.
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

/// The range of a shear, in degrees.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "expected a shear: one number of degrees, [least, most] along x, or [least x, most x, least y, most y]"
)]
pub enum Shear {
    /// Along x, between `-d` and `d` degrees.
    Within(f64),
    /// Along x, from the first to the second number of degrees.
    X([f64; 2]),
    /// Along x from the first to the second number of degrees, and along y from the third to the fourth.
    XY([f64; 4]),
}

impl Shear {
    /// The range along x, and that along y.
    pub(crate) fn ranges(self) -> ([f64; 2], Option<[f64; 2]>) {
        match self {
            Self::Within(degrees) => ([-degrees, degrees], None),
            Self::X(range) => (range, None),
            Self::XY([least_x, most_x, least_y, most_y]) => {
                ([least_x, most_x], Some([least_y, most_y]))
            }
        }
    }
}

impl From<f64> for Shear {
    fn from(degrees: f64) -> Self {
        Self::Within(degrees)
    }
}

impl From<[f64; 2]> for Shear {
    fn from(range: [f64; 2]) -> Self {
        Self::X(range)
    }
}

impl From<[f64; 4]> for Shear {
    fn from(ranges: [f64; 4]) -> Self {
        Self::XY(ranges)
    }
}

/// A setting for both axes: one number, or one for x and one for y.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected one number, or [x, y]")]
pub enum PerAxis<T> {
    /// The same along both axes.
    Both(T),
    /// Along x, then along y.
    Each([T; 2]),
}

impl<T: Copy> PerAxis<T> {
    /// Along x, then along y.
    pub fn xy(self) -> [T; 2] {
        match self {
            Self::Both(value) => [value; 2],
            Self::Each(values) => values,
        }
    }
}

impl<T> From<T> for PerAxis<T> {
    fn from(value: T) -> Self {
        Self::Both(value)
    }
}

impl<T> From<[T; 2]> for PerAxis<T> {
    fn from(values: [T; 2]) -> Self {
        Self::Each(values)
    }
}
