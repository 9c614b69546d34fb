//! A loss and an optimizer of one's own under the trainer, and a run that stops and goes on.

#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;
use std::path::Path;

use candle_core::{Tensor, Var};
use candle_vision::data::transforms::{Compose, ToTensor};
use candle_vision::data::{Insects, InsectsConfig, Split, Splits};
use candle_vision::models::{ModelSpec, build};
use candle_vision::ops::log_softmax;
use candle_vision::registry::Description;
use candle_vision::train::loss::Loss;
use candle_vision::train::optim::{PerParameter, Step, UpdateRule};
use candle_vision::train::{Checkpoint, Result, RunFolder, Trainer, TrainerConfig};
use serde::{Deserialize, Serialize};

/// Cross entropy to the power of `power`, so that hard images count more.
#[derive(Debug, Serialize, Deserialize)]
struct PowerLoss {
    power: f64,
}

impl Loss for PowerLoss {
    fn loss(&self, logits: &Tensor, labels: &Tensor) -> Result<Tensor> {
        let right = log_softmax(logits)?.gather(&labels.unsqueeze(1)?, 1)?;
        Ok(right.neg()?.powf(self.power)?.mean_all()?)
    }

    fn describe(&self) -> Option<Description> {
        Description::new("power_loss", self).ok()
    }
}

/// Lion (Chen et al. 2023): the sign of an interpolated momentum.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Lion {
    lr: f64,
}

impl UpdateRule for Lion {
    fn lr(&self) -> f64 {
        self.lr
    }

    fn state_names(&self) -> &[&str] {
        &["exp_avg"]
    }

    fn update(
        &self,
        parameter: &Var,
        grad: &Tensor,
        state: &[Var],
        step: &Step,
    ) -> candle_core::Result<()> {
        let momentum = state[0].as_detached_tensor();
        let direction = ((&momentum * 0.9)? + (grad * 0.1)?)?.sign()?;
        parameter.set(&(parameter.as_detached_tensor() - (direction * step.lr)?)?)?;
        state[0].set(&((momentum * 0.99)? + (grad * 0.01)?)?)
    }

    fn describe(&self) -> Option<Description> {
        Description::new("lion", self).ok()
    }
}

/// Trains an epoch into `out`, and then a second one from where the first ended.
pub fn run(out: &Path) -> std::result::Result<(), Box<dyn Error>> {
    let set = |split| Insects::new(split, InsectsConfig::new(16).size(16));
    let to_tensor = Compose::new().with(ToTensor);
    let data = Splits::new(set(Split::Train)?, set(Split::Val)?).loaders(
        to_tensor.clone(),
        to_tensor,
        8,
    )?;
    let folder = RunFolder::create(out, "own-loss", "")?;
    for epochs in [1, 2] {
        let model =
            build(&ModelSpec::new("gap_cnn", 2).input([3, 16, 16]), 0, &candle_core::Device::Cpu)?;
        let lion = PerParameter::new(Lion { lr: 1e-3 })?;
        let mut trainer = Trainer::builder(&model)
            .data(&data.train, &data.val)
            .config(TrainerConfig::new(epochs, Lion { lr: 1e-3 }.describe().expect("it has one")))
            .optimizer(lion)
            .loss(PowerLoss { power: 1.5 })
            .run_folder(&folder)
            .build()?;
        if folder.last().is_file() {
            trainer.resume(&Checkpoint::load(folder.last())?)?;
        }
        println!("{} epochs", trainer.run()?.history.epochs.len());
    }
    Ok(())
}

fn main() -> std::result::Result<(), Box<dyn Error>> {
    run(std::env::args_os().nth(1).ok_or("give a folder for the run")?.as_ref())
}
