//! `candle-vision eval`.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use candle_vision::data::transforms::Compose;
use candle_vision::data::{DataLoader, Dataset, ImageFolder, LoaderConfig, Split};
use candle_vision::train::{Criterion, Evaluation, evaluate};

use crate::args::EvalArgs;
use crate::progress::Count;
use crate::settings::Recipe;
use crate::table::table;
use crate::{device, say, sources};

pub(crate) fn run(args: &EvalArgs) -> Result<ExitCode> {
    let device = device::parse(&args.device)?;
    let restored = sources::restore(&args.checkpoint, &device)?;
    let metadata = &restored.metadata;
    let dataset = dataset(args, metadata.seed)?;
    check_classes(dataset.classes(), &metadata.classes)?;
    let config = LoaderConfig {
        batch_size: args.batch_size,
        skip_broken: args.skip_broken,
        ..LoaderConfig::default()
    };
    let preprocessing: Compose = metadata.preprocessing.clone();
    let loader = DataLoader::new(dataset, preprocessing, config, device.clone())?;
    let criterion = Criterion::new(0.0, None, metadata.classes.len(), &device)?;
    let mut count = Count::new("evaluating");
    let evaluation =
        evaluate(restored.model.as_ref(), &loader, &criterion, None, |done, batches| {
            count.show(done, batches);
            Ok(true)
        });
    drop(count);
    for skipped in loader.skipped() {
        say::note(format_args!("left out: {}: {}", skipped.name, skipped.reason));
    }
    let evaluation = evaluation?.context("the evaluation was stopped")?;
    print(&evaluation, &metadata.classes)?;
    Ok(ExitCode::SUCCESS)
}

/// The folder that was asked for, or the validation pictures of the run the checkpoint lies in.
fn dataset(args: &EvalArgs, seed: u64) -> Result<Arc<dyn Dataset>> {
    if let Some(folder) = &args.folder {
        let val = folder.join(Split::Val.name());
        let folder = if val.is_dir() { &val } else { folder };
        return Ok(Arc::new(ImageFolder::new(folder)?));
    }
    let run = args.checkpoint.parent().unwrap_or(Path::new("."));
    let config = run.join("config.toml");
    if !config.is_file() {
        bail!(
            "`{}` lies in no run folder; name the pictures to measure it on with --folder DIR",
            args.checkpoint.display()
        )
    }
    let settings = Recipe::read(&config)?.settings()?;
    sources::open(&settings.data, &args.data.data, Split::Val, seed)
}

fn check_classes(found: &[String], expected: &[String]) -> Result<()> {
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
