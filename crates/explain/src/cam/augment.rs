//! Maps averaged over variants of a picture.

use candle_core::Tensor;

use crate::scale::stretch;
use crate::{ClassActivationMap, Result, Target};

/// The average of the maps that `once` makes of each picture as it is, darker and brighter, each
/// also mirrored, as pytorch-grad-cam does. `plain` are those of the pictures as they are; their
/// classes hold for all variants.
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
    for (mirrored, factor) in [(false, 0.9), (false, 1.1), (true, 0.9), (true, 1.0), (true, 1.1)] {
        let mut variant = (images * factor)?;
        if mirrored {
            variant = variant.contiguous()?.flip(&[3])?;
        }
        for (sum, map) in total.iter_mut().zip(once(&variant, &target)?) {
            add(sum, &map, mirrored);
        }
    }
    total.iter_mut().for_each(|sum| stretch(&mut sum.map));
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
