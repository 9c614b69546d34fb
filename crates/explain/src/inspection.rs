//! Feature inspection: the outputs of elementary layers, the feature maps and first kernels of a network, and
//! the contribution of each residual block.
//!
//! - [`elementary`]: ReLU, sigmoid, max pooling and a given convolution ([`Filter`]) on an image
//! - [`feature_maps`], [`first_kernels`]: the output of a layer of a network, and the kernels of its first
//!   convolution
//! - [`residual_blocks`], [`ResidualLens`], [`WithoutBlock`]: how much each block of a residual network
//!   changes, and the network without one of its blocks

mod elementary;
mod feature_maps;
mod filter;
mod residual;
mod without_block;

pub use elementary::{Elementary, elementary};
pub use feature_maps::{FeatureMaps, Kernels, feature_maps, first_kernels};
pub use filter::Filter;
pub use residual::{BlockStatistics, ResidualBlock, ResidualLens, residual_blocks};
pub use without_block::WithoutBlock;
