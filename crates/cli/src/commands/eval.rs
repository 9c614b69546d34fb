//! `candle-vision eval`.

use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use candle_vision::data::LoaderConfig;
use candle_vision::train::{Criterion, Evaluation, EvaluationConfig, evaluate};

use crate::args::EvalArgs;
use crate::out_of_memory::with_remedy;
use crate::progress::Count;
use crate::table::table;
use crate::{device, say, sources};

pub(crate) fn run(args: &EvalArgs) -> Result<ExitCode> {
    let device = args.device.open()?;
    let restored = sources::restore(&args.checkpoint, &device)?;
    let metadata = &restored.metadata;
    let folder = args.folder.as_deref();
    let dataset =
        sources::measured_pictures(folder, &args.checkpoint, &args.data.data, metadata.seed)?;
    check_classes(dataset.classes(), &metadata.classes)?;
    let config = LoaderConfig {
        batch_size: args.batch_size,
        skip_broken: args.skip_broken,
        ..LoaderConfig::default()
    };
    let loader = sources::loader_on(&device, dataset, metadata.preprocessing.clone(), config)?;
    let criterion = Criterion::new(0.0, None, metadata.classes.len(), &device)?;
    device::tell_of_precision(args.precision, &device);
    let how = EvaluationConfig { limit: None, precision: args.precision };
    let mut count = Count::new("evaluating");
    let evaluation =
        evaluate(restored.model.as_ref(), &loader, &criterion, &how, |done, batches| {
            count.show(done, batches);
            Ok(true)
        });
    drop(count);
    for skipped in loader.skipped() {
        say::note(format_args!("left out: {}: {}", skipped.name, skipped.reason));
    }
    let option = |batch_size| format!("--batch-size {batch_size}");
    let evaluation = evaluation.map_err(|error| with_remedy(error, option, None))?;
    let evaluation = evaluation.context("the evaluation was stopped")?;
    print(&evaluation, &metadata.classes)?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn check_classes(found: &[String], expected: &[String]) -> Result<()> {
    ensure!(
        found == expected,
        "these pictures have the classes {found:?}, but the checkpoint knows {expected:?}; name \
         a folder with those with --folder DIR"
    );
    Ok(())
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
