//! Transforms with torchvision's arguments, random parameters and (PIL backend) results, as values
//! that recipes and checkpoints carry.
//!
//! A list of them is a [`Compose`]. The free functions of [`functional`] are what the transforms
//! do once their random parameters are drawn. Transforms before `to_tensor` work on 8-bit
//! images, `normalize` on the values after it; torchvision's freedom to crop or rotate tensors
//! was left out, since 8-bit is what images are decoded to and is faster.

mod color;
mod compose;
mod crop;
mod resize;
mod rotate;
mod tensor;
mod undo;
mod validate;

use serde::{Deserialize, Serialize};

pub use compose::Compose;
pub use tensor::Array;

/// What the transforms do once their random parameters are drawn, as torchvision's
/// `transforms.functional` on PIL images.
pub mod functional {
    pub use super::color::{
        adjust_brightness, adjust_contrast, adjust_hue, adjust_saturation, grayscale,
    };
    pub use super::crop::{center_crop, crop, hflip, pad, vflip};
    pub use super::resize::{resize, resized_crop};
    pub use super::rotate::rotate;
}

/// One step of a [`Compose`]. In a recipe it is a table with the key `op`:
/// `{ op = "random_resized_crop", size = 224 }`. Missing arguments take torchvision's defaults.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case", deny_unknown_fields)]
pub enum Transform {
    /// Scales the image, with antialiasing as Pillow's.
    Resize {
        /// One number: the length of the shorter side, the other keeps the aspect ratio. Two: height and width.
        size: Size,
        /// How values between pixels are found; bilinear if not given.
        #[serde(default)]
        interpolation: Interpolation,
    },
    /// Cuts out the middle; an image that is too small is padded with black.
    CenterCrop {
        /// Side of a square, or height and width.
        size: Size,
    },
    /// Cuts out a random part.
    RandomCrop {
        /// Side of a square, or height and width.
        size: Size,
        /// What is added around the image before; nothing if not given.
        #[serde(default)]
        padding: Padding,
        /// Whether an image that is still too small is padded up to `size`; otherwise it is an error.
        #[serde(default)]
        pad_if_needed: bool,
        /// Value of the pixels that are added in mode `constant`, 0 if not given.
        #[serde(default)]
        fill: u8,
        /// What the added pixels show; `constant` if not given.
        #[serde(default)]
        padding_mode: PaddingMode,
    },
    /// Cuts out a part of random area and aspect ratio and scales it to `size` (the usual
    /// augmentation for ImageNet).
    RandomResizedCrop {
        /// Side of a square, or height and width.
        size: Size,
        /// Range of the part's share of the area; `[0.08, 1]` if not given.
        #[serde(default = "default_scale")]
        scale: [f64; 2],
        /// Range of width / height, drawn log-uniformly; `[3/4, 4/3]` if not given.
        #[serde(default = "default_ratio")]
        ratio: [f64; 2],
        /// How values between pixels are found; bilinear if not given.
        #[serde(default)]
        interpolation: Interpolation,
    },
    /// Mirrors left and right with probability `p`.
    RandomHorizontalFlip {
        /// Probability, one half if not given.
        #[serde(default = "default_flip")]
        p: f64,
    },
    /// Mirrors top and bottom with probability `p`.
    RandomVerticalFlip {
        /// Probability, one half if not given.
        #[serde(default = "default_flip")]
        p: f64,
    },
    /// Rotates about the centre by a uniform angle; the size stays.
    RandomRotation {
        /// One number `d`: between `-d` and `d` degrees. Two: their range. Positive is counter-clockwise.
        degrees: Degrees,
        /// `nearest` (if not given) or `bilinear`.
        #[serde(default = "Interpolation::nearest")]
        interpolation: Interpolation,
        /// Value of the corners that come in from outside, 0 if not given.
        #[serde(default)]
        fill: u8,
    },
    /// Changes brightness, contrast, saturation and hue by random factors, in random order.
    ColorJitter {
        /// `b`: factor between `max(0, 1 - b)` and `1 + b`; or a range. None if not given.
        #[serde(default)]
        brightness: Jitter,
        /// Factor, as for brightness.
        #[serde(default)]
        contrast: Jitter,
        /// Factor, as for brightness.
        #[serde(default)]
        saturation: Jitter,
        /// `h`: turn of the hue between `-h` and `h`, a full circle being 1; or a range in `-0.5..=0.5`.
        #[serde(default)]
        hue: Jitter,
    },
    /// Makes the image grey.
    Grayscale {
        /// 1 (if not given), or 3 equal ones.
        #[serde(default = "default_grey_channels")]
        channels: usize,
    },
    /// Adds pixels on the sides.
    Pad {
        /// How many.
        padding: Padding,
        /// Their value in mode `constant`, 0 if not given.
        #[serde(default)]
        fill: u8,
        /// What they show; `constant` if not given.
        #[serde(default)]
        padding_mode: PaddingMode,
    },
    /// Turns 0..=255 to `0.0..=1.0`. Every [`Compose`] has exactly one.
    ToTensor,
    /// Subtracts `mean` and divides by `std`, channel by channel; after [`Transform::ToTensor`].
    Normalize {
        /// One number for each channel, or one for all; in units of `0.0..=1.0`.
        mean: Vec<f64>,
        /// As `mean`; not 0.
        std: Vec<f64>,
    },
}

impl Transform {
    /// Its name in recipes.
    pub fn op(&self) -> &'static str {
        match self {
            Self::Resize { .. } => "resize",
            Self::CenterCrop { .. } => "center_crop",
            Self::RandomCrop { .. } => "random_crop",
            Self::RandomResizedCrop { .. } => "random_resized_crop",
            Self::RandomHorizontalFlip { .. } => "random_horizontal_flip",
            Self::RandomVerticalFlip { .. } => "random_vertical_flip",
            Self::RandomRotation { .. } => "random_rotation",
            Self::ColorJitter { .. } => "color_jitter",
            Self::Grayscale { .. } => "grayscale",
            Self::Pad { .. } => "pad",
            Self::ToTensor => "to_tensor",
            Self::Normalize { .. } => "normalize",
        }
    }

    /// Whether it draws random numbers.
    pub fn is_random(&self) -> bool {
        matches!(
            self,
            Self::RandomCrop { .. }
                | Self::RandomResizedCrop { .. }
                | Self::RandomHorizontalFlip { .. }
                | Self::RandomVerticalFlip { .. }
                | Self::RandomRotation { .. }
                | Self::ColorJitter { .. }
        )
    }
}

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

impl Interpolation {
    fn nearest() -> Self {
        Self::Nearest
    }
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

fn default_scale() -> [f64; 2] {
    [0.08, 1.0]
}

fn default_ratio() -> [f64; 2] {
    [3.0 / 4.0, 4.0 / 3.0]
}

fn default_flip() -> f64 {
    0.5
}

fn default_grey_channels() -> usize {
    1
}
