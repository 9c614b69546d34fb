//! Every op but the products with a kernel: values against PyTorch's, gradients against finite
//! differences. One test program, since linking candle takes longer than running any of it.

use candle_vision_test_support as every_path;
#[path = "../support/places.rs"]
mod places;
use candle_vision_test_support::reference;
mod support;

mod activation;
mod attention;
mod backward;
mod batch_norm;
mod cast;
mod classification;
mod dropout;
mod fused_activations;
mod image_batch;
mod interpolate;
mod layer_norm;
mod layout;
mod local_response_norm;
mod on_gradient;
mod padding;
mod pooling;
mod prepared_conv2d;
mod products;
mod rearrange;

/// Widths, tails and blocks differ between the kernels' sets of instructions.
#[test]
fn every_set_of_instructions_passes() {
    every_path::with_every_limit("");
}
