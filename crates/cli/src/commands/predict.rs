//! `candle-vision predict`.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use candle_core::Device;
use candle_vision::models::Pass;
use candle_vision::ops::softmax;
use serde::Serialize;

use crate::args::PredictArgs;
use crate::say;
use crate::sources::{self, Restored};

pub(crate) fn run(args: &PredictArgs) -> Result<ExitCode> {
    let device = args.device.open()?;
    let restored = sources::restore(&args.checkpoint, &device)?;
    let mut failed = false;
    for path in &args.pictures {
        // One broken picture does not keep the others from being named.
        match predict(&restored, path, &device) {
            Ok(ranking) => print(args, path, &ranking)?,
            Err(error) => {
                failed = true;
                say::error(&error);
            }
        }
    }
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Classes with their probabilities, the most probable first.
fn predict<'a>(
    restored: &'a Restored,
    path: &Path,
    device: &Device,
) -> Result<Vec<(&'a str, f32)>> {
    let (_, input) = restored.input(path, device)?;
    let logits = restored.model.forward(&input, &mut Pass::eval())?;
    let probabilities = softmax(&logits)?.get(0)?.to_vec1::<f32>()?;
    let classes = restored.metadata.classes.iter().map(String::as_str);
    let mut ranking: Vec<(&str, f32)> = classes.zip(probabilities).collect();
    ranking.sort_by(|a, b| b.1.total_cmp(&a.1));
    Ok(ranking)
}

/// What `--json` prints for a picture.
#[derive(Serialize)]
struct Prediction<'a> {
    picture: String,
    classes: Vec<Candidate<'a>>,
}

#[derive(Serialize)]
struct Candidate<'a> {
    class: &'a str,
    probability: f32,
}

fn print(args: &PredictArgs, path: &Path, ranking: &[(&str, f32)]) -> Result<()> {
    let top = &ranking[..ranking.len().min(args.top)];
    if args.json {
        let classes = top.iter().map(|&(class, probability)| Candidate { class, probability });
        let picture = path.display().to_string();
        let prediction = Prediction { picture, classes: classes.collect() };
        say::result(serde_json::to_string(&prediction)?)?;
        return Ok(());
    }
    say::result(path.display())?;
    for (class, probability) in top {
        say::result(format_args!("  {:6.2} %  {class}", 100.0 * probability))?;
    }
    Ok(())
}
