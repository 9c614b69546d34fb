//! Images and files that show how a run went and what a network saw.
//!
//! | item | what |
//! |---|---|
//! | [`curves_png`], [`curves_svg`], [`CurvesFile`] | loss, accuracy and learning rate of a run |
//! | [`gradients_png`] | the norms of a run's gradients by depth |
//! | [`run_report_html`] | the report of a run: one page with everything |
//! | [`comparison_html`], [`comparison_png`] | several runs side by side |
//! | [`data_check_html`] | what is wrong with an image folder |
//! | [`explanation_png`] | an image, its heat map, and the map over the image |
//! | [`image_grid_png`] | many images with captions |
//! | [`bars_png`] | numbers as bars |
//! | [`shades`], [`painted`] | numbers of any range as pixels |
//! | [`confusion_matrix_png`] | a confusion matrix: how often each class was predicted as each |
//! | [`EventWriter`], [`TensorBoard`] | event files for TensorBoard |
//!
//! The crate draws values that other crates computed, and does not know how they were computed. It reads no
//! files and prints nothing. It writes an image as a whole or not at all.
//!
//! Images use an embedded font, so that they look the same on every machine. If that font lacks a
//! script, names in the script are drawn with the fonts of the machine. [`characters_without_font`]
//! returns the characters that no font has.

mod axis;
mod bars;
mod canvas;
mod colormap;
mod comparison;
mod confusion;
mod curves;
mod data_check;
mod error;
mod gradients;
mod grid;
mod html;
mod image;
mod overlay;
mod palette;
mod shades;
mod tensorboard;

/// The example of the README, run as a documentation test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

pub use bars::{BarColumn, bars_png};
pub use canvas::{characters_without_font, load_fonts};
pub use colormap::Colormap;
pub use comparison::{ComparedRun, MOST_RUNS, comparison_html, comparison_png};
pub use confusion::confusion_matrix_png;
pub use curves::{CurvesFile, curves_png, curves_svg};
pub use data_check::{
    CaptionedImage, ClassRow, DataCheckPage, DataFinding, ImagePair, data_check_html,
};
pub use error::{Error, Result};
pub use gradients::gradients_png;
pub use grid::{GridImage, image_grid_png};
pub use html::{NetworkLayer, NetworkTable, RunReport, WorstImage, run_report_html};
pub use image::RgbView;
pub use overlay::{Explanation, explanation_png};
pub use shades::{painted, shades};
pub use tensorboard::{EventWriter, TensorBoard};
