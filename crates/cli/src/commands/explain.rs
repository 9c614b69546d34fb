//! `candle-vision explain`.

mod output;
mod score;
mod target;

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use candle_vision::explain::{CamOptions, ClassActivationMap, PIXELS};

use crate::args::ExplainArgs;
use crate::batches::in_batches;
use crate::named_images::named;
use crate::say;
use crate::sources;
use output::Outputs;

pub(crate) fn run(args: &ExplainArgs) -> Result<ExitCode> {
    let device = args.device.open()?;
    let restored = sources::restore(&args.checkpoint, &device)?;
    let asked = target::parse(args.target.as_deref(), &restored, &device)?;
    let named = named(&args.images)?;
    let mut outputs = Outputs::new(args, &named)?;
    let options = CamOptions {
        layer: args.layer.clone(),
        target: asked.target,
        eigen_smooth: args.eigen_smooth,
        aug_smooth: args.aug_smooth,
    };
    let model = restored.model.as_ref();
    let all_went_well = in_batches(
        &restored,
        &named.images,
        args.batch_size,
        &device,
        |images| {
            let maps = args.method.maps(model, images, &options)?;
            sources::check_finite(maps.iter().map(|map| map.probability))?;
            Ok(maps)
        },
        |input, map| {
            let class = format!("{}{}", restored.class_name(map.class), asked.beside);
            let path = outputs.write(args, &restored, input, &map, &class)?;
            print(args, input.path, &map, &class, &path)?;
            if args.score {
                score::print(args.method, model, &input.tensor, &map, &options)?;
            }
            Ok(())
        },
    )?;
    Ok(if all_went_well && !named.failed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print(
    args: &ExplainArgs,
    image: &Path,
    map: &ClassActivationMap,
    class: &str,
    output: &Path,
) -> Result<()> {
    let percent = 100.0 * map.probability;
    let (image, method) = (image.display(), args.method);
    let place = if map.layer == PIXELS { String::new() } else { format!(", layer {}", map.layer) };
    say::result(format_args!("{image}: {class} ({percent:.2} %), {method}{place}"))?;
    if !map.positive {
        say::result("no place in the image speaks for this class: the map is empty")?;
    }
    say::result(output.display())?;
    Ok(())
}
