//! CUDA against the CPU, op by op: outputs and gradients, in `f32`, `bf16` and `f16`. The CPU's are
//! checked against PyTorch and finite differences elsewhere. Skipped where there is no device.

#![cfg(feature = "cuda")]

#[path = "cuda/arithmetic.rs"]
mod arithmetic;
#[path = "cuda/attention.rs"]
mod attention;
#[path = "cuda/capture.rs"]
mod capture;
#[path = "cuda/convolution.rs"]
mod convolution;
#[path = "cuda/image_batch.rs"]
mod image_batch;
#[path = "cuda/large.rs"]
mod large;
#[path = "cuda/measure.rs"]
mod measure;
#[path = "cuda/memory.rs"]
mod memory;
#[path = "cuda/nccl.rs"]
mod nccl;
#[path = "cuda/norm.rs"]
mod norm;
#[path = "cuda/optimizers.rs"]
mod optimizers;
#[path = "cuda/rearrange.rs"]
mod rearrange;
use candle_vision_test_support::reference;
#[path = "cuda/twins.rs"]
mod twins;
#[path = "cuda/uploads.rs"]
mod uploads;
