//! `candle-vision parity`: a network's outputs against those of another program.

use std::collections::HashMap;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};
use candle_core::{DType, Device, Tensor};
use candle_vision::Registry;
use candle_vision::explain::Recorder;
use candle_vision::models::weights::{Strictness, WeightFile};
use candle_vision::models::{ModelSpec, Pass};
use candle_vision::registry::did_you_mean;
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
    let mut reference = WeightFile::read(&args.reference)?.tensors;
    let mut take = |name: &str| {
        reference.remove(name).with_context(|| {
            format!(
                "`{}` holds no tensor `{name}`; docs/models.md shows how to make such a file",
                args.reference.display()
            )
        })
    };
    let (images, logits) = (take(INPUT)?.to_dtype(DType::F32)?, take(LOGITS)?);
    let spec = spec(args, &images, &logits, registry)?;
    let model = registry.networks.build(&spec, 0, &Device::Cpu)?;
    let data_dir = args.data.or(None);
    let entry = registry.networks.get(&args.network)?;
    let weights = Weights::find(entry, args.weights.as_deref().unwrap_or(IMAGENET), &data_dir)?;
    weights.provide(|item| fetch_weights(item, &data_dir, &args.origins))?;
    WeightFile::read(&weights.file)?.load(&*model, Strictness::ExceptAuxiliary)?;

    let mut recorder = Recorder::new(reference.keys().cloned());
    let ours = model.forward(&images, &mut Pass::eval().with_hooks(&mut recorder))?;
    let mut rows = Vec::new();
    for (layer, output) in recorder.outputs() {
        rows.push(Row::of(layer, output, &reference[layer])?);
    }
    check_layers(&reference, &recorder, &args.reference)?;
    rows.push(Row::of(LOGITS, &ours, &logits)?);
    print(&rows)?;
    // A NaN is no agreement.
    let agrees = rows.iter().all(|row| row.relative <= args.tolerance);
    Ok(if agrees { ExitCode::SUCCESS } else { ExitCode::FAILURE })
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

/// A layer's outputs, compared.
struct Row {
    layer: String,
    shape: Vec<usize>,
    /// The largest difference of two numbers.
    largest: f64,
    /// `||ours - theirs|| / ||theirs||`
    relative: f64,
}

impl Row {
    fn of(layer: &str, ours: &Tensor, theirs: &Tensor) -> Result<Self> {
        let shape = ours.dims().to_vec();
        ensure!(
            ours.dims() == theirs.dims(),
            "`{layer}` gives {shape:?} here and {:?} in the reference",
            theirs.dims()
        );
        let (ours, theirs) = (ours.to_dtype(DType::F64)?, theirs.to_dtype(DType::F64)?);
        let difference = (ours - &theirs)?.flatten_all()?;
        let norm =
            |x: &Tensor| -> Result<f64> { Ok(x.sqr()?.sum_all()?.to_scalar::<f64>()?.sqrt()) };
        Ok(Self {
            layer: layer.to_owned(),
            shape,
            largest: difference.abs()?.max(0)?.to_scalar()?,
            relative: norm(&difference)? / norm(&theirs)?.max(f64::MIN_POSITIVE),
        })
    }
}

fn print(rows: &[Row]) -> Result<()> {
    let mut table = table();
    table.set_header(["layer", "shape", "largest difference", "relative"]);
    for row in rows {
        let Row { layer, shape, largest, relative } = row;
        table.add_row([
            layer.clone(),
            format!("{shape:?}"),
            format!("{largest:.2e}"),
            format!("{relative:.2e}"),
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
