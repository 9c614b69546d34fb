//! A parameter that should learn and gets no gradient stops the run before its first step.

mod common;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use candle_core::{DType, Device, Result, Tensor};
use candle_vision_data::Batch;
use candle_vision_models::layers::{GlobalAvgPool, Linear, images_to_features};
use candle_vision_models::{Model, ModelSpec, Parameter, Parameters, Pass};
use candle_vision_ops::{add, scale};
use candle_vision_train::loss::{CrossEntropy, Loss};
use candle_vision_train::{Error, RunFolder, StepOutput, TrainStep, Trainer};
use common::{network, recipe, train_loader, val_loader};

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

/// The values of all parameters and buffers.
fn values(model: &dyn Model) -> Vec<Vec<f32>> {
    let all = model.parameters().all();
    let of = |parameter: &Parameter| {
        // Some buffers are counts.
        parameter.detached().to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()
    };
    all.iter().map(|parameter| of(parameter).unwrap()).collect()
}

fn run(share: Option<f64>, settings: &str) -> candle_vision_train::Result<usize> {
    let settings = format!("epochs = 1\noptimizer = {{ name = 'sgd', lr = 0.01 }}\n{settings}");
    let (model, train, val) = (Forgetful::new(share), train_loader(0), val_loader());
    let runs = tempfile::tempdir().unwrap();
    let folder = RunFolder::create(runs.path(), "run", "").unwrap();
    let mut trainer = Trainer::new(&model, &train, &val, recipe(&settings))?.run_folder(&folder);
    let before = values(&model);
    let result = trainer.run();
    assert_eq!(values(&model) == before, result.is_err());
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
fn a_gradient_that_stays_zero_stops_the_run_before_its_first_update() {
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

/// Trains two batches of a network with batch norm and dropout whose last layer begins at zero.
fn asleep(settings: &str) -> (Vec<Vec<f32>>, Vec<f64>) {
    let model = network(0);
    let last = model.parameters().trainable().into_iter().rev().take(2);
    last.for_each(|parameter| parameter.set(&parameter.var().zeros_like().unwrap()).unwrap());
    let settings = format!(
        "epochs = 1\nlimit_batches = 2\noptimizer = {{ name = 'sgd', lr = 0.01 }}\n{settings}"
    );
    let (train, val) = (train_loader(0), val_loader());
    let done =
        Trainer::new(model.as_ref(), &train, &val, recipe(&settings)).unwrap().run().unwrap();
    (values(model.as_ref()), done.history.batches.iter().map(|batch| batch.loss).collect())
}

#[test]
fn layers_before_a_layer_of_zeros_learn_later_and_the_check_leaves_no_trace() {
    let checked = asleep("");
    assert_eq!(checked.1.len(), 2);
    assert_eq!(checked, asleep("check_gradients = false"));
}

/// A step with state. It notes what it sees.
#[derive(Clone, Default)]
struct Noting {
    images: Arc<Mutex<Vec<usize>>>,
    steps: f32,
}

impl TrainStep for Noting {
    fn run(
        &mut self,
        model: &dyn Model,
        batch: &Batch,
        pass: &mut Pass<'_>,
    ) -> candle_vision_train::Result<StepOutput> {
        self.images.lock().unwrap().push(batch.indices.len());
        self.steps += 1.0;
        let logits = model.forward(&batch.images, pass)?;
        let loss = CrossEntropy::new().loss(&logits, &batch.labels)?;
        // It takes a bit of the state, so that a state that is not put back shows.
        Ok(StepOutput { loss: scale(&loss, f64::from(self.steps))?, logits: Some(logits) })
    }

    fn state(&self) -> BTreeMap<String, Tensor> {
        BTreeMap::from([("steps".to_owned(), Tensor::new(self.steps, &Device::Cpu).unwrap())])
    }

    fn load_state(&mut self, state: &BTreeMap<String, Tensor>) -> candle_vision_train::Result<()> {
        self.steps = state["steps"].to_scalar()?;
        Ok(())
    }
}

#[test]
fn a_step_of_ones_own_is_looked_at_with_few_images_and_gets_its_state_back() {
    let losses = [true, false].map(|checks| {
        let step = Noting::default();
        let (model, train, val) = (Forgetful::new(Some(0.5)), train_loader(0), val_loader());
        let settings = format!(
            "epochs = 1\noptimizer = {{ name = 'sgd', lr = 0.01 }}\ncheck_gradients = {checks}"
        );
        let trainer = Trainer::builder(&model).data(&train, &val).config(recipe(&settings));
        let done = trainer.train_step(step.clone()).run().unwrap();
        let images = step.images.lock().unwrap();
        assert_eq!(images.len(), 5 + usize::from(checks));
        assert!(images[0] <= 8);
        done.history.batches.iter().map(|batch| batch.loss).collect::<Vec<_>>()
    });
    assert_eq!(losses[0], losses[1]);
}
