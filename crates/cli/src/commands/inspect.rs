//! `candle-vision inspect`: looking inside.

mod activations;
mod network;
mod residual;
mod sample;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use candle_vision::data::Picture;
use candle_vision::report::{GridPicture, RgbView, picture_grid_png};

use crate::args::InspectCommand;
use crate::output_names::unused;
use crate::sources::in_channels;

pub(crate) fn run(command: &InspectCommand) -> Result<ExitCode> {
    match command {
        InspectCommand::Activations(args) => activations::run(args),
        InspectCommand::Residual(args) => residual::run(args),
        InspectCommand::Sample(args) => sample::run(args),
    }
}

/// `photo.jpg` becomes `photo.KIND.png` in the folder one stands in: the photograph's own may be
/// read-only. Where there is a file of that name, it gets a number.
fn picture_name(of: &Path, kind: &str) -> PathBuf {
    let mut name = of.file_stem().unwrap_or_default().to_os_string();
    name.push(format!(".{kind}.png"));
    unused(name.into(), &HashSet::new())
}

/// A picture on a page: red, green and blue bytes, and what is said about it.
struct Shown {
    width: usize,
    height: usize,
    pixels: Vec<u8>,
    caption: String,
}

impl Shown {
    fn picture(picture: Picture, caption: impl Into<String>) -> Result<Self> {
        let picture = in_channels(picture, 3)?;
        let (width, height) = (picture.width(), picture.height());
        Ok(Self { width, height, pixels: picture.into_pixels(), caption: caption.into() })
    }

    fn cell(&self) -> Result<GridPicture<'_>> {
        let picture = RgbView::new(self.width, self.height, &self.pixels)?;
        Ok(GridPicture { picture, caption: self.caption.clone() })
    }
}

fn write_page(shown: &[Shown], columns: usize, title: &str, output: &Path) -> Result<()> {
    let cells: Vec<GridPicture<'_>> = shown.iter().map(Shown::cell).collect::<Result<_>>()?;
    Ok(picture_grid_png(&cells, columns, title, output)?)
}
