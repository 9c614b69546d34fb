//! `candle-vision models`: the networks and their published weights.

use std::process::ExitCode;

use anyhow::{Result, bail};
use candle_vision::Registry;
use candle_vision::models::{NetworkEntry, PublishedWeights};
use candle_vision::registry::did_you_mean;
use comfy_table::CellAlignment;
use serde::Serialize;

use crate::args::ModelsArgs;
use crate::say;
use crate::table::table;

pub(crate) fn run(args: &ModelsArgs, registry: &Registry) -> Result<ExitCode> {
    list(args.part.as_deref(), args.json, registry)?;
    Ok(ExitCode::SUCCESS)
}

/// Lists the networks with `part` in their name.
pub(crate) fn list(part: Option<&str>, json: bool, registry: &Registry) -> Result<()> {
    let part = part.unwrap_or_default();
    let found: Vec<&NetworkEntry> =
        registry.networks.iter().filter(|entry| entry.name().contains(part)).collect();
    if found.is_empty() {
        bail!(
            "no network has `{part}` in its name{}",
            did_you_mean(part, registry.networks.names())
        )
    }
    if json {
        for entry in found {
            say::result(serde_json::to_string(&Line::of(entry))?)?;
        }
        return Ok(());
    }
    let mut table = table();
    table.set_header([
        "network",
        "input",
        "weights",
        "top-1",
        "parameters",
        "multiply-adds",
        "file",
        "what it is",
    ]);
    for entry in found {
        let mut weights = entry.published_weights().iter();
        let [channels, height, width] = entry.published_input();
        let input = format!("{channels}x{height}x{width}");
        let [name, accuracy, parameters, products, size] =
            weights.next().map(cells).unwrap_or_default();
        let about = entry.summary_line().to_owned();
        table.add_row([
            entry.name().to_owned(),
            input,
            name,
            accuracy,
            parameters,
            products,
            size,
            about,
        ]);
        for other in weights {
            let [name, accuracy, parameters, products, size] = cells(other);
            table.add_row([
                String::new(),
                String::new(),
                name,
                accuracy,
                parameters,
                products,
                size,
                String::new(),
            ]);
        }
    }
    for column in 3..=6 {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    say::result(table)?;
    Ok(())
}

/// Name, accuracy, parameters, multiply-adds and size of the file. What the publisher does not say stays empty.
fn cells(weights: &PublishedWeights) -> [String; 5] {
    let known = |is_known: bool, text: String| if is_known { text } else { String::new() };
    let millions = weights.parameters as f64 / 1e6;
    let billions = weights.multiply_adds as f64 / 1e9;
    let megabytes = weights.bytes as f64 / 1e6;
    [
        weights.name.clone(),
        known(weights.accuracy > 0.0, format!("{:.2} %", 100.0 * weights.accuracy)),
        known(weights.parameters > 0, format!("{millions:.2} M")),
        known(weights.multiply_adds > 0, format!("{billions:.2} G")),
        known(weights.bytes > 0, format!("{megabytes:.0} MB")),
    ]
}

/// A network as `--json` prints it.
#[derive(Serialize)]
struct Line<'a> {
    name: &'a str,
    family: &'a str,
    summary: &'a str,
    input: [usize; 3],
    smallest: usize,
    weights: Vec<Published<'a>>,
}

#[derive(Serialize)]
struct Published<'a> {
    name: &'a str,
    file: &'a str,
    url: &'a str,
    source: &'a str,
    classes: usize,
    accuracy: f64,
    top5_accuracy: f64,
    parameters: usize,
    multiply_adds: u64,
    bytes: u64,
    resize: usize,
    crop: usize,
}

impl<'a> Line<'a> {
    fn of(entry: &'a NetworkEntry) -> Self {
        Self {
            name: entry.name(),
            family: entry.family_name(),
            summary: entry.summary_line(),
            input: entry.published_input(),
            smallest: entry.input_sizes().smallest,
            weights: entry.published_weights().iter().map(Published::of).collect(),
        }
    }
}

impl<'a> Published<'a> {
    fn of(weights: &'a PublishedWeights) -> Self {
        Self {
            name: &weights.name,
            file: &weights.file,
            url: &weights.url,
            source: &weights.source,
            classes: weights.num_classes,
            accuracy: weights.accuracy,
            top5_accuracy: weights.top5_accuracy,
            parameters: weights.parameters,
            multiply_adds: weights.multiply_adds,
            bytes: weights.bytes,
            resize: weights.preprocessing.resize,
            crop: weights.preprocessing.crop,
        }
    }
}
