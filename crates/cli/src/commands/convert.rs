//! `candle-vision convert`: weights from one file format to another.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use candle_core::{DType, Device, Tensor};
use candle_vision::Registry;
use candle_vision::models::Precision;
use candle_vision::models::weights::{
    Strictness, WeightFile, check_finite, tensors, timm_tensors, to_safetensors, to_torch,
};
use candle_vision::train::write_atomically;

use crate::args::{ConvertArgs, Names};
use crate::say;

pub(crate) fn run(args: &ConvertArgs, registry: &Registry) -> Result<ExitCode> {
    let write = format_of(&args.output)?;
    let file = WeightFile::read(&args.input)?;
    let (read, left_out) = (file.tensors.len(), file.left_out.clone());
    let mut converted = match &args.model {
        Some(name) => named(name, args, &file, registry)?,
        None => file.tensors.into_iter().collect(),
    };
    let in_file = || format!("cannot convert `{}`", args.input.display());
    for (name, tensor) in &mut converted {
        check_finite(name, tensor).with_context(in_file)?;
        let Some(precision) = args.precision.filter(|_| tensor.dtype().is_float()) else {
            continue;
        };
        *tensor = tensor.to_dtype(dtype(precision))?;
        let too_large = || format!("{}: {precision} is too small for its values", in_file());
        check_finite(name, tensor).with_context(too_large)?;
    }
    if !left_out.is_empty() {
        say::note(format_args!("left out: {}", left_out.join(", ")));
    }
    let written = converted.len();
    let bytes = write(converted).with_context(in_file)?;
    write_atomically(&args.output, &bytes)?;
    say::result(format_args!(
        "{}: {written} of {read} tensors, {} bytes",
        args.output.display(),
        bytes.len()
    ))?;
    Ok(ExitCode::SUCCESS)
}

/// The tensors under the names and in the form that the network has them, here or in timm.
fn named(
    name: &str,
    args: &ConvertArgs,
    file: &WeightFile,
    registry: &Registry,
) -> Result<BTreeMap<String, Tensor>> {
    let entry = registry.networks.get(name)?;
    let published = entry.published_weights().first().map(|weights| weights.num_classes);
    let classes = args.classes.or(published.filter(|classes| *classes > 0)).unwrap_or(1000);
    let model = registry.networks.build(&entry.spec(classes), 0, &Device::Cpu)?;
    let report = file.load(&*model, Strictness::ExceptAuxiliary).map_err(|error| {
        anyhow::anyhow!("{error}; for another number of classes than {classes} give --classes N")
    })?;
    let absent = &report.new_auxiliary;
    say::note(&report);
    if !absent.is_empty() {
        say::note(format_args!(
            "the auxiliary classifiers of `{name}` ({}) are absent from the file, or are for other classes: {} tensors of \
             them are not written; only training runs them",
            model.auxiliary_heads().join(", "),
            absent.len()
        ));
    }
    let is_timm = args.names == Names::Timm;
    let timm = model.timm_names().filter(|_| is_timm);
    if is_timm && timm.is_none() {
        say::note(format_args!("no other names of `{name}` are known in timm"));
    }
    let mut written = match &timm {
        Some(_) => timm_tensors(&*model)?,
        None => tensors(model.parameters()),
    };
    // The network has initial values there, which belong to no file.
    for path in absent {
        written.remove(timm.as_ref().map_or(path.as_str(), |names| names.name(path)));
    }
    Ok(written)
}

type Write = fn(BTreeMap<String, Tensor>) -> candle_core::Result<Vec<u8>>;

/// The format by the name of the file.
fn format_of(output: &Path) -> Result<Write> {
    match output.extension().and_then(|extension| extension.to_str()) {
        Some("safetensors") => Ok(to_safetensors),
        Some("pth" | "pt" | "bin") => Ok(to_torch),
        _ => bail!(
            "`{}` tells no format; name a file that ends in .safetensors, or in .pth for PyTorch",
            output.display()
        ),
    }
}

fn dtype(precision: Precision) -> DType {
    match precision {
        Precision::F32 => DType::F32,
        Precision::F16 => DType::F16,
        Precision::Bf16 => DType::BF16,
    }
}
