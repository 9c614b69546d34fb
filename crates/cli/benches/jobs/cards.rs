//! The jobs for cards: ResNet18 in `f32` (on a card, in TF32) and in mixed precision.

use anyhow::Result;
use candle_vision::models::Precision::{self, Bf16, F32};

use crate::measure::Clock;
use crate::work::{self, Network, Outcome, Rule};
use crate::{Job, training, tutorial};

pub(crate) const JOBS: [Job; 26] = [
    ("resnet18_train_b64_224_f32", |clock| train(clock, large(64, F32))),
    ("resnet18_train_b64_224_bf16", |clock| train(clock, large(64, Bf16))),
    ("resnet18_train_b256_224_f32", |clock| train(clock, large(256, F32))),
    ("resnet18_train_b256_224_bf16", |clock| train(clock, large(256, Bf16))),
    ("resnet18_train_b512_32_f32", |clock| train(clock, small(512, F32))),
    ("resnet18_train_b512_32_bf16", |clock| train(clock, small(512, Bf16))),
    ("resnet18_train_b64_32_adam_f32", |clock| train(clock, small(64, F32).rule(Rule::Adam))),
    ("resnet18_train_b64_32_adam_bf16", |clock| train(clock, small(64, Bf16).rule(Rule::Adam))),
    ("simple_cnn_train_b64_32_adam_f32", |clock| {
        train(clock, Network::new("simple_cnn", 10, [64, 3, 32, 32]).rule(Rule::Adam))
    }),
    ("resnet18_train_b64_224_bf16_loaded", |clock| train_loaded(clock, large(64, Bf16))),
    ("resnet18_train_b256_224_bf16_loaded", |clock| train_loaded(clock, large(256, Bf16))),
    ("resnet18_train_b512_32_bf16_loaded", |clock| train_loaded(clock, small(512, Bf16))),
    ("resnet18_infer_b1_224_f32", |clock| infer(clock, large(1, F32))),
    ("resnet18_infer_b1_224_bf16", |clock| infer(clock, large(1, Bf16))),
    ("resnet18_infer_b64_224_f32", |clock| infer(clock, large(64, F32))),
    ("resnet18_infer_b64_224_bf16", |clock| infer(clock, large(64, Bf16))),
    ("resnet18_infer_b256_224_f32", |clock| infer(clock, large(256, F32))),
    ("resnet18_infer_b256_224_bf16", |clock| infer(clock, large(256, Bf16))),
    ("resnet18_infer_b512_32_f32", |clock| infer(clock, small(512, F32))),
    ("resnet18_infer_b512_32_bf16", |clock| infer(clock, small(512, Bf16))),
    ("resnet18_latency_b1_224_f32", |clock| latency(clock, large(1, F32))),
    ("resnet18_latency_b1_224_bf16", |clock| latency(clock, large(1, Bf16))),
    ("resnet18_gradcam_b1_224_f32", |clock| explain(clock, large(1, F32))),
    ("resnet18_start_b1_224_empty_cache", |clock| start(clock, large(1, F32))),
    ("resnet18_start_b1_224_filled_cache", |clock| start(clock, large(1, F32))),
    ("cifar10_resnet18_40_epochs", tutorial::train),
];

/// For images like ImageNet's.
fn large(batch: usize, precision: Precision) -> Network {
    Network::new("resnet18", 1000, [batch, 3, 224, 224]).precision(precision)
}

/// For images like CIFAR-10's.
fn small(batch: usize, precision: Precision) -> Network {
    Network::new("resnet18", 10, [batch, 3, 32, 32]).precision(precision)
}

fn train(clock: &Clock, network: Network) -> Result<Outcome> {
    training::train_captured(clock, &sized(network, clock))
}

fn train_loaded(clock: &Clock, network: Network) -> Result<Outcome> {
    training::train_loaded(clock, &sized(network, clock))
}

fn infer(clock: &Clock, network: Network) -> Result<Outcome> {
    work::infer(clock, &sized(network, clock))
}

fn latency(clock: &Clock, network: Network) -> Result<Outcome> {
    work::latency(clock, &sized(network, clock))
}

fn explain(clock: &Clock, network: Network) -> Result<Outcome> {
    work::explain(clock, &sized(network, clock))
}

fn start(clock: &Clock, network: Network) -> Result<Outcome> {
    work::start(clock, &sized(network, clock))
}

fn sized(network: Network, clock: &Clock) -> Network {
    if clock.tiny { network.tiny() } else { network }
}
