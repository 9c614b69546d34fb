//! Pictures and files that show how a run went and what a network sees.

mod axis;
mod canvas;
mod colormap;
mod confusion;
mod curves;
mod error;
mod files;
mod grid;
mod overlay;
mod palette;
mod picture;

pub use colormap::Colormap;
pub use confusion::confusion_matrix_png;
pub use curves::{curves_png, curves_svg};
pub use error::{Error, Result};
pub use grid::{GridPicture, picture_grid_png};
pub use overlay::{Explanation, explanation_png};
pub use picture::RgbView;
