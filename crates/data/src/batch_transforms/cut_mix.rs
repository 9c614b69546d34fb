//! CutMix.

use candle_core::Tensor;
use candle_vision_registry::Description;
use serde::{Deserialize, Serialize};

use super::mix::{channels_first, channels_last, check_alpha, mixed};
use super::{BatchTransform, BatchTransformEntry, BatchValues, describe};
use crate::error::Result;
use crate::random::{self, Generator};

const NAME: &str = "cutmix";

pub(super) fn entry() -> BatchTransformEntry {
    BatchTransformEntry::of::<CutMix>(NAME, "pastes a box of another image of the batch into each")
}

/// Pastes a box of the image before it in its batch into each image, and mixes their targets by the area of the box (Yun
/// et al. 2019, "CutMix: Regularization Strategy to Train Strong Classifiers with Localizable Features").
///
/// The box has the same place in all images of a batch. Its area is on average that of a number of the beta distribution
/// with both parameters `alpha`, less what lies outside of the image. The default is 1.
///
/// In a recipe: `batch_transforms = [{ op = "cutmix", alpha = 1.0 }]`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CutMix {
    alpha: f64,
}

/// The box that [`CutMix`] pastes, in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CutBox {
    /// The first row.
    pub top: usize,
    /// The first column.
    pub left: usize,
    /// Number of rows. It may be 0.
    pub height: usize,
    /// Number of columns. It may be 0.
    pub width: usize,
}

impl CutBox {
    /// The share of an image of `[height, width]` that lies outside of the box, `0.0..=1.0`.
    pub fn share_outside(&self, [height, width]: [usize; 2]) -> f64 {
        1.0 - (self.height * self.width) as f64 / (height * width) as f64
    }
}

impl CutMix {
    /// Areas from the beta distribution with both parameters `alpha`.
    pub fn new(alpha: f64) -> Self {
        Self { alpha }
    }

    /// The box for images of `[height, width]`.
    pub fn draw(&self, [height, width]: [usize; 2], rng: &mut Generator) -> CutBox {
        let share = random::beta(rng, self.alpha, self.alpha);
        let (x, y) = (random::below(rng, width), random::below(rng, height));
        let half = 0.5 * (1.0 - share).sqrt();
        // torchvision cuts off the fractions of half the sides.
        let around = |center: usize, side: usize| {
            let half = (half * side as f64) as usize;
            center.saturating_sub(half)..(center + half).min(side)
        };
        let (rows, columns) = (around(y, height), around(x, width));
        CutBox { top: rows.start, left: columns.start, height: rows.len(), width: columns.len() }
    }
}

impl Default for CutMix {
    fn default() -> Self {
        Self::new(1.0)
    }
}

impl BatchTransform for CutMix {
    fn apply(&self, batch: BatchValues, rng: &mut Generator) -> Result<BatchValues> {
        if batch.targets.dim(0)? < 2 {
            return Ok(batch);
        }
        let (_, _, height, width) = batch.images.dims4()?;
        let cut = self.draw([height, width], rng);
        let images = channels_first(&pasted(&channels_last(&batch.images)?, cut)?)?;
        Ok(BatchValues {
            images,
            targets: mixed(&batch.targets, cut.share_outside([height, width]))?,
        })
    }

    fn describe(&self) -> Description {
        describe(NAME, self)
    }

    fn validate(&self) -> Result<()> {
        check_alpha(NAME, self.alpha)
    }
}

/// The images `[batch, height, width, channels]` with the box of the image before each.
fn pasted(images: &Tensor, cut: CutBox) -> candle_core::Result<Tensor> {
    let CutBox { top, left, height, width } = cut;
    if height == 0 || width == 0 {
        return Ok(images.clone());
    }
    let band = images.narrow(1, top, height)?;
    let given = band.narrow(2, left, width)?.contiguous()?.roll(1, 0)?;
    let band = framed(&band, &given, 2, left)?;
    framed(images, &band, 1, top)
}

/// `whole` with `part` in its place from `start` on along an axis.
fn framed(whole: &Tensor, part: &Tensor, axis: usize, start: usize) -> candle_core::Result<Tensor> {
    let end = start + part.dim(axis)?;
    let pieces = [
        whole.narrow(axis, 0, start)?,
        part.clone(),
        whole.narrow(axis, end, whole.dim(axis)? - end)?,
    ];
    let mut filled = Vec::with_capacity(pieces.len());
    for piece in pieces {
        if piece.dim(axis)? > 0 {
            filled.push(piece.contiguous()?);
        }
    }
    Tensor::cat(&filled, axis)
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, IndexOp};

    use super::*;

    #[test]
    fn the_box_comes_from_the_image_before() -> candle_core::Result<()> {
        let images = Tensor::arange(0f32, 3.0, &Device::Cpu)?.reshape((3, 1, 1, 1))?;
        let images = images.broadcast_as((3, 5, 7, 2))?.contiguous()?;
        for cut in [
            CutBox { top: 1, left: 2, height: 3, width: 4 },
            CutBox { top: 0, left: 0, height: 5, width: 7 },
            CutBox { top: 4, left: 6, height: 1, width: 1 },
            CutBox { top: 2, left: 0, height: 0, width: 7 },
        ] {
            let found = pasted(&images, cut)?;
            assert!(found.is_contiguous() && found.dims() == images.dims());
            for image in 0..3 {
                let found = found.i((image, .., .., 1))?.to_vec2::<f32>()?;
                for (y, row) in found.iter().enumerate() {
                    for (x, value) in row.iter().enumerate() {
                        let is_inside = (cut.top..cut.top + cut.height).contains(&y)
                            && (cut.left..cut.left + cut.width).contains(&x);
                        let expected = if is_inside { (image + 2) % 3 } else { image };
                        assert_eq!(*value, expected as f32, "{cut:?}, image {image}, {y}, {x}");
                    }
                }
            }
        }
        Ok(())
    }
}
