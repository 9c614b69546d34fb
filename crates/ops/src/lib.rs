//! Differentiable image operations for candle with correct gradients, and fast kernels for them.
//!
//! candle's own operations are enough to run a network, but not to train one. On candle 0.11:
//!
//! | operation in candle | problem of its gradient |
//! |---|---|
//! | `max_pool2d` | is divided by the area of the window; goes to every one of equal elements; is lost at sizes that do not divide; does not exist if the kernel is not the stride |
//! | `upsample_nearest2d` | overwrites the contributions of other uses of its input |
//! | `relu` | is 1 at 0, where PyTorch's is 0 |
//! | `candle_nn::ops::softmax_last_dim`, `layer_norm` | ends there without an error, so that only the layers behind are trained |
//! | `conv2d` with a stride | fails at some sizes that are not square; always uses a naive transposed convolution |
//! | any intermediate tensor's | is dropped during `backward`, so that nothing can read it |
//!
//! Here every gradient is checked against PyTorch's values and against finite differences. The same input
//! gives the same bits on any number of threads.
//!
//! | here | |
//! |---|---|
//! | [`conv2d`], [`linear`] | convolution and fully connected layer |
//! | [`PreparedConv2d`] | for inference: batch norm folded in, weights packed once |
//! | [`PreparedLinear`] | for inference: weights packed once |
//! | [`conv2d_activated`] | with bias and activation in one |
//! | [`max_pool2d`], [`avg_pool2d`], [`adaptive_avg_pool2d`] | pooling |
//! | [`batch_norm_train`], [`batch_norm_eval`] | batch norm, residual sum and activation in one |
//! | [`batch_norm_train_across_ranks`] | batch norm over the batches of several processes |
//! | [`conv2d_batch_norm_train`] | the same together with the convolution before them |
//! | [`layer_norm`], [`local_response_norm`] | layer norm, local response norm |
//! | [`attention`] | scaled dot-product attention of all heads, with bias and mask |
//! | [`interpolate`] | resizing, nearest, bilinear and bicubic |
//! | [`relu`], [`relu6`], [`sigmoid`], [`silu`], [`gelu`], [`hardswish`], [`hardsigmoid`], [`leaky_relu`], [`elu`], [`tanh`], [`softplus`], [`mish`] | activation functions |
//! | [`softmax`], [`log_softmax`], [`cross_entropy`] | classification; smoothing, class weights, soft targets |
//! | [`dropout`] | with a [`Generator`] that can be seeded |
//! | [`CardRanks`] | sums over the cards of several processes, by NCCL |
//! | [`backward`], [`backward_from`] | a faster `backward`: a node's gradient is passed on as it is |
//! | [`kept_bytes`] | how much memory a graph keeps for `backward`, and what `backward` adds |
//! | [`on_gradient`] | reads and changes a gradient during `backward` |
//! | [`sgd_steps`], [`adam_steps`], [`rms_prop_steps`] | updates of parameters, in place and in one pass over memory |
//! | [`in_pool`], [`join_pool`] | a whole step on the threads that its loops run on |
//! | [`add`], [`scale`], [`cast`] | a sum, a product with a number, another float type |
//! | [`mul`], [`matmul`], [`mean`] | products with broadcasting, products of matrices, means over axes |
//! | [`pad`], [`slice()`], [`split`], [`cat`], [`channel_shuffle`], [`permute`], [`transpose`], [`reshape`] | moving elements |
//! | [`reference_tensors`] | tensors that any language builds again from their names |
//! | [`image_batch()`] | batches of images that lie on the device as bytes: crops, flips, colours, numbers |
//! | [`channels_last`], [`channels_first`], [`flatten`] | from and to `[batch, channels, height, width]` |
//!
//! # Conventions
//! - Feature maps are channels-last: every function on images takes and returns contiguous
//!   `[batch, height, width, channels]`. Inputs with other strides are copied first.
//! - Parameters keep PyTorch's shapes (`[out_channels, in_channels / groups, height, width]`).
//! - Number types are `f32`, and `f64` for checking gradients. `f16` and `bf16` work too. A GPU computes
//!   with them and sums in `f32`. The CPU computes in `f32` and rounds at the end of each op, which is slow
//!   and shows what a GPU would give. Weights and biases of products have the type of `x`. Those of batch
//!   norm, and its statistics, are `f32` beside a half-precision `x`.
//! - A tensor that depends on no variable, such as a frozen parameter, costs nothing in the backward pass.
//! - Errors name the operation and the shapes. Nothing here panics on a caller's data.
//!
//! # Example
//! ```
//! use candle_core::{Device, Tensor, Var};
//! use candle_vision_ops as ops;
//! use ops::{Activation, CrossEntropyConfig, MaxPool2dConfig, Targets};
//!
//! let device = Device::Cpu;
//! let images = Var::from_tensor(&Tensor::arange(0f32, 72.0, &device)?.reshape((2, 1, 6, 6))?)?;
//! let (weight, bias) = (Tensor::new(&[1f32], &device)?, Tensor::new(&[0f32], &device)?);
//!
//! let x = ops::channels_last(&images)?;
//! let norm = ops::BatchNormParameters::new(&weight, &bias, 1e-5);
//! let (x, _) = ops::batch_norm_train(&x, &norm, None, Activation::Relu)?;
//! let x = ops::max_pool2d(&x, &MaxPool2dConfig::new(3).stride(2).padding(1))?;
//! let x = ops::adaptive_avg_pool2d(&x, [1, 2])?;
//! let logits = ops::flatten(&x)?;
//!
//! let labels = Targets::Labels(&Tensor::new(&[0u32, 1], &device)?);
//! let loss = ops::cross_entropy(&logits, labels, &CrossEntropyConfig::default())?;
//! let gradients = ops::backward(&loss)?;
//! assert_eq!(gradients.get(&images).unwrap().dims(), [2, 1, 6, 6]);
//! # candle_core::Result::Ok(())
//! ```
//!
//! # Memory
//! A training step allocates and frees large buffers at a high rate. glibc's allocator returns them to the
//! system each time, which costs about a quarter of a ResNet18 step in page faults. A program should use an
//! allocator that keeps memory, such as mimalloc with `MIMALLOC_PURGE_DELAY=-1`. By default mimalloc
//! returns memory that was free for a second, which is about the time of a step.
//!
//! # Threads
//! Everything here runs on rayon's threads (`RAYON_NUM_THREADS`). candle's own sums of large tensors, which
//! its `backward` consists of, run on candle's threads, which spin for a while after each sum. If all cores
//! compute, that takes a sixth of a short step's time. So call [`backward`]. If candle's own ops are part
//! of the network, set `CANDLE_BARRIER_POOL_SPIN_LIMIT=1`, which makes these threads sleep instead.

