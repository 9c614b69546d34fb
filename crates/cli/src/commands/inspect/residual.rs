//! `candle-vision inspect residual`.

use std::process::ExitCode;

use anyhow::Result;
use candle_vision::Registry;
use candle_vision::data::LoaderConfig;
use candle_vision::explain::inspection::{
    BlockStatistics, ResidualBlock, ResidualLens, WithoutBlock, residual_blocks,
};
use candle_vision::models::{Model, Pass};
use candle_vision::report::{BarColumn, bars_png};
use candle_vision::train::evaluate;
use candle_vision_recipe::data::loader_on;
use comfy_table::CellAlignment;

use super::image_name;
use crate::args::ResidualArgs;
use crate::table::table;
use crate::{measured, say};

pub(crate) fn run(args: &ResidualArgs, registry: &Registry) -> Result<ExitCode> {
    let device = args.device.open()?;
    let network = args.network.open(&args.data, registry, &device)?;
    let classifier = &network.classifier;
    let model = classifier.model();
    let blocks = residual_blocks(model)?;
    let folder = args.folder.as_deref();
    let dataset = measured::images(folder, None, &network, &args.data, registry)?;
    let config = LoaderConfig::new(args.batch_size);
    let loader = loader_on(&device, dataset, classifier.preprocessing().clone(), config)?;

    let mut lens = ResidualLens::new(blocks.clone());
    for batch in loader.epoch(0).take(args.batches.unwrap_or(usize::MAX)) {
        model.forward(&batch?.images, &mut Pass::eval().with_hooks(&mut lens))?;
    }
    let accuracy = |model: &dyn Model| -> Result<f64> {
        Ok(evaluate(model, &loader).limit(args.batches).run()?.accuracy)
    };
    let whole = accuracy(model)?;
    let mut rows = Vec::new();
    for (block, statistics) in lens.statistics() {
        let without = accuracy(&WithoutBlock::new(model, block))?;
        rows.push(Row { block, statistics, without });
    }
    print(&rows, whole)?;
    let output = args.output.clone().unwrap_or_else(|| image_name(&network.file, "residual"));
    draw(
        &rows,
        &format!("{}: what each residual block adds", classifier.metadata().model.architecture),
        &output,
    )?;
    say::result(output.display())?;
    Ok(ExitCode::SUCCESS)
}

/// The measurements of a block.
struct Row<'a> {
    block: &'a ResidualBlock,
    statistics: BlockStatistics,
    /// Accuracy of the network when this block is skipped, `0.0..=1.0`.
    without: f64,
}

fn print(rows: &[Row<'_>], whole: f64) -> Result<()> {
    let mut table = table();
    table.set_header(["block", "|F(x)| / |x|", "cosine", "switched", "accuracy without it"]);
    for Row { block, statistics, without } in rows {
        table.add_row([
            block.path.clone(),
            ratio(statistics.ratio),
            ratio(statistics.cosine),
            percent(statistics.switched),
            format!("{} ({:+.2})", percent(*without), 100.0 * (without - whole)),
        ]);
    }
    for column in 1..=4 {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    say::result(table)?;
    say::result(format_args!("accuracy of the whole network: {}", percent(whole)))?;
    Ok(())
}

fn draw(rows: &[Row<'_>], title: &str, output: &std::path::Path) -> Result<()> {
    let column = |title, value: fn(&Row<'_>) -> f64, describe| BarColumn {
        title,
        values: rows.iter().map(value).collect(),
        reach: None,
        describe,
    };
    let labels: Vec<&str> = rows.iter().map(|row| row.block.path.as_str()).collect();
    let columns = [
        column("|F(x)| / |x|", |row| row.statistics.ratio, ratio),
        column("cosine of F(x) and x", |row| row.statistics.cosine, ratio),
        column("units switched", |row| row.statistics.switched, percent),
        column("accuracy without the block", |row| row.without, percent),
    ];
    Ok(bars_png(&labels, &columns, title, output)?)
}

fn ratio(value: f64) -> String {
    format!("{value:.3}")
}

fn percent(share: f64) -> String {
    format!("{:.2} %", 100.0 * share)
}
