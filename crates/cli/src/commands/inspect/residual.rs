//! `candle-vision inspect residual`.

use std::process::ExitCode;

use anyhow::{Context, Result};
use candle_vision::data::LoaderConfig;
use candle_vision::explain::inspection::{
    BlockStatistics, ResidualBlock, ResidualLens, WithoutBlock, residual_blocks,
};
use candle_vision::models::{Model, Pass};
use candle_vision::report::{BarColumn, bars_png};
use candle_vision::train::{Criterion, EvaluationConfig, evaluate};
use comfy_table::CellAlignment;

use super::image_name;
use crate::args::ResidualArgs;
use crate::table::table;
use crate::{measured, say, sources};

pub(crate) fn run(args: &ResidualArgs) -> Result<ExitCode> {
    let device = args.device.open()?;
    let restored = sources::restore(&args.checkpoint, &device)?;
    let model = restored.model.as_ref();
    let blocks = residual_blocks(model)?;
    let metadata = &restored.metadata;
    let folder = args.folder.as_deref();
    let dataset = measured::images(folder, &args.checkpoint, &args.data, metadata)?;
    let config = LoaderConfig { batch_size: args.batch_size, ..LoaderConfig::default() };
    let loader = sources::loader_on(&device, dataset, metadata.preprocessing.clone(), config)?;

    let mut lens = ResidualLens::new(blocks.clone());
    for batch in loader.epoch(0).take(args.batches.unwrap_or(usize::MAX)) {
        model.forward(&batch?.images, &mut Pass::eval().with_hooks(&mut lens))?;
    }
    let criterion = Criterion::new(0.0, None, metadata.classes.len(), &device)?;
    let how = EvaluationConfig { limit: args.batches, ..EvaluationConfig::default() };
    let accuracy = |model: &dyn Model| -> Result<f64> {
        let evaluation = evaluate(model, &loader, &criterion, &how, |_, _| Ok(true))?;
        Ok(evaluation.context("the evaluation was stopped")?.accuracy)
    };
    let whole = accuracy(model)?;
    let mut rows = Vec::new();
    for (block, statistics) in lens.statistics() {
        let without = accuracy(&WithoutBlock::new(model, block))?;
        rows.push(Row { block, statistics, without });
    }
    print(&rows, whole)?;
    let output = args.output.clone().unwrap_or_else(|| image_name(&args.checkpoint, "residual"));
    draw(
        &rows,
        &format!("{}: what each residual block adds", metadata.model.architecture),
        &output,
    )?;
    say::result(output.display())?;
    Ok(ExitCode::SUCCESS)
}

/// What is known of a block.
struct Row<'a> {
    block: &'a ResidualBlock,
    statistics: BlockStatistics,
    /// Accuracy of the network in which the block is skipped.
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
