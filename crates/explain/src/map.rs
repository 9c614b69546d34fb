//! The result of an explanation: one map for each image.

mod npy;

use candle_core::{DType, Tensor};

use crate::scale::to_input_size;
use crate::target::Answer;
use crate::{Error, Result};

/// A map of the places of an image that speak for a class.
#[derive(Debug, Clone, PartialEq)]
pub struct ClassActivationMap {
    /// The map, row by row: `height * width` values in `0.0..=1.0`. At 1 a place speaks for the class most.
    pub map: Vec<f32>,
    /// Height of the network's input, in pixels.
    pub height: usize,
    /// Width of the network's input, in pixels.
    pub width: usize,
    /// The class that the map is about.
    pub class: usize,
    /// The probability that the network gives to this class, in `0.0..=1.0`.
    pub probability: f64,
    /// Whether any place speaks for the class. If none does, the map is 0 everywhere.
    pub positive: bool,
    /// The path of the layer that was looked at. It is [`PIXELS`] for a map of the input's own pixels.
    pub layer: String,
}

/// The value of [`ClassActivationMap::layer`] for a map that looks at no layer.
pub const PIXELS: &str = "the pixels";

/// Makes maps from one coarse map for each image, `[batch, height, width]`. Negative evidence is dropped. The
/// rest is scaled to `0..=1` and resized to the input's `size`, `[height, width]`.
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
