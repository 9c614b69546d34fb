//! An image on the host, and the network's probabilities for changed copies of it.

use candle_core::{DType, Tensor};
use candle_vision_models::{EvalPasses, Model};

use crate::{ClassActivationMap, Error, Result};

/// How many copies go through the network in one pass.
const CHUNK: usize = 16;

/// An image whose pixels are changed in the order that a map gives.
pub(super) struct Perturbed<'a> {
    passes: EvalPasses<&'a dyn Model>,
    image: &'a Tensor,
    class: usize,
    /// `channels * height * width` values.
    pub(super) values: Vec<f32>,
    pub(super) channels: usize,
    pub(super) height: usize,
    pub(super) width: usize,
    /// Indices of the pixels, the hottest pixel of the map first.
    pub(super) order: Vec<usize>,
}

impl<'a> Perturbed<'a> {
    pub(super) fn new(
        model: &'a dyn Model,
        image: &'a Tensor,
        map: &ClassActivationMap,
    ) -> Result<Self> {
        let &[1, channels, height, width] = image.dims() else {
            return Err(Error::ImageShape { shape: image.dims().to_vec() });
        };
        check_size(map, height * width)?;
        if map.class >= model.spec().num_classes {
            let (class, num_classes) = (map.class, model.spec().num_classes);
            return Err(Error::ClassOutOfRange { class, num_classes });
        }
        let values = image.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?;
        let mut order: Vec<usize> = (0..height * width).collect();
        // The sort is stable, so of equally hot pixels the first comes first.
        order.sort_by(|a, b| map.map[*b].total_cmp(&map.map[*a]));
        Ok(Self {
            passes: EvalPasses::new(model),
            image,
            class: map.class,
            values,
            channels,
            height,
            width,
            order,
        })
    }

    pub(super) fn pixels(&self) -> usize {
        self.height * self.width
    }

    /// A copy of `base` that has the values of `other` at `pixels`, in every channel.
    pub(super) fn replaced(&self, base: &[f32], other: &[f32], pixels: &[usize]) -> Vec<f32> {
        let mut values = base.to_vec();
        for channel in 0..self.channels {
            let start = channel * self.pixels();
            for pixel in pixels {
                values[start + pixel] = other[start + pixel];
            }
        }
        values
    }

    /// The probability of the map's class for each of `images`.
    pub(super) fn probabilities(&self, images: &[Vec<f32>]) -> Result<Vec<f64>> {
        let mut probabilities = Vec::with_capacity(images.len());
        for chunk in images.chunks(CHUNK) {
            let shape = (chunk.len(), self.channels, self.height, self.width);
            let images = Tensor::from_vec(chunk.concat(), shape, self.image.device())?;
            let images = images.to_dtype(self.image.dtype())?;
            let logits = self.passes.forward(&images)?.to_dtype(DType::F32)?;
            let rows = logits.to_vec2::<f32>()?;
            let spec = self.passes.model().spec();
            probabilities.extend(rows.iter().map(|row| spec.probability(row, self.class)));
        }
        Ok(probabilities)
    }
}

/// Checks that the map has `pixels` values.
pub(super) fn check_size(map: &ClassActivationMap, pixels: usize) -> Result<()> {
    if map.map.len() != pixels || map.height * map.width != pixels {
        let (height, width) = (map.height, map.width);
        return Err(Error::MapSize { height, width, values: map.map.len(), pixels });
    }
    Ok(())
}
