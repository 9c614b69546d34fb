//! `candle-vision predict`.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use candle_vision::{Prediction, Registry};
use serde::Serialize;

use crate::args::PredictArgs;
use crate::batches::in_batches;
use crate::named_images::named;
use crate::network::USUAL_NETWORK;
use crate::say;

pub(crate) fn run(args: &PredictArgs, registry: &Registry) -> Result<ExitCode> {
    let device = args.device.open()?;
    let network = args.network.open_or(Some(USUAL_NETWORK), &args.data, registry, &device)?;
    let tta = args.tta.build(registry)?;
    let classifier = network.classifier.tta(tta);
    let named = named(&args.images)?;
    let all_went_well = in_batches(
        &classifier,
        &named.images,
        args.batch_size,
        |images| Ok(classifier.predict_batch(images)?),
        |input, prediction| print(args, input.path, &prediction),
    )?;
    Ok(if all_went_well && !named.failed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The output of `--json` for an image.
#[derive(Serialize)]
struct Line<'a> {
    image: String,
    /// The labels of the image, if it may have several.
    #[serde(skip_serializing_if = "Option::is_none")]
    labels: Option<Vec<&'a str>>,
    classes: Vec<Candidate<'a>>,
}

#[derive(Serialize)]
struct Candidate<'a> {
    class: &'a str,
    probability: f32,
}

fn print(args: &PredictArgs, path: &Path, prediction: &Prediction) -> Result<()> {
    if args.json {
        let candidate = |(class, probability)| Candidate { class, probability };
        let classes = prediction.top(args.top).map(candidate).collect();
        let labels = prediction.is_multi_label().then(|| prediction.labels().collect());
        let line = Line { image: path.display().to_string(), labels, classes };
        say::result(serde_json::to_string(&line)?)?;
        return Ok(());
    }
    if prediction.is_multi_label() {
        let labels: Vec<&str> = prediction.labels().collect();
        let labels = if labels.is_empty() { "no label".to_owned() } else { labels.join(", ") };
        say::result(format_args!("{}: {labels}", path.display()))?;
    } else {
        say::result(path.display())?;
    }
    for (class, probability) in prediction.top(args.top) {
        say::result(format_args!("  {:6.2} %  {class}", 100.0 * probability))?;
    }
    Ok(())
}
