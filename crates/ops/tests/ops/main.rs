//! Every op but the products with a kernel: values against PyTorch's, gradients against finite
//! differences. One test program, since linking candle takes longer than running any of it.

#[path = "../../../../tests/support/every_path.rs"]
mod every_path;
#[path = "../../../../tests/support/places.rs"]
mod places;
#[path = "../../../../tests/support/reference.rs"]
mod reference;
mod support;

mod activation;
mod backward;
mod batch_norm;
mod cast;
mod classification;
mod dropout;
mod interpolate;
mod layer_norm;
mod layout;
mod on_gradient;
mod pooling;
mod prepared_conv2d;

/// Widths, tails and blocks differ between the kernels' sets of instructions.
#[test]
fn every_set_of_instructions_passes() {
    every_path::with_every_limit("");
}
