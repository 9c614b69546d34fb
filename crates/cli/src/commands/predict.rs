//! `candle-vision predict`.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Result, ensure};
use candle_core::Device;
use candle_vision::models::Pass;
use candle_vision::ops::softmax;

use crate::args::PredictArgs;
use crate::sources::{self, Restored};
use crate::{device, report_error};

pub(crate) fn run(args: &PredictArgs) -> Result<ExitCode> {
    ensure!(args.top > 0, "`--top 0` would print nothing; use at least 1");
    let device = device::parse(&args.device)?;
    let restored = sources::restore(&args.checkpoint, &device)?;
    let mut failed = false;
    for path in &args.pictures {
        // One broken picture does not keep the others from being named.
        match predict(&restored, path, &device) {
            Ok(ranking) => print(args, path, &ranking),
            Err(error) => {
                failed = true;
                report_error(&error);
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

fn print(args: &PredictArgs, path: &Path, ranking: &[(&str, f32)]) {
    let top = &ranking[..ranking.len().min(args.top)];
    if args.json {
        let classes: Vec<_> = top
            .iter()
            .map(|(class, probability)| {
                serde_json::json!({ "class": class, "probability": probability })
            })
            .collect();
        let object = serde_json::json!({ "picture": path, "classes": classes });
        println!("{object}");
        return;
    }
    println!("{}", path.display());
    for (class, probability) in top {
        println!("  {:6.2} %  {class}", 100.0 * probability);
    }
}
