//! The test images: the best network is evaluated on them once, at the end of a run.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use candle_core::Device;
use candle_vision::data::DataLoader;
use candle_vision::train::loss::with_counts_of;
use candle_vision::train::{RunFolder, evaluate};
use candle_vision::{Classifier, Registry};
use candle_vision_recipe::Settings;
use serde::{Deserialize, Serialize};

use crate::progress::Count;
use crate::say;

/// Name of the result's file in the run's folder.
const FILE: &str = "test.json";

/// The result on the test images.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Tested {
    /// A fraction, `0.0..=1.0`.
    accuracy: f64,
    loss: f64,
    right: usize,
    #[serde(alias = "pictures")]
    images: usize,
}

impl Tested {
    /// Evaluates the run's best network on the test images and writes the result into the run's folder. The
    /// run is complete by then, so an error is only reported.
    pub(crate) fn measure(
        folder: &RunFolder,
        [train, test]: [&DataLoader; 2],
        settings: &Settings,
        (registry, device): (&Registry, &Device),
        stop: &AtomicBool,
    ) -> Option<Self> {
        let reason = match measure(folder, [train, test], settings, (registry, device), stop) {
            Ok(Some(tested)) => return Some(tested),
            Ok(None) => "it was stopped".to_owned(),
            Err(error) => say::one_line(&error),
        };
        say::note(format_args!(
            "warning: the test images were not measured: {reason}; measure them with `candle-vision \
             eval --checkpoint {} --folder DIR`",
            folder.best().display()
        ));
        None
    }

    /// The test result of the run in `folder`. `None` if there is none.
    pub(crate) fn read(folder: &RunFolder) -> Option<Self> {
        let bytes = std::fs::read(folder.path().join(FILE)).ok()?;
        serde_json::from_slice(&bytes).ok()
    }
}

/// Writes the result as `92.31 % (12 of 13), loss 0.2345`.
impl std::fmt::Display for Tested {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { accuracy, loss, right, images } = self;
        write!(f, "{:.2} % ({right} of {images}), loss {loss:.4}", 100.0 * accuracy)
    }
}

fn measure(
    folder: &RunFolder,
    [train, test]: [&DataLoader; 2],
    settings: &Settings,
    (registry, device): (&Registry, &Device),
    stop: &AtomicBool,
) -> Result<Option<Tested>> {
    let best = Classifier::load_with(folder.best(), registry, device)?;
    let training = &settings.training;
    let loss = registry.training.losses.build(&training.loss)?;
    let loss = with_counts_of(loss, train);
    let evaluator = evaluate(best.model(), test)
        .loss(&*loss)
        .limit(training.limit_batches)
        .precision(training.precision);
    let mut count = Count::new("testing");
    let evaluation = evaluator.run_while(|done, batches| {
        count.show(done, batches);
        Ok(!stop.load(Ordering::Relaxed))
    })?;
    drop(count);
    for skipped in test.skipped() {
        say::left_out(&skipped);
    }
    let Some(evaluation) = evaluation else { return Ok(None) };
    let tested = Tested {
        accuracy: evaluation.accuracy,
        loss: evaluation.loss,
        right: evaluation.right(),
        images: evaluation.predictions.len(),
    };
    let json = serde_json::to_vec_pretty(&tested).context("cannot note the result")?;
    folder.write(FILE, &json)?;
    Ok(Some(tested))
}
