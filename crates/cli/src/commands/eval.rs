//! `candle-vision eval`.

use std::collections::HashSet;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use candle_vision::Registry;
use candle_vision::data::LoaderConfig;
use candle_vision::train::{Evaluation, evaluate, write_atomically};
use candle_vision_recipe::data::loader_on;

use crate::args::EvalArgs;
use crate::network::Named;
use crate::out_of_memory::with_remedy;
use crate::output_names::unused;
use crate::progress::Count;
use crate::{confusion, device, measured, say};

pub(crate) fn run(args: &EvalArgs, registry: &Registry) -> Result<ExitCode> {
    let device = args.device.open()?;
    let network = args.network.open(&args.data, registry, &device)?;
    let classifier = &network.classifier;
    let folder = args.folder.as_deref();
    let dataset = measured::images(folder, args.list.as_deref(), &network, &args.data, registry)?;
    let config = LoaderConfig::new(args.batch_size).skip_broken(args.skip_broken);
    let loader = loader_on(&device, dataset, classifier.preprocessing().clone(), config)?;
    device::tell_of_precision(args.precision, &device);
    let tta = args.tta.build(registry)?;
    let mut count = Count::new("evaluating");
    let evaluator = evaluate(classifier.model(), &loader).precision(args.precision);
    let evaluation = evaluator.tta(tta.as_deref()).run_while(|done, batches| {
        count.show(done, batches);
        Ok(true)
    });
    drop(count);
    for skipped in loader.skipped() {
        say::left_out(&skipped);
    }
    say::skipped([&loader]);
    let option = |batch_size| format!("--batch-size {batch_size}");
    let evaluation =
        evaluation.map_err(|error| with_remedy(error, option, device::limit(), None))?;
    let evaluation = evaluation.context("the evaluation was stopped")?;
    print(args, &network, &evaluation)?;
    Ok(ExitCode::SUCCESS)
}

fn print(args: &EvalArgs, network: &Named, evaluation: &Evaluation) -> Result<()> {
    let classes = network.classifier.classes();
    let several = evaluation.is_multi_label();
    let right = evaluation.right();
    let total = evaluation.predictions.len();
    say::result(format_args!(
        "accuracy {:.2} % ({right} of {total}{}), loss {:.4}",
        100.0 * evaluation.accuracy,
        if several { " right in all labels" } else { "" },
        evaluation.loss
    ))?;
    if several {
        return print_labels(args, evaluation, classes);
    }
    let (counts, is_large) = (&evaluation.confusion, classes.len() > confusion::MOST_CLASSES);
    if is_large {
        say::result(confusion::summary(counts, classes))?;
    } else {
        say::result(confusion::matrix(counts, classes))?;
    }
    let output = args.output.clone().or_else(|| is_large.then(|| default_output(network)));
    if let Some(output) = output {
        write_atomically(&output, confusion::csv(counts, classes).as_bytes())?;
        say::result(format_args!("confusion matrix: {}", output.display()))?;
    }
    Ok(())
}

/// The scores of each label. None is taken for another, so there is no matrix.
fn print_labels(args: &EvalArgs, evaluation: &Evaluation, classes: &[String]) -> Result<()> {
    let scores = evaluation.class_scores();
    let is_large = classes.len() > confusion::MOST_CLASSES;
    say::result(confusion::label_table(&scores, classes))?;
    if is_large && args.output.is_none() {
        say::result("all classes: name a file with --output FILE")?;
    }
    if let Some(output) = &args.output {
        write_atomically(output, confusion::label_csv(&scores, classes).as_bytes())?;
        say::result(format_args!("scores of each class: {}", output.display()))?;
    }
    Ok(())
}

/// The output goes to the current folder: evaluating a run changes nothing in the run's folder.
fn default_output(network: &Named) -> PathBuf {
    let mut name = network.file.file_stem().unwrap_or_default().to_os_string();
    name.push(".confusion.csv");
    unused(name.into(), &HashSet::new())
}
