//! CPU kernels: plain functions on slices. The only folder of the workspace with `unsafe` code.

pub(crate) mod activation;
pub(crate) mod avg_pool;
pub(crate) mod batch_norm;
pub(crate) mod channel_sums;
pub(crate) mod conv;
pub(crate) mod conv_shape;
pub(crate) mod dropout;
mod exp;
pub(crate) mod finish;
pub(crate) mod float;
pub(crate) mod gemm;
pub(crate) mod layout;
pub(crate) mod max_pool;
pub(crate) mod optimizer_step;
pub(crate) mod output;
pub(crate) mod parallel;
pub(crate) mod pieces;
pub(crate) mod pool;
pub(crate) mod prepared;
mod product;
pub(crate) mod scratch;
mod simd;
pub(crate) mod softmax;
pub(crate) mod storage;
pub(crate) mod vectorize;
pub(crate) mod winograd;
