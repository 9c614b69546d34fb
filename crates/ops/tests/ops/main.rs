//! Every op but the products with a kernel: values against PyTorch's, gradients against finite
//! differences. One test program, since linking candle takes longer than running any of it.

#[path = "../../../../tests/support/reference.rs"]
mod reference;
mod support;

mod activation;
mod backward;
mod batch_norm;
mod classification;
mod dropout;
mod layout;
mod on_gradient;
mod pooling;
mod prepared_conv2d;
