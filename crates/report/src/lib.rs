//! Images and files that show how a run went and what a network saw.
//!
//! | item | what |
//! |---|---|
//! | [`curves_png`], [`curves_svg`], [`CurvesFile`] | loss, accuracy and learning rate of a run |
//! | [`run_report_html`] | the report of a run: one page with everything |
//! | [`comparison_html`], [`comparison_png`] | runs beside each other |
//! | [`explanation_png`] | photograph, heat map, and one over the other |
//! | [`image_grid_png`] | many images with captions |
//! | [`bars_png`] | measures of many things as bars |
//! | [`shades`], [`painted`] | numbers of any range as pixels |
//! | [`confusion_matrix_png`] | how often each class was taken for each |
//! | [`EventWriter`], [`TensorBoard`] | event files for TensorBoard |
//!
//! The crate draws values that others have computed and knows nothing of how; it reads no files and
//! prints nothing. Images are written as a whole or not at all, with an embedded font, so that
//! they look the same on every machine; names in scripts that it lacks are drawn with the machine's
//! fonts, and [`characters_without_font`] tells what none of them has.

mod axis;
mod bars;
mod canvas;
mod colormap;
mod comparison;
mod confusion;
mod curves;
mod error;
mod grid;
mod html;
mod image;
mod overlay;
mod palette;
mod shades;
mod tensorboard;

pub use bars::{BarColumn, bars_png};
pub use canvas::characters_without_font;
pub use colormap::Colormap;
pub use comparison::{ComparedRun, MOST_RUNS, comparison_html, comparison_png};
pub use confusion::confusion_matrix_png;
pub use curves::{CurvesFile, curves_png, curves_svg};
pub use error::{Error, Result};
pub use grid::{GridImage, image_grid_png};
pub use html::{NetworkLayer, NetworkTable, RunReport, WorstImage, run_report_html};
pub use image::RgbView;
pub use overlay::{Explanation, explanation_png};
pub use shades::{painted, shades};
pub use tensorboard::{EventWriter, TensorBoard};
