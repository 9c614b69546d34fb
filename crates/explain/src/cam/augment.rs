//! Maps averaged over variants of an image.

use candle_core::Tensor;

use crate::{ClassActivationMap, Result, Target};

/// What the values of an image are multiplied by, as pytorch-grad-cam does.
const FACTORS: [f64; 3] = [0.9, 1.0, 1.1];

/// The mean of the maps that `once` makes of each image as it is, darker and brighter, each also
/// mirrored, as pytorch-grad-cam does. `plain` are those of the images as they are; their classes
/// hold for all variants.
///
/// The mean is not scaled to `0..=1` once more: where its peak lies below 1, the variants disagree
/// about the place, and that is worth seeing.
pub(super) fn smooth(
    images: &Tensor,
    target: &Target,
    plain: Vec<ClassActivationMap>,
    once: impl Fn(&Tensor, &Target) -> Result<Vec<ClassActivationMap>>,
) -> Result<Vec<ClassActivationMap>> {
    let target = match target {
        Target::Predicted => Target::Classes(plain.iter().map(|map| map.class).collect()),
        other => other.clone(),
    };
    let mut total = plain;
    let variants = [false, true].into_iter().flat_map(|mirrored| FACTORS.map(|f| (mirrored, f)));
    // The first sum is the map of the image as it is.
    for (mirrored, factor) in variants.clone().filter(|variant| *variant != (false, 1.0)) {
        let mut variant = (images * factor)?;
        if mirrored {
            variant = variant.contiguous()?.flip(&[3])?;
        }
        for (sum, map) in total.iter_mut().zip(once(&variant, &target)?) {
            add(sum, &map, mirrored);
        }
    }
    let count = variants.count() as f32;
    for value in total.iter_mut().flat_map(|sum| &mut sum.map) {
        *value /= count;
    }
    Ok(total)
}

fn add(sum: &mut ClassActivationMap, map: &ClassActivationMap, mirrored: bool) {
    sum.positive |= map.positive;
    let rows = sum.map.chunks_mut(map.width).zip(map.map.chunks(map.width));
    for (sum, row) in rows {
        for (column, value) in sum.iter_mut().enumerate() {
            *value += row[if mirrored { map.width - 1 - column } else { column }];
        }
    }
}
