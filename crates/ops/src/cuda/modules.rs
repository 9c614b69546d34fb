//! Our compiled kernels and their loading.

use std::sync::{Arc, OnceLock};

use candle_core::Result;
use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::{CudaModule, CudaStream};
use candle_core::cuda_backend::cudarc::nvrtc::Ptx;

/// A compiled file of `kernels/`.
#[derive(Clone, Copy, Debug)]
pub(super) enum Source {
    Attention,
    BatchNorm,
    Columns,
    Depth,
    Elementwise,
    ImageBatch,
    LayerNorm,
    Layout,
    Optimizer,
    Pool,
    Random,
    Rearrange,
    Resample,
    ResponseNorm,
    Softmax,
    Sums,
}

macro_rules! fatbin {
    ($name:literal) => {
        include_bytes!(concat!(env!("OUT_DIR"), "/", $name, ".fatbin"))
    };
}

impl Source {
    pub(super) const ALL: [Self; 16] = [
        Self::Attention,
        Self::BatchNorm,
        Self::Columns,
        Self::Depth,
        Self::Elementwise,
        Self::ImageBatch,
        Self::LayerNorm,
        Self::Layout,
        Self::Optimizer,
        Self::Pool,
        Self::Random,
        Self::Rearrange,
        Self::Resample,
        Self::ResponseNorm,
        Self::Softmax,
        Self::Sums,
    ];

    /// Machine code for some cards, and PTX for later ones.
    fn fatbin(self) -> &'static [u8] {
        match self {
            Self::Attention => fatbin!("attention"),
            Self::BatchNorm => fatbin!("batch_norm"),
            Self::Columns => fatbin!("columns"),
            Self::Depth => fatbin!("depth"),
            Self::Elementwise => fatbin!("elementwise"),
            Self::ImageBatch => fatbin!("image_batch"),
            Self::LayerNorm => fatbin!("layer_norm"),
            Self::Layout => fatbin!("layout"),
            Self::Optimizer => fatbin!("optimizer"),
            Self::Pool => fatbin!("pool"),
            Self::Random => fatbin!("random"),
            Self::Rearrange => fatbin!("rearrange"),
            Self::Resample => fatbin!("resample"),
            Self::ResponseNorm => fatbin!("response_norm"),
            Self::Softmax => fatbin!("softmax"),
            Self::Sums => fatbin!("sums"),
        }
    }

    /// The name of one of its kernels, for `f32`.
    pub(super) fn a_kernel(self) -> &'static str {
        match self {
            Self::Attention => "attention_softmax",
            Self::BatchNorm => "moments",
            Self::Columns => "im2col",
            Self::Depth => "space_to_depth",
            Self::Elementwise => "relu",
            Self::ImageBatch => "image_batch",
            Self::LayerNorm => "layer_norm",
            Self::Layout => "transpose",
            Self::Optimizer => "sgd",
            Self::Pool => "max_pool",
            Self::Random => "kept",
            Self::Rearrange => "rearrange",
            Self::Resample => "resample",
            Self::ResponseNorm => "response_norm",
            Self::Softmax => "softmax",
            Self::Sums => "column_sums",
        }
    }
}

/// The modules that are loaded on one device.
#[derive(Default)]
pub(super) struct Modules([OnceLock<Arc<CudaModule>>; Source::ALL.len()]);

impl Modules {
    /// The module of `source`, which is loaded when it is first needed.
    pub(super) fn get(&self, stream: &CudaStream, source: Source) -> Result<Arc<CudaModule>> {
        let place = &self.0[source as usize];
        if let Some(module) = place.get() {
            return Ok(module.clone());
        }
        let image = Ptx::from_binary(source.fatbin().to_vec());
        let module = stream.context().load_module(image).w()?;
        // Two threads may load it at once. One of the two modules is kept.
        Ok(place.get_or_init(|| module).clone())
    }
}

/// Whether the build has machine code for a card of this compute capability. The major number must be equal
/// and the minor number not greater than the card's.
pub(super) fn has_machine_code(capability: (i32, i32)) -> bool {
    let list = env!("CANDLE_VISION_MACHINE_CODE").split(',').filter_map(|code| code.parse().ok());
    runs_any(capability, list)
}

fn runs_any((major, minor): (i32, i32), mut machine_code: impl Iterator<Item = i32>) -> bool {
    machine_code.any(|code| code / 10 == major && code % 10 <= minor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machine_code_runs_on_later_cards_of_its_generation() {
        for (capability, expected) in [
            ((7, 5), false),
            ((8, 0), true),
            ((8, 6), true),
            ((8, 7), true),
            ((8, 9), true),
            ((9, 0), true),
            ((10, 0), false),
            ((12, 0), false),
        ] {
            assert_eq!(
                runs_any(capability, [80, 86, 89, 90].into_iter()),
                expected,
                "{capability:?}"
            );
        }
        assert!(!runs_any((8, 0), [86].into_iter()));
        assert!(runs_any((10, 3), [100].into_iter()));
        assert!(!runs_any((8, 0), [].into_iter()));
    }

    #[test]
    fn each_source_has_its_place() {
        for (place, source) in Source::ALL.into_iter().enumerate() {
            assert_eq!(source as usize, place, "{source:?}");
        }
    }
}
