//! A parameter that should learn and gets no gradient stops the run in its first steps.

mod common;

use candle_core::{DType, Device, Result, Tensor};
use candle_vision_models::layers::{GlobalAvgPool, Linear, images_to_features};
use candle_vision_models::{Model, ModelSpec, Parameters, Pass};
use candle_vision_ops::{add, scale};
use candle_vision_train::{Error, RunFolder, Trainer};
use common::{recipe, train_loader, val_loader};

/// A share with which the second layer counts by the root of nothing.
const ROOT: f64 = -1.0;

/// Two linear layers. The second counts `share` times.
struct Forgetful {
    spec: ModelSpec,
    parameters: Parameters,
    pool: GlobalAvgPool,
    used: Linear,
    lost: Linear,
    share: Option<f64>,
}

impl Forgetful {
    fn new(share: Option<f64>) -> Self {
        let vb = Parameters::new().builder(0, DType::F32, &Device::Cpu);
        let spec = ModelSpec::new("forgetful", 2).input([3, 8, 8]);
        Self {
            pool: GlobalAvgPool::new(vb.pp("pool")),
            used: Linear::new((3, 2), vb.pp("used")).unwrap(),
            lost: Linear::new((3, 2), vb.pp("lost")).unwrap(),
            parameters: vb.parameters(),
            spec,
            share,
        }
    }
}

impl Model for Forgetful {
    fn spec(&self) -> &ModelSpec {
        &self.spec
    }

    fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    fn forward(&self, images: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        let x = images_to_features(images, images.dim(1)?)?;
        let x = self.pool.forward(&x, pass)?;
        let logits = self.used.logits(&x, pass)?;
        match self.share {
            None => Ok(logits),
            Some(share) => {
                let lost = scale(&self.lost.logits(&x, pass)?, share)?;
                // The root of zero has no gradient: infinity times zero.
                if share == ROOT {
                    add(&logits, &scale(&lost, 0.0)?.sqrt()?)
                } else {
                    add(&logits, &lost)
                }
            }
        }
    }
}

fn run(share: Option<f64>, settings: &str) -> candle_vision_train::Result<usize> {
    let settings = format!("epochs = 1\noptimizer = {{ name = 'sgd', lr = 0.01 }}\n{settings}");
    let (model, train, val) = (Forgetful::new(share), train_loader(0), val_loader());
    let runs = tempfile::tempdir().unwrap();
    let folder = RunFolder::create(runs.path(), "run", "").unwrap();
    let mut trainer = Trainer::new(&model, &train, &val, recipe(&settings))?.run_folder(&folder);
    let result = trainer.run();
    // A run that was stopped leaves nothing that could be taken for a trained network.
    assert_eq!(folder.last().exists() || folder.best().exists(), result.is_ok());
    Ok(result?.history.batches.len())
}

#[test]
fn a_parameter_without_a_gradient_stops_the_run_before_its_first_update() {
    let error = run(None, "").unwrap_err();
    assert!(matches!(&error, Error::NoGradient { missing, .. } if missing.len() == 2));
    assert_eq!(
        error.to_string(),
        "each of `lost.weight`, `lost.bias` gets no gradient, because the loss does not depend on it; mend the \
         network's `forward`, freeze what is not to learn (`Parameters::freeze`), or set \
         `check_gradients = false`"
    );
}

#[test]
fn a_gradient_that_stays_zero_stops_the_run_at_its_third_step() {
    let error = run(Some(0.0), "").unwrap_err().to_string();
    assert!(error.contains("`lost.weight`, `lost.bias` gets a gradient of zero"), "{error}");
}

#[test]
fn gradients_that_are_not_finite_stop_the_run_before_its_first_update() {
    let error = run(Some(ROOT), "").unwrap_err();
    let Error::NoGradient { missing, zero, not_finite } = &error else { panic!("{error}") };
    assert_eq!(
        (missing.len(), zero.len(), &not_finite[..]),
        (0, 0, &["lost.weight", "lost.bias"].map(String::from)[..])
    );
    assert!(error.to_string().contains("NaN or infinite, although the loss is finite"), "{error}");
}

#[test]
fn the_check_lets_go_what_learns_and_can_be_switched_off() {
    assert_eq!(run(Some(0.5), "").unwrap(), 5);
    assert_eq!(run(Some(0.0), "check_gradients = false").unwrap(), 5);
}
