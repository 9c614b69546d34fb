//! The answer: one map an image.

mod npy;

use candle_core::{DType, Tensor};

use crate::scale::to_input_size;
use crate::target::Answer;
use crate::{Error, Result};

/// Which places of an image speak for a class.
#[derive(Debug, Clone, PartialEq)]
pub struct ClassActivationMap {
    /// Row by row, `height * width` values in `0.0..=1.0`; 1 speaks for the class most.
    pub map: Vec<f32>,
    /// Height of the network's input, in pixels.
    pub height: usize,
    /// Width of the network's input, in pixels.
    pub width: usize,
    /// The class that the map is about.
    pub class: usize,
    /// The probability that the network gives to this class.
    pub probability: f64,
    /// Whether any place speaks for the class. If not, the map is 0 everywhere, and that is the
    /// answer.
    pub positive: bool,
    /// The path of the layer that was looked at; [`PIXELS`] for a map of the input's own pixels.
    pub layer: String,
}

/// The [`ClassActivationMap::layer`] of a map that looks at no layer.
pub const PIXELS: &str = "the pixels";

/// Maps from one coarse map an image, `[batch, height, width]`: negative evidence is dropped, the
/// rest scaled to `0..=1` and to the input's `size` `[height, width]`.
pub(crate) fn from_coarse(
    coarse: &Tensor,
    answers: &[Answer],
    size: [usize; 2],
    layer: &str,
) -> Result<Vec<ClassActivationMap>> {
    let (_, height, width) = coarse.dims3()?;
    let rows = coarse.to_dtype(DType::F32)?.flatten_from(1)?.to_vec2::<f32>()?;
    let map = |(index, (row, answer)): (usize, (Vec<f32>, &Answer))| {
        if row.iter().any(|value| !value.is_finite()) {
            return Err(Error::MapNotFinite { index, layer: layer.to_owned() });
        }
        let evidence: Vec<f32> = row.iter().map(|value| value.max(0.0)).collect();
        Ok(ClassActivationMap {
            map: to_input_size(&evidence, [height, width], size),
            height: size[0],
            width: size[1],
            class: answer.class,
            probability: answer.probability,
            positive: evidence.iter().any(|value| *value > 0.0),
            layer: layer.to_owned(),
        })
    };
    rows.into_iter().zip(answers).enumerate().map(map).collect()
}
