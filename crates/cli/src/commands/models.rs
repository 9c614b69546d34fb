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
            weights.next().map_or_else(|| unpublished(entry), cells);
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
    let megabytes = weights.bytes as f64 / 1e6;
    let [parameters, products] = costs(weights.parameters, weights.multiply_adds);
    [
        weights.name.clone(),
        shown(weights.accuracy > 0.0, format!("{:.2} %", 100.0 * weights.accuracy)),
        parameters,
        products,
        shown(weights.bytes > 0, format!("{megabytes:.0} MB")),
    ]
}

/// The same for a network without published weights.
fn unpublished(entry: &NetworkEntry) -> [String; 5] {
    let known = entry.known_costs();
    let costs = known.map(|known| costs(known.parameters, known.multiply_adds));
    let [parameters, products] = costs.unwrap_or_default();
    [String::new(), String::new(), parameters, products, String::new()]
}

fn costs(parameters: usize, multiply_adds: u64) -> [String; 2] {
    let millions = format!("{:.2} M", parameters as f64 / 1e6);
    let billions = format!("{:.2} G", multiply_adds as f64 / 1e9);
    // Small networks would have 0.00 billions.
    let thousandths = format!("{:.2} M", multiply_adds as f64 / 1e6);
    let products = if multiply_adds < 10_000_000 { thousandths } else { billions };
    [shown(parameters > 0, millions), shown(multiply_adds > 0, products)]
}

fn shown(is_known: bool, text: String) -> String {
    if is_known { text } else { String::new() }
}

/// `None` for 0, which stands for what is not known.
fn known<T: PartialEq + Default>(number: T) -> Option<T> {
    (number != T::default()).then_some(number)
}

/// A network as `--json` prints it.
#[derive(Serialize)]
struct Line<'a> {
    name: &'a str,
    family: &'a str,
    summary: &'a str,
    input: [usize; 3],
    smallest: usize,
    /// How many classes the costs are counted with, 0 without a head; `null` where no costs are known.
    classes: Option<usize>,
    parameters: Option<usize>,
    multiply_adds: Option<u64>,
    weights: Vec<Published<'a>>,
}

/// What the publisher does not say is `null`.
#[derive(Serialize)]
struct Published<'a> {
    name: &'a str,
    file: &'a str,
    url: &'a str,
    source: &'a str,
    classes: usize,
    accuracy: Option<f64>,
    top5_accuracy: Option<f64>,
    parameters: Option<usize>,
    multiply_adds: Option<u64>,
    bytes: Option<u64>,
    resize: usize,
    crop: usize,
}

impl<'a> Line<'a> {
    fn of(entry: &'a NetworkEntry) -> Self {
        let costs = entry.known_costs();
        Self {
            name: entry.name(),
            family: entry.family_name(),
            summary: entry.summary_line(),
            input: entry.published_input(),
            smallest: entry.input_sizes().smallest,
            classes: costs.map(|costs| costs.num_classes),
            parameters: costs.and_then(|costs| known(costs.parameters)),
            multiply_adds: costs.and_then(|costs| known(costs.multiply_adds)),
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
            accuracy: known(weights.accuracy),
            top5_accuracy: known(weights.top5_accuracy),
            parameters: known(weights.parameters),
            multiply_adds: known(weights.multiply_adds),
            bytes: known(weights.bytes),
            resize: weights.preprocessing.resize,
            crop: weights.preprocessing.crop,
        }
    }
}
