//! `candle-vision summary`.

use std::process::ExitCode;

use anyhow::Result;
use candle_core::Device;
use candle_vision::models::Model;
use candle_vision::models::summary::{LayerSummary, Summary, summarize};
use candle_vision::{Classifier, Registry};
use comfy_table::CellAlignment;
use serde::Serialize;

use crate::args::SummaryArgs;
use crate::commands::models::list;
use crate::say;
use crate::table::table;

pub(crate) fn run(args: &SummaryArgs, registry: &Registry) -> Result<ExitCode> {
    match (&args.checkpoint, &args.model) {
        (Some(path), _) => {
            let classifier = Classifier::load_with(path, registry, &Device::Cpu)?;
            print(classifier.model(), args)?;
        }
        (None, Some(name)) => {
            let mut spec = registry.networks.spec(name, args.classes)?;
            if let Some(shape) = args.input {
                spec = spec.input(shape.image);
            }
            print(&*registry.networks.build(&spec, 0, &Device::Cpu)?, args)?;
        }
        (None, None) => list(None, args.json, registry)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn print(model: &dyn Model, args: &SummaryArgs) -> Result<()> {
    let batch = args.input.and_then(|shape| shape.batch).unwrap_or(args.batch);
    let summary = summarize(model, batch)?;
    let summary = args.depth.map_or_else(|| summary.clone(), |depth| summary.at_depth(depth));
    if args.json {
        say::result(serde_json::to_string_pretty(&Whole::of(model, batch, &summary))?)?;
        return Ok(());
    }
    let mut table = table();
    table.set_header([
        "layer",
        "kernel",
        "output",
        "parameters",
        "trainable",
        "multiply-adds",
        "output MiB",
    ]);
    for layer in &summary.layers {
        table.add_row(row(layer));
    }
    for column in [3, 5, 6] {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    say::result(table)?;
    let spec = model.spec();
    let of_training = match training_only(&summary) {
        0 => String::new(),
        count => format!(
            ", {} of them in auxiliary classifiers, which only training runs",
            grouped(count)
        ),
    };
    say::result(format_args!(
        "{}: {} classes, input {batch} x {:?}; {} parameters ({} trainable, {:.1} MiB){of_training}, {} multiply-adds",
        spec.architecture,
        spec.num_classes,
        spec.input,
        grouped(summary.parameters),
        grouped(summary.trainable),
        mebibytes(summary.parameter_bytes()),
        grouped(summary.multiply_adds),
    ))?;
    say::result(format_args!(
        "memory as torchinfo estimates it: {:.2} MiB = input {:.2} + forward and backward pass {:.2} + parameters {:.2}; \
         `candle-vision memory` counts what a training step takes",
        mebibytes(summary.total_bytes()),
        mebibytes(summary.input_bytes),
        mebibytes(summary.forward_backward_bytes),
        mebibytes(summary.parameter_bytes()),
    ))?;
    Ok(())
}

/// Learned numbers of auxiliary classifiers.
fn training_only(summary: &Summary) -> usize {
    let rows = summary.layers.iter().filter(|layer| layer.training_only);
    rows.map(|layer| layer.parameters).sum()
}

fn row(layer: &LayerSummary) -> [String; 7] {
    let number = |n: usize| if n == 0 { String::new() } else { grouped(n) };
    let (output, size) = match (layer.output.is_empty(), layer.training_only) {
        (false, _) => {
            (format!("{:?}", layer.output), format!("{:.2}", mebibytes(layer.output_bytes())))
        }
        (true, true) => ("in training only".to_owned(), String::new()),
        (true, false) => Default::default(),
    };
    [
        layer.path.clone(),
        layer.kernel.map(|[height, width]| format!("{height}x{width}")).unwrap_or_default(),
        output,
        number(layer.parameters),
        trainable(layer).to_owned(),
        number(layer.multiply_adds),
        size,
    ]
}

fn trainable(layer: &LayerSummary) -> &'static str {
    match layer.trainable {
        Some(true) => "yes",
        Some(false) => "frozen",
        None => "",
    }
}

fn mebibytes(bytes: usize) -> f64 {
    bytes as f64 / (1 << 20) as f64
}

/// A network as `--json` prints it.
#[derive(Serialize)]
struct Whole<'a> {
    architecture: &'a str,
    classes: usize,
    /// `[batch, channels, height, width]`
    input: [usize; 4],
    parameters: usize,
    /// How many of them are those of auxiliary classifiers.
    parameters_in_training_only: usize,
    trainable: usize,
    multiply_adds: usize,
    input_bytes: usize,
    forward_backward_bytes: usize,
    parameter_bytes: usize,
    total_bytes: usize,
    layers: Vec<Layer<'a>>,
}

#[derive(Serialize)]
struct Layer<'a> {
    path: &'a str,
    kernel: Option<[usize; 2]>,
    output: &'a [usize],
    parameters: usize,
    trainable: Option<bool>,
    multiply_adds: usize,
    output_bytes: usize,
    training_only: bool,
}

impl<'a> Whole<'a> {
    fn of(model: &'a dyn Model, batch: usize, summary: &'a Summary) -> Self {
        let [channels, height, width] = model.spec().input;
        let layers = summary.layers.iter().map(|layer| Layer {
            path: &layer.path,
            kernel: layer.kernel,
            output: &layer.output,
            parameters: layer.parameters,
            trainable: layer.trainable,
            multiply_adds: layer.multiply_adds,
            output_bytes: layer.output_bytes(),
            training_only: layer.training_only,
        });
        Self {
            architecture: &model.spec().architecture,
            classes: model.spec().num_classes,
            input: [batch, channels, height, width],
            parameters: summary.parameters,
            parameters_in_training_only: training_only(summary),
            trainable: summary.trainable,
            multiply_adds: summary.multiply_adds,
            input_bytes: summary.input_bytes,
            forward_backward_bytes: summary.forward_backward_bytes,
            parameter_bytes: summary.parameter_bytes(),
            total_bytes: summary.total_bytes(),
            layers: layers.collect(),
        }
    }
}

/// Groups digits: 11689512 becomes 11,689,512.
fn grouped(n: usize) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::grouped;

    #[test]
    fn digits_are_grouped_by_three() {
        let shown = [7, 123, 1234, 11_689_512].map(grouped);
        assert_eq!(shown, ["7", "123", "1,234", "11,689,512"]);
    }
}
