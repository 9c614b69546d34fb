//! The jobs for cards.

use super::super::Group;
use super::{BOTH_FORMATS, Job};

const CARD: &[&str] = &[
    "eager",
    "channels_last",
    "compile",
    "compile_channels_last",
    "reduce_overhead",
    "reduce_overhead_channels_last",
    "cuda_graph",
    "cuda_graph_channels_last",
];
const CARD_LOADED: &[&str] = &[
    "channels_last",
    "compile_channels_last",
    "reduce_overhead_channels_last",
    "cuda_graph_channels_last",
];
const START: &[&str] = &["eager", "compile"];

const fn card(name: &'static str, group: Group, what: &'static str) -> Job {
    Job { name, group, what, modes: CARD }
}

const fn loaded(name: &'static str, what: &'static str) -> Job {
    Job { name, group: Group::Train, what, modes: CARD_LOADED }
}

pub(super) const CARD_JOBS: [Job; 26] = [
    card(
        "resnet18_train_b64_224_f32",
        Group::Train,
        "ResNet18, training step, batch 64, 224x224, TF32",
    ),
    card(
        "resnet18_train_b64_224_bf16",
        Group::Train,
        "ResNet18, training step, batch 64, 224x224, bf16",
    ),
    card(
        "resnet18_train_b256_224_f32",
        Group::Train,
        "ResNet18, training step, batch 256, 224x224, TF32",
    ),
    card(
        "resnet18_train_b256_224_bf16",
        Group::Train,
        "ResNet18, training step, batch 256, 224x224, bf16",
    ),
    card(
        "resnet18_train_b512_32_f32",
        Group::Train,
        "ResNet18, training step, batch 512, 32x32, TF32",
    ),
    card(
        "resnet18_train_b512_32_bf16",
        Group::Train,
        "ResNet18, training step, batch 512, 32x32, bf16",
    ),
    card(
        "resnet18_train_b64_32_adam_f32",
        Group::Train,
        "ResNet18, training step with Adam, batch 64, 32x32, TF32",
    ),
    card(
        "resnet18_train_b64_32_adam_bf16",
        Group::Train,
        "ResNet18, training step with Adam, batch 64, 32x32, bf16",
    ),
    card(
        "simple_cnn_train_b64_32_adam_f32",
        Group::Train,
        "CIFAR CNN, training step with Adam, batch 64, 32x32, TF32",
    ),
    loaded(
        "resnet18_train_b64_224_bf16_loaded",
        "ResNet18, training step from a loader, batch 64, 224x224, bf16",
    ),
    loaded(
        "resnet18_train_b256_224_bf16_loaded",
        "ResNet18, training step from a loader, batch 256, 224x224, bf16",
    ),
    loaded(
        "resnet18_train_b512_32_bf16_loaded",
        "ResNet18, training step from a loader, batch 512, 32x32, bf16",
    ),
    card("resnet18_infer_b1_224_f32", Group::Infer, "ResNet18, inference, batch 1, 224x224, TF32"),
    card("resnet18_infer_b1_224_bf16", Group::Infer, "ResNet18, inference, batch 1, 224x224, bf16"),
    card(
        "resnet18_infer_b64_224_f32",
        Group::Infer,
        "ResNet18, inference, batch 64, 224x224, TF32",
    ),
    card(
        "resnet18_infer_b64_224_bf16",
        Group::Infer,
        "ResNet18, inference, batch 64, 224x224, bf16",
    ),
    card(
        "resnet18_infer_b256_224_f32",
        Group::Infer,
        "ResNet18, inference, batch 256, 224x224, TF32",
    ),
    card(
        "resnet18_infer_b256_224_bf16",
        Group::Infer,
        "ResNet18, inference, batch 256, 224x224, bf16",
    ),
    card("resnet18_infer_b512_32_f32", Group::Infer, "ResNet18, inference, batch 512, 32x32, TF32"),
    card(
        "resnet18_infer_b512_32_bf16",
        Group::Infer,
        "ResNet18, inference, batch 512, 32x32, bf16",
    ),
    card(
        "resnet18_latency_b1_224_f32",
        Group::Infer,
        "ResNet18, one image to logits on the host, 224x224, TF32",
    ),
    card(
        "resnet18_latency_b1_224_bf16",
        Group::Infer,
        "ResNet18, one image to logits on the host, 224x224, bf16",
    ),
    Job {
        name: "resnet18_gradcam_b1_224_f32",
        group: Group::Explain,
        what: "ResNet18, Grad-CAM, batch 1, 224x224, TF32",
        modes: BOTH_FORMATS,
    },
    Job {
        name: "resnet18_start_b1_224_empty_cache",
        group: Group::Start,
        what: "start of the process on a new machine to the logits of one image, 224x224",
        modes: START,
    },
    Job {
        name: "resnet18_start_b1_224_filled_cache",
        group: Group::Start,
        what: "start of the process for the second time to the logits of one image, 224x224",
        modes: START,
    },
    Job {
        name: "cifar10_resnet18_40_epochs",
        group: Group::Tutorial,
        what: "the tutorial's run on CIFAR-10: ResNet18, 40 epochs, batch 64, Adam, TF32",
        modes: CARD_LOADED,
    },
];
