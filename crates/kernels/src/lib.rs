//! CPU kernels for images and networks: plain functions on slices, forward and backward.
//!
//! This crate knows no tensor library. Its functions take slices and sizes and return vectors. The crate
//! `candle-vision-ops` makes differentiable candle operations of them. Other programs can use them with any
//! container of numbers.
//!
//! # Conventions
//! - Number types are `f32` and `f64` ([`Float`](float::Float)). Both are compiled in this crate, at its
//!   optimisation level.
//! - Feature maps are channels-last: `[batch, height, width, channels]`, contiguous.
//! - Convolution kernels have PyTorch's shape: `[out_channels, in_channels / groups, height, width]`.
//! - Work is divided over rayon's threads by sizes alone, and sums run in a fixed order. So the same input
//!   gives the same bits on any number of threads.
//! - Kernels choose AVX2 or AVX-512 at run time. The environment variable `CANDLE_VISION_CPU` (`avx2` or
//!   `portable`) limits the choice.
//! - A slice that is shorter than the sizes say causes a panic, like an index out of bounds.
//!
//! # Example
//! A 3x3 convolution with a bias and a ReLU, and the gradient of its kernel:
//! ```
//! use candle_vision_kernels::conv;
//! use candle_vision_kernels::conv_shape::{ConvShape, out_size};
//! use candle_vision_kernels::finish::{Finish, finish};
//!
//! let side = out_size(8, 3, 2, [1, 1], 1)?;
//! let shape = ConvShape {
//!     batch: 1,
//!     in_size: [8, 8],
//!     in_channels: 3,
//!     out_size: [side, side],
//!     out_channels: 4,
//!     kernel: [3, 3],
//!     stride: [2, 2],
//!     padding: [1, 1],
//!     dilation: [1, 1],
//!     groups: 1,
//!     exact: false,
//! };
//! let images = vec![1f32; shape.input_len()];
//! let kernel = vec![0.1f32; shape.kernel_len()];
//!
//! let mut maps = conv::output(&images, &kernel, &shape);
//! let by = Finish { bias: Some(&[0.5; 4]), ceiling: Some(f32::INFINITY), residual: None };
//! finish(&mut maps, 4, &by);
//! assert_eq!(maps.len(), 4 * 4 * 4);
//!
//! let gradient = conv::kernel_gradient(&images, &vec![1.0; maps.len()], &shape);
//! assert_eq!(gradient.len(), kernel.len());
//! # Ok::<(), candle_vision_kernels::Error>(())
//! ```

#![warn(missing_debug_implementations)]

pub mod activation;
pub mod add;
pub mod attention;
pub mod avg_pool;
pub mod batch_norm;
pub mod binary_cross_entropy;
pub mod cat;
pub mod channel_sums;
mod compiled;
pub mod conv;
pub mod conv_shape;
pub mod copied;
pub mod dropout;
mod erf;
mod error;
mod exp;
pub mod finish;
pub mod float;
pub mod gemm;
pub mod layer_norm;
pub mod layout;
pub mod local_response_norm;
pub mod max_pool;
pub mod mul;
pub mod optimizer_step;
mod output;
mod parallel;
mod pieces;
pub mod pixel_steps;
pub mod pool;
pub mod prepared;
mod product;
pub mod rearrange;
pub mod resample;
mod scratch;
mod simd;
pub mod softmax;
mod vectorize;
mod winograd;
pub mod workspace;

pub use error::{Error, Result};

/// Compiles the README's example.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
