//! `candle-vision explain`.

mod output;
mod score;
mod target;

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use candle_vision::explain::{CamOptions, ClassActivationMap, PIXELS};

use crate::args::ExplainArgs;
use crate::say;
use crate::sources;

pub(crate) fn run(args: &ExplainArgs) -> Result<ExitCode> {
    let device = args.device.open()?;
    let restored = sources::restore(&args.checkpoint, &device)?;
    let asked = target::parse(args.target.as_deref(), &restored, &device)?;
    let (picture, input) = restored.input(&args.picture, &device)?;
    let options = CamOptions {
        layer: args.layer.clone(),
        target: asked.target,
        eigen_smooth: args.eigen_smooth,
        aug_smooth: args.aug_smooth,
    };
    let model = restored.model.as_ref();
    let maps = args.method.maps(model, &input, &options)?;
    let map = maps.first().context("the network gave no map")?;
    let class = format!("{}{}", restored.class_name(map.class), asked.beside);
    let path = output::write(args, &restored, &picture, map, &class)?;
    print(args, map, &class, &path)?;
    if args.score {
        score::print(args.method, model, &input, map, &options)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn print(args: &ExplainArgs, map: &ClassActivationMap, class: &str, output: &Path) -> Result<()> {
    let percent = 100.0 * map.probability;
    let (picture, method) = (args.picture.display(), args.method);
    let place = if map.layer == PIXELS { String::new() } else { format!(", layer {}", map.layer) };
    say::result(format_args!("{picture}: {class} ({percent:.2} %), {method}{place}"))?;
    if !map.positive {
        say::result("no place in the picture speaks for this class: the map is empty")?;
    }
    say::result(output.display())?;
    Ok(())
}
