//! A training loop by hand, with hooks that clip a gradient and mask a channel, and feature extraction.

#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;
use std::path::Path;

use candle_core::Device;
use candle_vision::data::transforms::{Compose, ToTensor};
use candle_vision::data::{Insects, InsectsConfig, Split, Splits};
use candle_vision::extract;
use candle_vision::models::{Hooks, Model, ModelSpec, Pass, build};
use candle_vision::ops::backward;
use candle_vision::train::evaluate;
use candle_vision::train::loss::{CrossEntropy, Loss};
use candle_vision::train::optim::{Optimizer, Sgd, UpdateRule};

/// Trains two epochs, measures the network without one channel, and writes features to `out`.
pub fn run(out: &Path) -> Result<(), Box<dyn Error>> {
    let set = |split| Insects::new(split, InsectsConfig::new(16).size(32));
    let to_tensor = Compose::new().with(ToTensor);
    let data = Splits::new(set(Split::Train)?, set(Split::Val)?).loaders(
        to_tensor.clone(),
        to_tensor,
        8,
    )?;
    let model = build(&ModelSpec::new("resnet18", 2).input([3, 32, 32]), 0, &Device::Cpu)?;
    let (seed, loss) = (0, CrossEntropy::new());
    let mut sgd = Sgd::new(0.01).momentum(0.9).optimizer(model.parameters().trainable())?;
    let mut hooks = Hooks::new();
    hooks.clip_gradient("layer3", 0.02);
    for (step, batch) in data.train.epochs(2).enumerate() {
        let batch = batch?;
        let mut pass = Pass::train_step(seed, step).with_hooks(&mut hooks);
        let logits = model.forward(&batch.images, &mut pass)?;
        sgd.step(&backward(&loss.loss(&logits, &batch.labels)?)?)?;
    }
    let mut without = Hooks::mask("layer2", [7]);
    let whole = evaluate(&model, &data.val).run()?.accuracy;
    let masked = evaluate(&model, &data.val).with_hooks(&mut without).run()?.accuracy;
    println!("accuracy {whole:.3}, without channel 7 of layer2 {masked:.3}");
    extract(&model, &data.val, ["avgpool", "layer[1-4]"])?.write_npy(out.join("features.npy"))?;
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    run(std::env::args_os().nth(1).ok_or("give a folder for the features")?.as_ref())
}
