//! CUDA kernels and libraries, behind the same functions as the CPU kernels.
//!
//! Everything runs on the single stream of candle's device, in the order of the calls. The host does not
//! wait for it. Our own kernels are `kernels/*.cu`, which are compiled when the crate is built.
//! Convolutions use cuDNN, which is opened when it is first needed. Without cuDNN they use a matrix
//! product.

mod activation;
mod array;
mod attention;
mod batch_norm;
mod bounded;
mod capture;
mod conv;
mod cross_entropy;
mod cudnn;
mod device;
mod dropout;
mod element;
mod function;
mod gemm;
mod image_batch;
mod kernels_in_order;
mod layer_norm;
mod layout;
mod library;
mod linear;
mod loading;
mod local_response_norm;
mod memory;
mod modules;
mod nccl;
pub(crate) mod optimizer_step;
mod pool;
mod random;
mod rearrange;
mod resample;
mod size;
mod softmax;
mod state;
mod sums;
mod upload;

pub(crate) use activation::{curve, curve_gradient, relu_gradient};
pub(crate) use array::{Array, kept, tensor, unread};
pub(crate) use attention::{Scores, attention, attention_gradients};
pub(crate) use batch_norm::{
    BehindSum, Incoming, Normalization, Sums, affine_gradient,
    input_gradient as batch_norm_input_gradient, is_of_few_rows, moments, move_statistics,
    normalize, whole as batch_norm_whole, whole_gradient as batch_norm_whole_gradient,
};
pub use capture::{Captured, PreparedWork};
pub(crate) use capture::{is_capturing, only_collects as only_collects_numbers};
pub(crate) use conv::{
    Finish, input_gradient as conv_input_gradient, kernel_gradient as conv_kernel_gradient,
    lies_channels_last, output as conv_output, wants_channels_last as conv_wants_channels_last,
};
pub(crate) use cross_entropy::{cross_entropy, cross_entropy_gradient, label_targets};
pub(crate) use device::bind_this_thread;
pub use device::{card_memory_in_use, cuda_device};
pub(crate) use dropout::keep;
pub(crate) use gemm::matmul;
pub(crate) use image_batch::image_batch;
pub(crate) use kernels_in_order::kernels_in_order;
pub(crate) use layer_norm::{
    RowStatistics, layer_norm, layer_norm_input_gradient, layer_norm_parameter_gradients,
};
pub(crate) use layout::{copied, transpose};
pub(crate) use linear::{linear, linear_input_gradient, linear_weight_gradient};
pub use loading::{Translation, load_kernels};
pub(crate) use local_response_norm::{local_response_norm, local_response_norm_gradient};
pub use memory::{card_memory, cuda_device_count, limit_card_memory};
pub use nccl::CardRanks;
pub(crate) use pool::{Positions, average, average_gradient, max, max_and_positions, max_gradient};
pub(crate) use random::{kept as random_kept, row_factors};
pub(crate) use rearrange::{mul, rearrange};
pub(crate) use resample::resample;
pub(crate) use softmax::{one_hot_largest, softmax, softmax_gradient};
pub(crate) use sums::sum_columns;
pub use upload::{upload, upload_labels, upload_pixels};
