//! `candle-vision predict`.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use candle_core::Tensor;
use candle_vision::models::Pass;
use candle_vision::ops::softmax;
use serde::Serialize;

use crate::args::PredictArgs;
use crate::batches::in_batches;
use crate::named_images::named;
use crate::say;
use crate::sources::{self, Restored};

pub(crate) fn run(args: &PredictArgs) -> Result<ExitCode> {
    let device = args.device.open()?;
    let restored = sources::restore(&args.checkpoint, &device)?;
    let named = named(&args.images)?;
    let all_went_well = in_batches(
        &restored,
        &named.images,
        args.batch_size,
        &device,
        |images| predict(&restored, images),
        |input, probabilities| print(args, &restored, input.path, &probabilities),
    )?;
    Ok(if all_went_well && !named.failed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The probabilities of the classes, for each image.
fn predict(restored: &Restored, images: &Tensor) -> Result<Vec<Vec<f32>>> {
    let logits = restored.model.forward(images, &mut Pass::eval())?;
    let probabilities = softmax(&logits)?.to_vec2::<f32>()?;
    sources::check_finite(probabilities.iter().flatten().map(|value| f64::from(*value)))?;
    Ok(probabilities)
}

/// What `--json` prints for an image.
#[derive(Serialize)]
struct Prediction<'a> {
    image: String,
    classes: Vec<Candidate<'a>>,
}

#[derive(Serialize)]
struct Candidate<'a> {
    class: &'a str,
    probability: f32,
}

fn print(
    args: &PredictArgs,
    restored: &Restored,
    path: &Path,
    probabilities: &[f32],
) -> Result<()> {
    let classes = restored.metadata.classes.iter().map(String::as_str);
    let mut ranking: Vec<(&str, f32)> = classes.zip(probabilities.iter().copied()).collect();
    ranking.sort_by(|a, b| b.1.total_cmp(&a.1));
    ranking.truncate(args.top);
    if args.json {
        let candidate = |(class, probability)| Candidate { class, probability };
        let classes = ranking.into_iter().map(candidate).collect();
        let prediction = Prediction { image: path.display().to_string(), classes };
        say::result(serde_json::to_string(&prediction)?)?;
        return Ok(());
    }
    say::result(path.display())?;
    for (class, probability) in ranking {
        say::result(format_args!("  {:6.2} %  {class}", 100.0 * probability))?;
    }
    Ok(())
}
