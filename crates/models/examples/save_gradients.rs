//! `save_gradients WEIGHTS BATCHES OUT`: logits and the gradients of cross entropy in a ResNet18 in training, for
//! the first eight images of each of the first four batches of a file that `save_batches` (in
//! `candle-vision-data`) has written, as safetensors (`0.logits`, `0.conv1.weight` and so on).
//! `xtask/bench/torch_gradients.py` compares them with PyTorch's.

use std::collections::HashMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use candle_vision_models::{Model, ModelSpec, Pass, build, weights};
use candle_vision_ops::{CrossEntropyConfig, Targets, backward, cross_entropy};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [weight_file, batches, out] = &arguments[..] else {
        return Err("usage: save_gradients WEIGHTS BATCHES OUT".into());
    };
    let weights_read = weights::read(Path::new(weight_file))?;
    let batches = candle_core::safetensors::load(batches, &Device::Cpu)?;
    let mut found: HashMap<String, Tensor> = HashMap::new();
    for number in 0..4 {
        // A network of its own for each batch: training moves the running statistics.
        let model = build(&ModelSpec::new("resnet18", 1000), 0, &Device::Cpu)?;
        weights::load(model.as_ref(), &weights_read, weights::Strictness::Strict)?;
        let images = batches[&format!("x{number}")].narrow(0, 0, 8)?;
        let labels = batches[&format!("y{number}")].narrow(0, 0, 8)?.to_dtype(DType::U32)?;
        for (name, value) in gradients(model.as_ref(), &images, &labels)? {
            found.insert(format!("{number}.{name}"), value);
        }
    }
    Ok(candle_core::safetensors::save(&found, out)?)
}

fn gradients(
    model: &dyn Model,
    images: &Tensor,
    labels: &Tensor,
) -> Result<HashMap<String, Tensor>> {
    let logits = model.forward(images, &mut Pass::train(0))?;
    let loss = cross_entropy(&logits, Targets::Labels(labels), &CrossEntropyConfig::default())?;
    let gradients = backward(&loss)?;
    let mut found = HashMap::from([("logits".to_owned(), logits.detach())]);
    for parameter in model.parameters().trainable() {
        let gradient = gradients.get(parameter.var()).ok_or("every parameter has a gradient")?;
        found.insert(parameter.path().to_owned(), gradient.contiguous()?);
    }
    Ok(found)
}