#![warn(missing_debug_implementations)]

mod activation;
mod adaptive_avg_pool2d;
mod add;
mod attention;
mod avg_pool2d;
mod backward;
mod batch_norm;
mod binary_cross_entropy;
mod card_memory;
mod cast;
mod cat;
mod channel_shuffle;
mod check;
mod conv2d;
mod cross_entropy;
#[cfg(feature = "cuda")]
mod cuda;
mod dropout;
mod emulated;
mod graphs;
mod image_batch;
mod in_pool;
mod interpolate;
mod kept_bytes;
mod kernels_in_order;
mod largest;
mod layer_norm;
mod layout;
mod linear;
mod local_response_norm;
mod matmul;
mod max_pool2d;
mod mean;
mod mul;
mod on_gradient;
mod optimizer_step;
mod pad;
mod padding;
mod prepared_conv2d;
mod prepared_linear;
mod rearrange;
pub mod reference_tensors;
mod repetition;
mod scale;
mod shape;
mod slice;
mod softmax;
mod storage;
mod tape;
#[cfg(not(feature = "cuda"))]
mod without_cuda;

pub use activation::{
    Activation, elu, gelu, hardsigmoid, hardswish, leaky_relu, mish, relu, relu6, sigmoid, silu,
    softplus, tanh,
};
pub use adaptive_avg_pool2d::adaptive_avg_pool2d;
pub use add::add;
pub use attention::{AttentionOptions, attention};
pub use avg_pool2d::{AvgPool2dConfig, avg_pool2d};
pub use backward::{ForeignOp, backward, backward_each, backward_from, is_direct, why_not_direct};
pub use batch_norm::{
    AcrossRanks, BatchNormConstants, BatchNormParameters, BatchStatistics, RunningStatistics,
    batch_norm_eval, batch_norm_train, batch_norm_train_across_ranks, conv2d_batch_norm_train,
};
pub use binary_cross_entropy::binary_cross_entropy;
pub use card_memory::CardMemory;
pub use cast::cast;
pub use cat::cat;
pub use channel_shuffle::channel_shuffle;
pub use conv2d::{
    Conv2dConfig, ConvolutionOptions, conv2d, conv2d_activated, set_convolution_benchmark,
    set_exact_convolution, set_tf32,
};
pub use cross_entropy::{CrossEntropyConfig, Targets, cross_entropy, cross_entropy_sum};
#[cfg(feature = "cuda")]
pub use cuda::{
    Captured, CardRanks, PreparedWork, Translation, card_memory, card_memory_in_use, cuda_device,
    cuda_device_count, limit_card_memory, load_kernels, upload, upload_labels, upload_pixels,
};
pub use dropout::{drop_rows, dropout};
pub use graphs::{cuda_graphs, set_cuda_graphs};
pub use image_batch::{Edge, ImageBatch, PixelStep, image_batch};
pub use in_pool::{in_pool, join_pool, pool_threads};
pub use interpolate::{InterpolateMode, interpolate};
pub use kept_bytes::{KeptBytes, kept_bytes};
pub use kernels_in_order::kernels_in_order;
pub use largest::one_hot_largest;
pub use layer_norm::layer_norm;
pub use layout::{channels_first, channels_last, flatten};
pub use linear::linear;
pub use local_response_norm::{LocalResponseNormConfig, local_response_norm};
pub use matmul::matmul;
pub use max_pool2d::{MaxPool2dConfig, max_pool2d};
pub use mean::{mean, sum};
pub use mul::mul;
pub use on_gradient::on_gradient;
pub use optimizer_step::{
    AdamStep, AdamUpdate, Finite, GradScale, RmsPropStep, RmsPropUpdate, SgdStep, SgdUpdate,
    accumulate, adam_steps, adam_steps_scaled, only_collects_numbers, over_norm, rms_prop_steps,
    rms_prop_steps_scaled, sgd_steps, sgd_steps_scaled, sum_of_squares, sums_of_squares,
};
pub use pad::{PadConfig, PadMode, pad};
pub use padding::{Padding2d, PerAxis};
pub use prepared_conv2d::PreparedConv2d;
pub use prepared_linear::PreparedLinear;
pub use repetition::{Repetition, Turn};
pub use scale::scale;
pub use shape::{permute, reshape, transpose};
pub use slice::{slice, split};
pub use softmax::{log_softmax, softmax};
#[cfg(not(feature = "cuda"))]
pub use without_cuda::{
    Captured, CardRanks, PreparedWork, Translation, card_memory, card_memory_in_use, cuda_device,
    cuda_device_count, limit_card_memory, load_kernels, upload, upload_labels, upload_pixels,
};

/// The generator for all random numbers. It is seeded and gives the same numbers on every machine.
pub type Generator = rand_chacha::ChaCha8Rng;

/// Compiles the README's example.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
