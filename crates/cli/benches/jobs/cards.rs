//! The jobs for cards: ResNet18 in `f32` (on a card, in TF32) and in mixed precision.

use anyhow::Result;
use candle_vision::models::Precision::{self, Bf16, F32};

use crate::work::{self, Learns, Network, Outcome};
use crate::{Job, Setting};

pub(crate) const JOBS: [Job; 15] = [
    ("resnet18_train_b64_224_f32", |s| train(s, large(64, F32))),
    ("resnet18_train_b64_224_bf16", |s| train(s, large(64, Bf16))),
    ("resnet18_train_b256_224_f32", |s| train(s, large(256, F32))),
    ("resnet18_train_b256_224_bf16", |s| train(s, large(256, Bf16))),
    ("resnet18_train_b512_32_f32", |s| train(s, small(512, F32))),
    ("resnet18_train_b512_32_bf16", |s| train(s, small(512, Bf16))),
    ("resnet18_train_b64_224_bf16_loaded", |s| train_loaded(s, large(64, Bf16))),
    ("resnet18_train_b256_224_bf16_loaded", |s| train_loaded(s, large(256, Bf16))),
    ("resnet18_train_b512_32_bf16_loaded", |s| train_loaded(s, small(512, Bf16))),
    ("resnet18_infer_b64_224_f32", |s| infer(s, large(64, F32))),
    ("resnet18_infer_b64_224_bf16", |s| infer(s, large(64, Bf16))),
    ("resnet18_infer_b256_224_f32", |s| infer(s, large(256, F32))),
    ("resnet18_infer_b256_224_bf16", |s| infer(s, large(256, Bf16))),
    ("resnet18_infer_b512_32_f32", |s| infer(s, small(512, F32))),
    ("resnet18_infer_b512_32_bf16", |s| infer(s, small(512, Bf16))),
];

/// For pictures like ImageNet's.
fn large(batch: usize, precision: Precision) -> Network {
    Network::new("resnet18", 1000, [batch, 3, 224, 224]).precision(precision)
}

/// For pictures like CIFAR-10's.
fn small(batch: usize, precision: Precision) -> Network {
    Network::new("resnet18", 10, [batch, 3, 32, 32]).precision(precision)
}

fn train(setting: &Setting<'_>, network: Network) -> Result<Outcome> {
    work::train(setting.clock, &sized(network, setting), Learns::All)
}

fn train_loaded(setting: &Setting<'_>, network: Network) -> Result<Outcome> {
    work::train_loaded(setting.clock, &sized(network, setting))
}

fn infer(setting: &Setting<'_>, network: Network) -> Result<Outcome> {
    work::infer(setting.clock, &sized(network, setting))
}

fn sized(network: Network, setting: &Setting<'_>) -> Network {
    if setting.tiny { network.tiny() } else { network }
}
