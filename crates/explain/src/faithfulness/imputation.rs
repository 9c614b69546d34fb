//! Filling missing pixels from their neighbours (Rong et al. 2022, section 4.1).

use candle_vision_models::standard_normal;
use candle_vision_ops::Generator;

/// The eight neighbours of a pixel as (down, right, weight). A missing pixel becomes their weighted mean: the
/// four direct neighbours count twice.
const NEIGHBOURS: [(isize, isize, f32); 8] = [
    (-1, -1, 1.0),
    (-1, 0, 2.0),
    (-1, 1, 1.0),
    (0, -1, 2.0),
    (0, 1, 2.0),
    (1, -1, 1.0),
    (1, 0, 2.0),
    (1, 1, 1.0),
];
/// Standard deviation of the noise on filled pixels. The noise hides their smoothness from the network.
const NOISE: f32 = 0.01;
/// The factor of the over-relaxation. 1.8 is near the best one for holes of tens of pixels.
const RELAXATION: f32 = 1.8;
const MOST_SWEEPS: usize = 300;

/// Fills the `missing` pixels of one channel (`height` rows of `width`). Every one of them becomes the mean of
/// its neighbours. Then a little noise is added.
///
/// The linear equations are those of a membrane stretched over the hole. Successive over-relaxation solves
/// them. The sweeps end when no sweep moves a pixel by more than a thousandth.
pub(super) fn fill(
    channel: &mut [f32],
    width: usize,
    missing: &[usize],
    generator: &mut Generator,
) {
    let height = channel.len() / width;
    begin_with_the_mean(channel, missing);
    for _ in 0..MOST_SWEEPS {
        let mut largest = 0f32;
        for &pixel in missing {
            let change = neighbour_mean(channel, pixel, height, width) - channel[pixel];
            channel[pixel] += RELAXATION * change;
            largest = largest.max(change.abs());
        }
        if largest < 1e-3 {
            break;
        }
    }
    for &pixel in missing {
        channel[pixel] += NOISE * standard_normal(generator) as f32;
    }
}

/// Sets the missing pixels to the mean of the others. This start is near the solution.
fn begin_with_the_mean(channel: &mut [f32], missing: &[usize]) {
    let all: f64 = channel.iter().map(|value| f64::from(*value)).sum();
    let gone: f64 = missing.iter().map(|pixel| f64::from(channel[*pixel])).sum();
    let left = (channel.len() - missing.len()).max(1);
    let mean = ((all - gone) / left as f64) as f32;
    for pixel in missing {
        channel[*pixel] = mean;
    }
}

fn neighbour_mean(channel: &[f32], pixel: usize, height: usize, width: usize) -> f32 {
    let (row, column) = (pixel / width, pixel % width);
    let (mut sum, mut total) = (0.0, 0.0);
    for (down, right, weight) in NEIGHBOURS {
        let at = (row.checked_add_signed(down), column.checked_add_signed(right));
        if let (Some(row), Some(column)) = at
            && row < height
            && column < width
        {
            sum += weight * channel[row * width + column];
            total += weight;
        }
    }
    // An image of one pixel has no neighbours.
    if total > 0.0 { sum / total } else { channel[pixel] }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn a_slope_is_continued_through_a_hole() {
        let slope: Vec<f32> = (0..12 * 12).map(|i| (i % 12) as f32).collect();
        let missing: Vec<usize> =
            (0..144).filter(|i| (3..9).contains(&(i / 12)) && (3..9).contains(&(i % 12))).collect();
        let mut channel = slope.clone();
        missing.iter().for_each(|pixel| channel[*pixel] = 99.0);
        fill(&mut channel, 12, &missing, &mut Generator::seed_from_u64(0));
        for (found, expected) in channel.iter().zip(&slope) {
            assert!((found - expected).abs() < 0.08, "{found}, expected {expected}");
        }
        // The noise is there, and only in the hole.
        assert!(missing.iter().any(|pixel| channel[*pixel] != slope[*pixel]));
        assert_eq!(channel[0..36], slope[0..36]);
    }
}
