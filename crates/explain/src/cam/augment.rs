//! Maps averaged over variants of an image.

use candle_core::Tensor;

use crate::{ClassActivationMap, Result, Target};

/// The factors that the values of an image are multiplied by, as in pytorch-grad-cam.
const FACTORS: [f64; 3] = [0.9, 1.0, 1.1];

/// The mean of the maps over six variants of each image: unchanged, darker and brighter, each also mirrored.
/// pytorch-grad-cam does the same. `once` makes the maps of a batch. `plain` holds the maps of the unchanged
/// images; their classes are used for all variants.
///
/// The mean is not scaled to `0..=1` again. A peak below 1 shows that the variants disagree about the place,
/// and this is worth seeing.
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
    // The sum starts with the map of the unchanged image.
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
