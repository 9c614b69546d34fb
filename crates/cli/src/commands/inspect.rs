//! `candle-vision inspect`: looks inside a network or at its data.

mod activations;
mod network;
mod residual;
mod sample;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use candle_vision::data::Image;
use candle_vision::report::{GridImage, RgbView, image_grid_png};
use candle_vision::{Registry, in_channels};

use crate::args::InspectCommand;
use crate::output_names::unused;

pub(crate) fn run(command: &InspectCommand, registry: &Registry) -> Result<ExitCode> {
    match command {
        InspectCommand::Activations(args) => activations::run(args, registry),
        InspectCommand::Residual(args) => residual::run(args, registry),
        InspectCommand::Sample(args) => sample::run(args, registry),
    }
}

/// `photo.jpg` becomes `photo.KIND.png` in the current folder, because the photograph's own folder may be
/// read-only. If such a file exists, the name gets a number.
fn image_name(of: &Path, kind: &str) -> PathBuf {
    let mut name = of.file_stem().unwrap_or_default().to_os_string();
    name.push(format!(".{kind}.png"));
    unused(name.into(), &HashSet::new())
}

/// An image on a page: red, green and blue bytes, and a caption.
pub(crate) struct Shown {
    width: usize,
    height: usize,
    pixels: Vec<u8>,
    caption: String,
}

impl Shown {
    pub(crate) fn image(image: Image, caption: impl Into<String>) -> Result<Self> {
        let image = in_channels(image, 3)?;
        let (width, height) = (image.width(), image.height());
        Ok(Self { width, height, pixels: image.into_pixels(), caption: caption.into() })
    }

    fn cell(&self) -> Result<GridImage<'_>> {
        let image = RgbView::new(self.width, self.height, &self.pixels)?;
        Ok(GridImage { image, caption: self.caption.clone() })
    }
}

pub(crate) fn write_page(
    shown: &[Shown],
    columns: usize,
    title: &str,
    output: &Path,
) -> Result<()> {
    let cells: Vec<GridImage<'_>> = shown.iter().map(Shown::cell).collect::<Result<_>>()?;
    Ok(image_grid_png(&cells, columns, title, output)?)
}
