//! `candle-vision eval`.

use std::collections::HashSet;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use candle_vision::Registry;
use candle_vision::data::LoaderConfig;
use candle_vision::train::metrics::{Metric, TopK};
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
    let has_top_5 = classifier.classes().len() > 5 && !classifier.model().spec().multi_label;
    let mut metrics: Vec<Box<dyn Metric>> =
        if has_top_5 { vec![Box::new(TopK::new(5))] } else { Vec::new() };
    let evaluator = evaluate(classifier.model(), &loader).precision(args.precision);
    let evaluator = evaluator.tta(tta.as_deref()).metrics(&mut metrics);
    let evaluation = evaluator.run_while(|done, batches| {
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
    let top_5 = metrics.first().map(|metric| metric.value());
    if args.json {
        say::result(json(&network, &evaluation, top_5))?;
        return write_table(args, &network, &evaluation).map(|_| ExitCode::SUCCESS);
    }
    print(args, &network, &evaluation, top_5)?;
    Ok(ExitCode::SUCCESS)
}

/// What is measured, in one object. What cannot be said is null.
fn json(network: &Named, evaluation: &Evaluation, top_5: Option<f64>) -> serde_json::Value {
    let scores = evaluation.class_scores();
    let classes = network.classifier.classes().iter().zip(&scores).map(|(class, score)| {
        serde_json::json!({
            "class": class,
            "precision": score.precision,
            "recall": score.recall,
            "f1": score.f1,
            "images": score.support,
        })
    });
    serde_json::json!({
        "images": evaluation.predictions.len(),
        "right": evaluation.right(),
        "accuracy": evaluation.accuracy,
        "top_5": top_5,
        "loss": evaluation.loss,
        "classes": classes.collect::<Vec<_>>(),
    })
}

fn print(
    args: &EvalArgs,
    network: &Named,
    evaluation: &Evaluation,
    top_5: Option<f64>,
) -> Result<()> {
    let classes = network.classifier.classes();
    let several = evaluation.is_multi_label();
    let right = evaluation.right();
    let total = evaluation.predictions.len();
    say::result(format_args!(
        "accuracy {:.2} % ({right} of {total}{}){}, loss {:.4}",
        100.0 * evaluation.accuracy,
        if several { " right in all labels" } else { "" },
        top_5.map_or_else(String::new, |top_5| format!(", top 5 {:.2} %", 100.0 * top_5)),
        evaluation.loss
    ))?;
    let (counts, is_large) = (&evaluation.confusion, is_large(network));
    if several {
        // None is taken for another, so there is no matrix.
        say::result(confusion::label_table(&evaluation.class_scores(), classes))?;
        if is_large && args.output.is_none() {
            say::result("all classes: name a file with --output FILE")?;
        }
    } else if is_large {
        say::result(confusion::summary(counts, classes))?;
    } else {
        say::result(confusion::matrix(counts, classes))?;
    }
    if let Some(output) = write_table(args, network, evaluation)? {
        let what = if several { "scores of each class" } else { "confusion matrix" };
        say::result(format_args!("{what}: {}", output.display()))?;
    }
    Ok(())
}

fn is_large(network: &Named) -> bool {
    network.classifier.classes().len() > confusion::MOST_CLASSES
}

/// Writes the confusion matrix, or the scores of each label, if a file is named or the matrix is too large to be shown.
/// Returns the file.
fn write_table(
    args: &EvalArgs,
    network: &Named,
    evaluation: &Evaluation,
) -> Result<Option<PathBuf>> {
    let (classes, several) = (network.classifier.classes(), evaluation.is_multi_label());
    let is_unseen = is_large(network) && !several && !args.json;
    let output = args.output.clone().or_else(|| is_unseen.then(|| default_output(network)));
    let Some(output) = output else { return Ok(None) };
    let text = if several {
        confusion::label_csv(&evaluation.class_scores(), classes)
    } else {
        confusion::csv(&evaluation.confusion, classes)
    };
    write_atomically(&output, text.as_bytes())?;
    Ok(Some(output))
}

/// The output goes to the current folder: evaluating a run changes nothing in the run's folder.
fn default_output(network: &Named) -> PathBuf {
    let mut name = network.file.file_stem().unwrap_or_default().to_os_string();
    name.push(".confusion.csv");
    unused(name.into(), &HashSet::new())
}
