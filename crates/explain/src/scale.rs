//! From a coarse map with any range of values to a map of the input's size with values in `0..=1`.

use candle_core::{Result, Tensor};
use candle_vision_ops::{InterpolateMode, channels_first, channels_last, interpolate};

/// Scales `map` (`[height, width]`, row by row) to `0..=1` and resizes it to `size`, as pytorch-grad-cam does.
/// The coarse map is scaled, resized bilinearly and scaled again. The second scaling is needed because
/// interpolation between the centres of coarse cells can miss the extreme values.
pub(crate) fn to_input_size(
    map: &[f32],
    [height, width]: [usize; 2],
    size: [usize; 2],
) -> Vec<f32> {
    let mut coarse = map.to_vec();
    stretch(&mut coarse);
    let mut fine = resize_bilinear(&coarse, [height, width], size);
    stretch(&mut fine);
    fine
}

/// Shifts the smallest value to 0 and scales the largest to 1. A constant map becomes 0: the small constant in
/// the divisor prevents a division by 0.
pub(crate) fn stretch(map: &mut [f32]) {
    let smallest = extreme(map, f32::INFINITY, f32::min);
    let largest = extreme(map, f32::NEG_INFINITY, f32::max) - smallest;
    for value in map {
        *value = (*value - smallest) / (1e-7 + largest);
    }
}

/// The smallest or largest value. Several partial results spare the wait for the one before.
fn extreme(map: &[f32], start: f32, choose: impl Fn(f32, f32) -> f32) -> f32 {
    let mut partial = [start; 16];
    let (blocks, rest) = map.as_chunks::<16>();
    for block in blocks {
        partial.iter_mut().zip(block).for_each(|(so_far, &value)| *so_far = choose(*so_far, value));
    }
    partial.iter().chain(rest).copied().fold(start, choose)
}

/// Bilinear interpolation with half-pixel centres and repeated edges, without antialiasing. It equals
/// `cv2.resize` with its default `INTER_LINEAR`.
pub(crate) fn resize_bilinear(map: &[f32], from: [usize; 2], to: [usize; 2]) -> Vec<f32> {
    let rows = positions(from[0], to[0]);
    let columns = positions(from[1], to[1]);
    // The source rows, wide already. Most are next to many rows of the result.
    let mut wide = Vec::with_capacity(from[0] * to[1]);
    for row in map.chunks_exact(from[1]) {
        wide.extend(columns.iter().map(|at| mix(row[at.first], row[at.second], at.share)));
    }
    let mut out = Vec::with_capacity(to[0] * to[1]);
    for row in &rows {
        let [above, below] = [row.first, row.second].map(|y| &wide[y * to[1]..][..to[1]]);
        out.extend(above.iter().zip(below).map(|(&above, &below)| mix(above, below, row.share)));
    }
    out
}

fn mix(a: f32, b: f32, share: f32) -> f32 {
    a + (b - a) * share
}

/// The two source positions next to one target position, and the weight of the second, in `0.0..=1.0`.
struct Between {
    first: usize,
    second: usize,
    share: f32,
}

fn positions(from: usize, to: usize) -> Vec<Between> {
    let scale = from as f64 / to as f64;
    let place = |i: usize| {
        let x = ((i as f64 + 0.5) * scale - 0.5).clamp(0.0, (from - 1) as f64);
        let first = x as usize;
        Between { first, second: (first + 1).min(from - 1), share: (x - first as f64) as f32 }
    };
    (0..to).map(place).collect()
}

/// Enlarges maps `[channels, height, width]` bilinearly to `size` with aligned corners
/// (`torch.nn.UpsamplingBilinear2d`).
pub(crate) fn enlarged(maps: &Tensor, size: [usize; 2]) -> Result<Tensor> {
    let images = channels_last(&maps.unsqueeze(0)?)?;
    let mode = InterpolateMode::Bilinear { align_corners: true };
    channels_first(&interpolate(&images, size, mode)?)?.squeeze(0)
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    // torch.nn.UpsamplingBilinear2d(size=(3, 5))(torch.tensor([[[[0., 1.], [2., 3.]]]]))
    #[test]
    fn enlarging_puts_corners_on_corners() -> Result<()> {
        let maps = Tensor::new(&[[[0f32, 1.0], [2.0, 3.0]]], &Device::Cpu)?;
        let found = enlarged(&maps, [3, 5])?.flatten_all()?.to_vec1::<f32>()?;
        check(&found[..5], &[0.0, 0.25, 0.5, 0.75, 1.0]);
        check(&found[10..], &[2.0, 2.25, 2.5, 2.75, 3.0]);
        Ok(())
    }

    #[track_caller]
    fn check(found: &[f32], expected: &[f32]) {
        assert_eq!(found.len(), expected.len());
        for (a, b) in found.iter().zip(expected) {
            assert!((a - b).abs() < 1e-6, "{found:?}, expected {expected:?}");
        }
    }

    // cv2.resize(np.float32([[0, 1], [2, 3]]), (4, 4)) has these first and last rows.
    #[test]
    fn enlarging_repeats_the_edges() {
        let fine = resize_bilinear(&[0.0, 1.0, 2.0, 3.0], [2, 2], [4, 4]);
        check(&fine[..4], &[0.0, 0.25, 0.75, 1.0]);
        check(&fine[12..], &[2.0, 2.25, 2.75, 3.0]);
    }

    #[test]
    fn shrinking_takes_the_neighbours_of_the_centre() {
        check(&resize_bilinear(&[0.0, 1.0, 2.0, 3.0, 4.0, 5.0], [1, 6], [1, 2]), &[1.0, 4.0]);
    }

    #[test]
    fn the_same_size_is_left_alone() {
        let map = [0.3, 0.1, 0.9, 0.5, 0.2, 0.7];
        check(&resize_bilinear(&map, [2, 3], [2, 3]), &map);
    }

    #[test]
    fn height_and_width_are_not_mixed_up() {
        let fine = resize_bilinear(&[0.0, 1.0], [2, 1], [4, 3]);
        check(&fine[..3], &[0.0; 3]);
        check(&fine[9..], &[1.0; 3]);
    }

    #[test]
    fn the_result_reaches_from_0_to_1() {
        let fine = to_input_size(&[2.0, 5.0, 3.0], [1, 3], [1, 8]);
        let largest = fine.iter().copied().fold(0.0, f32::max);
        assert!((largest - 1.0).abs() < 1e-6, "{fine:?}");
        assert_eq!(fine[0], 0.0);
    }

    #[test]
    fn a_constant_map_becomes_zero() {
        check(&to_input_size(&[0.7; 4], [2, 2], [3, 3]), &[0.0; 9]);
    }
}
