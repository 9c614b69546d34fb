//! `candle-vision summary`.

use std::process::ExitCode;

use anyhow::Result;
use candle_core::Device;
use candle_vision::models::summary::{LayerSummary, Summary, summarize};
use candle_vision::models::{ARCHITECTURES, Model, ModelSpec, build};
use comfy_table::CellAlignment;

use crate::args::SummaryArgs;
use crate::table::table;
use crate::{say, sources};

pub(crate) fn run(args: &SummaryArgs) -> Result<ExitCode> {
    let model = match (&args.checkpoint, &args.model) {
        (Some(path), _) => sources::restore(path, &Device::Cpu)?.model,
        (None, Some(name)) => build(&ModelSpec::new(name, args.classes), 0, &Device::Cpu)?,
        (None, None) => return list(),
    };
    print(model.as_ref(), &summarize(model.as_ref(), args.batch)?, args.batch)?;
    Ok(ExitCode::SUCCESS)
}

/// Every network by name.
fn list() -> Result<ExitCode> {
    let mut table = table();
    table.set_header(["network", "input", "what it is"]);
    for (name, what) in ARCHITECTURES {
        let [channels, height, width] = ModelSpec::new(name, 1).input;
        table.add_row([
            (*name).to_owned(),
            format!("{channels}x{height}x{width}"),
            (*what).to_owned(),
        ]);
    }
    say::result(table)?;
    Ok(ExitCode::SUCCESS)
}

fn print(model: &dyn Model, summary: &Summary, batch: usize) -> Result<()> {
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

/// 11689512 as 11,689,512.
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
