//! `candle-vision explain`.

mod output;
mod score;
mod target;

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use candle_core::Tensor;
use candle_vision::Registry;
use candle_vision::explain::{CamOptions, ClassActivationMap, Explainer, Method, PIXELS};
use candle_vision::models::Model;

use crate::args::ExplainArgs;
use crate::batches::in_batches;
use crate::named_images::named;
use crate::network::USUAL_NETWORK;
use crate::say;
use output::Outputs;

pub(crate) fn run(args: &ExplainArgs, registry: &Registry) -> Result<ExitCode> {
    let device = args.device.open()?;
    let method = registry.methods.get(&args.method)?;
    let network = args.network.open_or(Some(USUAL_NETWORK), &args.data, registry, &device)?;
    let classifier = network.classifier;
    let asked = target::parse(args.target.as_deref(), &classifier)?;
    let named = named(&args.images)?;
    let mut outputs = Outputs::new(args, &named)?;
    let options = CamOptions {
        layer: args.layer.clone(),
        target: asked.target,
        eigen_smooth: args.eigen_smooth,
        aug_smooth: args.aug_smooth,
    };
    let explainer = classifier.explainer();
    let all_went_well = in_batches(
        &classifier,
        &named.images,
        args.batch_size,
        |images| maps(explainer, method, images, &options),
        |input, map| {
            let class = format!("{}{}", classifier.class_name(map.class), asked.beside);
            let path = outputs.write(method, &classifier, input, &map, &class)?;
            print(method, input.path, &map, &class, &path)?;
            if args.score {
                let model = classifier.model();
                let spec = model.spec();
                let untrained = registry.networks.build(spec, 1, &device)?;
                score::print(method, model, &*untrained, &input.tensor, &map, &options)?;
            }
            Ok(())
        },
    )?;
    Ok(if all_went_well && !named.failed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The maps, with a note if a card could repeat their passes and does not.
pub(crate) fn maps(
    explainer: &Explainer<impl Model>,
    method: &Method,
    images: &Tensor,
    options: &CamOptions,
) -> Result<Vec<ClassActivationMap>> {
    let maps = explainer.maps(method, images, options)?;
    if let Some(reason) = explainer.take_reason() {
        say::note(format_args!("the card waits for the host between kernels, because {reason}"));
    }
    check_finite(&maps)?;
    Ok(maps)
}

/// Fails if the network's output is NaN, because no class is the most probable one then.
fn check_finite(maps: &[ClassActivationMap]) -> Result<()> {
    match maps.iter().map(|map| map.probability).find(|value| !value.is_finite()) {
        Some(value) => Err(candle_vision::Error::NotFinite { value }.into()),
        None => Ok(()),
    }
}

fn print(
    method: &Method,
    image: &Path,
    map: &ClassActivationMap,
    class: &str,
    output: &Path,
) -> Result<()> {
    let percent = 100.0 * map.probability;
    let image = image.display();
    let place = if map.layer == PIXELS { String::new() } else { format!(", layer {}", map.layer) };
    say::result(format_args!("{image}: {class} ({percent:.2} %), {method}{place}"))?;
    if !map.positive {
        say::result("no place in the image speaks for this class: the map is empty")?;
    }
    say::result(output.display())?;
    Ok(())
}
