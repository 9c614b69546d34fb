//! `save_batches FOLDER SEED EPOCHS OUT`: the batches that `cargo xtask experiment resnet18 --seed SEED` trains on
//! and validates with, as safetensors (`train_0` and so on, `val`; `x0`, `y0`, ... in each), so that
//! another program can train on the very same ones (`xtask/bench/torch_replay.py` does, with PyTorch).

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use candle_vision_data::transforms::Compose;
use candle_vision_data::{DataLoader, ImageFolder, LoaderConfig, Split};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, seed, epochs, out] = &arguments[..] else {
        return Err("usage: save_batches FOLDER SEED EPOCHS OUT".into());
    };
    let (seed, epochs, out) = (seed.parse()?, epochs.parse()?, Path::new(out));
    let train = loader(folder, Split::Train, Compose::imagenet_train(), seed)?;
    for epoch in 0..epochs {
        save(&train, epoch, &out.join(format!("train_{epoch}.safetensors")))?;
    }
    let val = loader(folder, Split::Val, Compose::imagenet_eval(), seed)?;
    save(&val, 0, &out.join("val.safetensors"))
}

fn loader(folder: &str, split: Split, transform: Compose, seed: u64) -> Result<DataLoader> {
    let images = ImageFolder::open(folder, split, Default::default())?;
    let shuffle = split == Split::Train;
    let config = LoaderConfig::new(32).shuffle(shuffle).seed(seed);
    Ok(DataLoader::new(Arc::new(images), transform, config, Device::Cpu)?)
}

fn save(loader: &DataLoader, epoch: usize, path: &Path) -> Result<()> {
    let mut tensors: HashMap<String, Tensor> = HashMap::new();
    for (number, batch) in loader.epoch(epoch).enumerate() {
        let batch = batch?;
        tensors.insert(format!("x{number}"), batch.images.contiguous()?);
        tensors.insert(format!("y{number}"), batch.labels.to_dtype(DType::I64)?);
    }
    Ok(candle_core::safetensors::save(&tensors, path)?)
}
