//! A network written with candle_nn under the trainer, and a network of ours as a candle_nn module.

#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;

use candle_core::{Device, Tensor};
use candle_nn::{BatchNormConfig, Conv2dConfig, Module, ModuleT, batch_norm, conv2d, linear};
use candle_vision::data::transforms::{Compose, ToTensor};
use candle_vision::data::{Insects, InsectsConfig, Split, Splits};
use candle_vision::models::interop::{AsModule, CandleNet};
use candle_vision::train::optim::Sgd;
use candle_vision::train::{Trainer, TrainerConfig};

/// Trains the network for one epoch.
pub fn run() -> Result<(), Box<dyn Error>> {
    // `running_mean` and `running_var` of the batch norm are buffers: nothing trains them.
    let net = CandleNet::new("my_net", [3, 32, 32], 2, |vb| {
        let config = Conv2dConfig { padding: 1, stride: 2, ..Conv2dConfig::default() };
        let conv = conv2d(3, 8, 3, config, vb.pp("conv"))?;
        let norm = batch_norm(8, BatchNormConfig::default(), vb.pp("norm"))?;
        let fc = linear(8, 2, vb.pp("fc"))?;
        Ok(candle_nn::func_t(move |images: &Tensor, train| {
            let x = norm.forward_t(&conv.forward(images)?, train)?.relu()?;
            fc.forward(&x.mean((2, 3))?)
        }))
    })?
    .head("fc")?;
    let set = |split| Insects::new(split, InsectsConfig::new(16).size(32));
    let to_tensor = Compose::new().with(ToTensor);
    let data = Splits::new(set(Split::Train)?, set(Split::Val)?).loaders(
        to_tensor.clone(),
        to_tensor,
        8,
    )?;
    let config = TrainerConfig::new(1, Sgd::new(0.01).momentum(0.9));
    let done = Trainer::new(&net, &data.train, &data.val, config)?.run()?;
    println!("{:?}", done.best_epoch.map(|epoch| epoch.val_accuracy));

    let images = Tensor::zeros((1, 3, 32, 32), candle_core::DType::F32, &Device::Cpu)?;
    println!("{:?}", AsModule::new(net).forward(&images)?.dims());
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    run()
}
