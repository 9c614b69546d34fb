//! The operations of the transforms with all random parameters given. They correspond to torchvision's
//! `transforms.functional` on PIL images.

mod color;
mod crop;
mod resize;
mod rotate;

pub use color::{adjust_brightness, adjust_contrast, adjust_hue, adjust_saturation, grayscale};
pub(super) use color::{random_jitter, shift_hue};
pub(super) use crop::{
    center_corner, check_inside, check_window, cover, hflip_in_place, random_corner, window,
};
pub use crop::{center_crop, crop, hflip, pad, vflip};
pub(super) use resize::{fits, random_part, resized_center, resized_size};
pub use resize::{resize, resized_crop};
pub use rotate::rotate;
pub(super) use rotate::{affine, rotation};
