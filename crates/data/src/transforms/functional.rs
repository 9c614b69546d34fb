//! The operations of the transforms with all random parameters given. They correspond to torchvision's
//! `transforms.functional` on PIL images.

mod across;
mod color;
mod compress;
mod crop;
mod crops;
mod filter;
mod levels;
mod mirror;
mod perspective;
mod resample;
mod resize;
mod rotate;
mod warp;

pub use color::{adjust_brightness, adjust_contrast, adjust_hue, adjust_saturation, grayscale};
pub(super) use color::{hue_shift, random_jitter, shift_hue};
pub use compress::jpeg;
pub(crate) use crop::check_inside;
pub(super) use crop::{center_corner, check_window, cover, hflip_in_place, random_corner, window};
pub use crop::{center_crop, crop, hflip, pad, vflip};
pub use crops::{five_crop, ten_crop};
pub use filter::{adjust_sharpness, gaussian_blur};
pub(super) use filter::{blur, check_blur};
pub use levels::{autocontrast, equalize, invert, permute_channels, posterize, solarize};
pub(super) use perspective::check_elastic;
pub use perspective::{elastic, perspective};
pub(super) use resize::{fits, random_part, resized_center, resized_size};
pub use resize::{resize, resized_crop};
pub use rotate::{Affine, affine, rotate};
pub(super) use rotate::{rotation, rotation_about};
pub(super) use warp::{affine as affine_by_matrix, check_warp};
