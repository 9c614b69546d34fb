//! Transforms with torchvision's arguments, random parameters and results (PIL backend), and transforms of your
//! own.
//!
//! A [`Compose`] applies a list of [`Transform`]s to an image and returns the values for a network.
//! [`functional`] contains the operations with all random parameters given.
//!
//! Recipes and checkpoints store a list as a [`ComposeDescription`]. [`Transforms`], a table of transforms by
//! name, turns it back into transforms. You can add your own transforms to the table.
//!
//! Transforms before [`ToTensor`] work on 8-bit images. [`Normalize`] works on the values after it. torchvision
//! can also crop and rotate tensors. This was left out, because images are decoded to 8 bits and 8-bit
//! arithmetic is faster.
//!
//! # A transform of your own
//! ```
//! use candle_vision_data::random::{self, Generator};
//! use candle_vision_data::transforms::*;
//! use candle_vision_data::{Image, Result};
//! use serde::{Deserialize, Serialize};
//!
//! /// Halves all values with probability `p`.
//! #[derive(Debug, Serialize, Deserialize)]
//! #[serde(deny_unknown_fields)]
//! struct RandomDim { p: f64 }
//!
//! impl Transform for RandomDim {
//!     fn apply(&self, mut image: Image, rng: &mut Generator) -> Result<Image> {
//!         if random::chance(rng, self.p) {
//!             image.pixels_mut().iter_mut().for_each(|value| *value /= 2);
//!         }
//!         Ok(image)
//!     }
//!     fn is_random(&self) -> bool { true }
//!     fn describe(&self) -> Description { describe("random_dim", self) }
//! }
//!
//! let compose = Compose::new().with(RandomDim { p: 0.5 }).with(ToTensor);
//! let image = Image::new(1, 1, 1, vec![255])?;
//! let array = compose.apply(&image, &mut random::generator(0))?;
//! assert!([127.0 / 255.0, 1.0].contains(&array.values()[0]));
//!
//! // Once it is registered, recipes can name it: { op = "random_dim", p = 0.5 }
//! let mut transforms = Transforms::standard();
//! transforms.add(TransformEntry::of::<RandomDim>("random_dim", "halves all values with probability p"))?;
//! assert_eq!(compose.describe().build(&transforms)?, compose);
//! # Ok::<(), candle_vision_data::Error>(())
//! ```

mod alternating_flip;
mod arguments;
mod array;
mod aug_mix;
mod augment_op;
mod augmentation;
mod auto_augment;
mod center_crop;
mod checks;
mod color_jitter;
mod compose;
mod cutout;
mod description;
#[cfg(test)]
mod draws;
mod elastic_transform;
pub mod functional;
mod gaussian_blur;
mod gaussian_noise;
mod grayscale;
mod jpeg;
mod lambda;
mod nested;
mod normalize;
mod pad;
mod pixel_step;
mod rand_augment;
mod random_adjust_sharpness;
mod random_affine;
mod random_apply;
mod random_autocontrast;
mod random_channel_permutation;
mod random_choice;
mod random_crop;
mod random_equalize;
mod random_erasing;
mod random_grayscale;
mod random_horizontal_flip;
mod random_invert;
mod random_order;
mod random_perspective;
mod random_photometric_distort;
mod random_posterize;
mod random_resized_crop;
mod random_rotation;
mod random_solarize;
mod random_vertical_flip;
mod random_zoom_out;
mod resize;
mod same_size;
mod table;
mod to_tensor;
mod transform;
mod trivial_augment_wide;
mod undo_normalize;

pub use alternating_flip::AlternatingFlip;
pub use arguments::{
    Degrees, Fill, Interpolation, Jitter, Padding, PaddingMode, PerAxis, Shear, Size,
};
pub use array::Array;
pub use aug_mix::AugMix;
pub use auto_augment::{AutoAugment, AutoAugmentPolicy};
pub use candle_vision_registry::Description;
pub use center_crop::CenterCrop;
pub use color_jitter::ColorJitter;
pub use compose::Compose;
pub(crate) use compose::PartFirst;
pub use cutout::Cutout;
pub use description::ComposeDescription;
pub use elastic_transform::ElasticTransform;
pub use gaussian_blur::GaussianBlur;
pub use gaussian_noise::GaussianNoise;
pub use grayscale::Grayscale;
pub use jpeg::{Jpeg, Quality};
pub use lambda::Lambda;
pub use normalize::Normalize;
pub use pad::Pad;
pub use pixel_step::{PixelStep, PixelSteps};
pub use rand_augment::RandAugment;
pub use random_adjust_sharpness::RandomAdjustSharpness;
pub use random_affine::RandomAffine;
pub use random_apply::RandomApply;
pub use random_autocontrast::RandomAutocontrast;
pub use random_channel_permutation::RandomChannelPermutation;
pub use random_choice::RandomChoice;
pub use random_crop::RandomCrop;
pub use random_equalize::RandomEqualize;
pub use random_erasing::{ErasingValue, RandomErasing};
pub use random_grayscale::RandomGrayscale;
pub use random_horizontal_flip::RandomHorizontalFlip;
pub use random_invert::RandomInvert;
pub use random_order::RandomOrder;
pub use random_perspective::RandomPerspective;
pub use random_photometric_distort::RandomPhotometricDistort;
pub use random_posterize::RandomPosterize;
pub use random_resized_crop::RandomResizedCrop;
pub use random_rotation::RandomRotation;
pub use random_solarize::RandomSolarize;
pub use random_vertical_flip::RandomVerticalFlip;
pub use random_zoom_out::RandomZoomOut;
pub use resize::Resize;
pub use table::{TransformEntry, Transforms};
pub use to_tensor::ToTensor;
pub use transform::{Cropping, Stream, Transform, apply_drawn, describe};
pub use trivial_augment_wide::TrivialAugmentWide;
