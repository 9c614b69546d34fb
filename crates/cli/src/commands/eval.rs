//! `candle-vision eval`.

use std::process::ExitCode;

use anyhow::{Context, Result};
use candle_vision::data::transforms::Compose;
use candle_vision::data::{DataLoader, LoaderConfig};
use candle_vision::train::{Criterion, Evaluation, evaluate};

use crate::args::EvalArgs;
use crate::table::table;
use crate::{device, say, sources};

pub(crate) fn run(args: &EvalArgs) -> Result<ExitCode> {
    let device = device::parse(&args.device)?;
    let restored = sources::restore(&args.checkpoint, &device)?;
    let metadata = &restored.metadata;
    let (folder, data) = (args.folder.as_deref(), &args.data.data);
    let dataset = sources::measured_on(&args.checkpoint, folder, data, metadata)?;
    let config = LoaderConfig {
        batch_size: args.batch_size,
        skip_broken: args.skip_broken,
        ..LoaderConfig::default()
    };
    let preprocessing: Compose = metadata.preprocessing.clone();
    let loader = DataLoader::new(dataset, preprocessing, config, device.clone())?;
    let criterion = Criterion::new(0.0, None, metadata.classes.len(), &device)?;
    let evaluation = evaluate(restored.model.as_ref(), &loader, &criterion, None, |_, _| Ok(true));
    for skipped in loader.skipped() {
        say::note(format_args!("left out: {}: {}", skipped.name, skipped.reason));
    }
    let evaluation = evaluation?.context("the evaluation was stopped")?;
    print(&evaluation, &metadata.classes)?;
    Ok(ExitCode::SUCCESS)
}

fn print(evaluation: &Evaluation, classes: &[String]) -> Result<()> {
    let right = evaluation.predictions.iter().filter(|p| p.label == p.predicted).count();
    let total = evaluation.predictions.len();
    say::result(format_args!(
        "accuracy {:.2} % ({right} of {total}), loss {:.4}",
        100.0 * evaluation.accuracy,
        evaluation.loss
    ))?;
    let mut table = table();
    let taken_for = classes.iter().map(|class| format!("taken for {class}"));
    table.set_header(std::iter::once("class".to_owned()).chain(taken_for));
    for (class, row) in classes.iter().zip(&evaluation.confusion) {
        let counts = row.iter().map(usize::to_string);
        table.add_row(std::iter::once(class.clone()).chain(counts));
    }
    say::result(table)?;
    Ok(())
}
