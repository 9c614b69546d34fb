//! `candle-vision parity`: a network's outputs against those of another program.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};
use candle_core::{DType, Device, Tensor};
use candle_vision::Registry;
use candle_vision::explain::Recorder;
use candle_vision::models::parity::{LayerDifference, ReferenceOutputs};
use candle_vision::models::weights::{Strictness, WeightFile};
use candle_vision::models::{ModelSpec, Pass};
use candle_vision::registry::did_you_mean;
use candle_vision_fetch::{Item, sha256_of_file};
use candle_vision_recipe::{IMAGENET, Weights};
use comfy_table::CellAlignment;

use crate::args::ParityArgs;
use crate::network::fetch_weights;
use crate::say;
use crate::table::table;

/// Names in the reference file: the images, and the logits.
const INPUT: &str = "input";
const LOGITS: &str = "logits";

pub(crate) fn run(args: &ParityArgs, registry: &Registry) -> Result<ExitCode> {
    let rows = match &args.reference {
        Some(file) => with_file(args, file, registry)?,
        None => with_stored(args, registry)?,
    };
    print(&rows)?;
    // A NaN is no agreement.
    let agrees = rows.iter().all(|row| row.relative <= args.tolerance);
    Ok(if agrees { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The network beside the outputs that the program carries.
fn with_stored(args: &ParityArgs, registry: &Registry) -> Result<Vec<LayerDifference>> {
    let name = registry.networks.get(&args.network)?.name();
    let (reference, weights) = match &args.weights {
        None => (ReferenceOutputs::of(name)?, None),
        Some(weights) => {
            let (file, weights) = read_weights(args, weights, registry)?;
            (ReferenceOutputs::of_weights(name, &sha256_of_file(&file)?)?, Some((file, weights)))
        }
    };
    let reference = reference.with_context(|| {
        let of = match &weights {
            Some((file, _)) => format!("the weights in `{}`", file.display()),
            None => format!("`{name}`"),
        };
        format!(
            "no outputs are stored for {of}; name a file of them with --reference FILE, docs/models.md shows how to \
             make one"
        )
    })?;
    let model = registry.networks.build(&reference.spec(), 0, &Device::Cpu)?;
    match weights {
        Some((_, weights)) => drop(weights.load(&*model, Strictness::ExceptAuxiliary)?),
        None => reference.fill(&*model)?,
    }
    Ok(reference.compare(&*model)?)
}

/// The file that a name of weights stands for, fetched if need be, and what is in it.
fn read_weights(
    args: &ParityArgs,
    name: &str,
    registry: &Registry,
) -> Result<(PathBuf, WeightFile)> {
    let data_dir = args.data.or(None);
    let entry = registry.networks.get(&args.network)?;
    let bring = |item: &Item| fetch_weights(item, &data_dir, &args.origins);
    let weights = Weights::provide(entry, name, &data_dir, bring)?;
    let read = WeightFile::read(&weights.file)?;
    Ok((weights.file, read))
}

/// The network beside the outputs in a file of another program's.
fn with_file(args: &ParityArgs, file: &Path, registry: &Registry) -> Result<Vec<LayerDifference>> {
    let mut reference = WeightFile::read(file)?.tensors;
    let mut take = |name: &str| {
        reference.remove(name).with_context(|| {
            format!(
                "`{}` holds no tensor `{name}`; docs/models.md shows how to make such a file",
                file.display()
            )
        })
    };
    let (images, logits) = (take(INPUT)?.to_dtype(DType::F32)?, take(LOGITS)?);
    let spec = spec(args, &images, &logits, registry)?;
    let model = registry.networks.build(&spec, 0, &Device::Cpu)?;
    let weights = args.weights.as_deref().unwrap_or(IMAGENET);
    read_weights(args, weights, registry)?.1.load(&*model, Strictness::ExceptAuxiliary)?;

    let mut recorder = Recorder::new(reference.keys().cloned());
    let ours = model.forward(&images, &mut Pass::eval().with_hooks(&mut recorder))?;
    let mut rows = Vec::new();
    for (layer, output) in recorder.outputs() {
        rows.push(LayerDifference::between(layer, output, &reference[layer])?);
    }
    check_layers(&reference, &recorder, file)?;
    rows.push(LayerDifference::between(LOGITS, &ours, &logits)?);
    Ok(rows)
}

fn spec(
    args: &ParityArgs,
    images: &Tensor,
    logits: &Tensor,
    registry: &Registry,
) -> Result<ModelSpec> {
    let (&[batch, channels, height, width], &[rows, classes]) = (images.dims(), logits.dims())
    else {
        bail!(
            "`{INPUT}` is [batch, channels, height, width] and `{LOGITS}` [batch, classes], got {:?} and {:?}",
            images.dims(),
            logits.dims()
        )
    };
    ensure!(batch == rows, "there are {batch} images and {rows} rows of logits");
    Ok(registry.networks.spec(&args.network, classes)?.input([channels, height, width]))
}

fn check_layers(
    reference: &HashMap<String, Tensor>,
    recorder: &Recorder,
    path: &Path,
) -> Result<()> {
    let Some(unknown) = reference.keys().find(|name| recorder.get(name).is_none()) else {
        return Ok(());
    };
    let known = recorder.outputs().iter().map(|(layer, _)| layer.as_str());
    bail!(
        "`{}` names the layer `{unknown}`, which the network does not have{}",
        path.display(),
        did_you_mean(unknown, known)
    )
}

fn print(rows: &[LayerDifference]) -> Result<()> {
    let mut table = table();
    table.set_header(["layer", "shape", "largest difference", "relative"]);
    for row in rows {
        table.add_row([
            row.path.clone(),
            format!("{:?}", row.shape),
            format!("{:.2e}", row.largest),
            format!("{:.2e}", row.relative),
        ]);
    }
    for column in [2, 3] {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    say::result(table)?;
    Ok(())
}
