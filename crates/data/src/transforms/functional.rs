//! The operations of the transforms with all random parameters given. They correspond to torchvision's
//! `transforms.functional` on PIL images.

mod color;
mod crop;
mod resize;
mod rotate;

pub(super) use color::{Adjustment, random_jitter};
pub use color::{adjust_brightness, adjust_contrast, adjust_hue, adjust_saturation, grayscale};
pub use crop::{center_crop, crop, hflip, pad, vflip};
pub(super) use crop::{hflip_in_place, random_corner};
pub(super) use resize::{fits, random_part, resized_center, resized_size};
pub use resize::{resize, resized_crop};
pub use rotate::rotate;
