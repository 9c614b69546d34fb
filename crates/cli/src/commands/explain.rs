//! `candle-vision explain`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use candle_vision::explain::{CamOptions, ClassActivationMap, Target, grad_cam};
use candle_vision::report::{Colormap, Explanation, RgbView, explanation_png};

use crate::args::ExplainArgs;
use crate::sources::{self, Restored};
use crate::{device, say};

pub(crate) fn run(args: &ExplainArgs) -> Result<ExitCode> {
    let device = device::parse(&args.device)?;
    let restored = sources::restore(&args.checkpoint, &device)?;
    let target = match &args.class {
        Some(class) => Target::Class(restored.class(class)?),
        None => Target::Predicted,
    };
    let (picture, input) = restored.input(&args.picture, &device)?;
    let options = CamOptions { layer: args.layer.clone(), target, ..CamOptions::default() };
    let maps = grad_cam(restored.model.as_ref(), &input, &options)?;
    let map = maps.first().context("the network gave no map")?;
    let seen = sources::in_channels(restored.seen(&picture)?, 3)?;
    let output = args.output.clone().unwrap_or_else(|| default_output(&args.picture));
    let class = class_name(&restored, map);
    let file = args.picture.file_name().unwrap_or_default().to_string_lossy();
    let explanation = Explanation {
        picture: RgbView::new(seen.width(), seen.height(), seen.pixels())?,
        map,
        file: &file,
        class: &class,
        colormap: Colormap::default(),
    };
    explanation_png(&explanation, &output)?;
    print(args, map, &class, &output)?;
    Ok(ExitCode::SUCCESS)
}

fn class_name(restored: &Restored, map: &ClassActivationMap) -> String {
    let name = restored.metadata.classes.get(map.class);
    name.cloned().unwrap_or_else(|| map.class.to_string())
}

/// `photo.jpg` becomes `photo.explain.png` in the folder one stands in: the photograph's own may be
/// read-only.
fn default_output(picture: &Path) -> PathBuf {
    let mut name = picture.file_stem().unwrap_or_default().to_os_string();
    name.push(".explain.png");
    name.into()
}

fn print(args: &ExplainArgs, map: &ClassActivationMap, class: &str, output: &Path) -> Result<()> {
    let percent = 100.0 * map.probability;
    let picture = args.picture.display();
    say::result(format_args!("{picture}: {class} ({percent:.2} %), layer {}", map.layer))?;
    if !map.positive {
        say::result("no place in the picture speaks for this class: the map is empty")?;
    }
    say::result(output.display())?;
    Ok(())
}
