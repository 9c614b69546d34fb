//! `candle-vision summary`.

use std::process::ExitCode;

use anyhow::Result;
use candle_core::Device;
use candle_vision::models::Model;
use candle_vision::models::summary::{LayerSummary, summarize};
use candle_vision::{Classifier, Registry};
use comfy_table::CellAlignment;

use crate::args::SummaryArgs;
use crate::say;
use crate::table::table;

pub(crate) fn run(args: &SummaryArgs, registry: &Registry) -> Result<ExitCode> {
    match (&args.checkpoint, &args.model) {
        (Some(path), _) => {
            let classifier = Classifier::load_with(path, registry, &Device::Cpu)?;
            print(classifier.model(), args.batch)?;
        }
        (None, Some(name)) => {
            let spec = registry.networks.spec(name, args.classes)?;
            print(&*registry.networks.build(&spec, 0, &Device::Cpu)?, args.batch)?;
        }
        (None, None) => list(registry)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Lists all networks by name.
fn list(registry: &Registry) -> Result<()> {
    let mut table = table();
    table.set_header(["network", "input", "what it is"]);
    for network in &registry.networks {
        let [channels, height, width] = network.published_input();
        table.add_row([
            network.name().to_owned(),
            format!("{channels}x{height}x{width}"),
            network.summary_line().to_owned(),
        ]);
    }
    say::result(table)?;
    Ok(())
}

fn print(model: &dyn Model, batch: usize) -> Result<()> {
    let summary = summarize(model, batch)?;
    let mut table = table();
    table.set_header(["layer", "output", "parameters", "trainable", "multiply-adds"]);
    for layer in &summary.layers {
        table.add_row(row(layer));
    }
    for column in [2, 4] {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    say::result(table)?;
    let spec = model.spec();
    say::result(format_args!(
        "{}: {} classes, input {batch} x {:?}; {} parameters ({} trainable), {} multiply-adds",
        spec.architecture,
        spec.num_classes,
        spec.input,
        grouped(summary.parameters),
        grouped(summary.trainable),
        grouped(summary.multiply_adds),
    ))?;
    Ok(())
}

fn row(layer: &LayerSummary) -> [String; 5] {
    let number = |n: usize| if n == 0 { String::new() } else { grouped(n) };
    let trainable = match layer.trainable {
        Some(true) => "yes",
        Some(false) => "frozen",
        None => "",
    };
    [
        layer.path.clone(),
        format!("{:?}", layer.output),
        number(layer.parameters),
        trainable.to_owned(),
        number(layer.multiply_adds),
    ]
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
