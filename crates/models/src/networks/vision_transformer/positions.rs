//! Position embeddings for another number of patches.

use candle_core::{DType, Result, Tensor};

/// Position embeddings for `grid` = `[rows, columns]` of patches from those for a square, as timm's
/// `resample_abs_pos_embed` makes them: bicubic with antialiasing. The class token keeps its own. `None` if `positions`
/// are not those of a class token and a square.
///
/// # Shapes
/// - `positions`: `[1, 1 + side * side, features]`
/// - returns `[1, 1 + rows * columns, features]`
///
/// # Errors
/// If the tensor cannot be read.
pub(super) fn resampled(positions: &Tensor, grid: [usize; 2]) -> Result<Option<Tensor>> {
    let &[1, tokens, features] = positions.dims() else { return Ok(None) };
    let side = tokens.saturating_sub(1).isqrt();
    if side == 0 || side * side + 1 != tokens {
        return Ok(None);
    }
    let values = positions.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>()?;
    let (class_token, patches) = values.split_at(features);
    let [rows, columns] = grid;
    // Along the columns first, as PyTorch does; the order only matters for rounding.
    let wide = along_columns(patches, side, &weights(side, columns), features);
    let tall = along_columns(&wide, 1, &weights(side, rows), columns * features);
    let all = [class_token, &tall].concat();
    let result = Tensor::from_vec(all, (1, 1 + rows * columns, features), positions.device())?;
    result.to_dtype(positions.dtype()).map(Some)
}

/// The weighted sums of each row's elements. `values` is `rows` rows of as many elements of `width` numbers as each of
/// the weights reads from.
fn along_columns(values: &[f64], rows: usize, weights: &[Weights], width: usize) -> Vec<f64> {
    let mut result = Vec::with_capacity(rows * weights.len() * width);
    for row in values.chunks_exact(values.len() / rows) {
        for Weights { first, weights } in weights {
            let mut sum = vec![0.0; width];
            for (weight, element) in weights.iter().zip(row.chunks_exact(width).skip(*first)) {
                sum.iter_mut().zip(element).for_each(|(sum, value)| *sum += weight * value);
            }
            result.extend(sum);
        }
    }
    result
}

/// The weights of consecutive elements, beginning with `first`.
struct Weights {
    first: usize,
    weights: Vec<f64>,
}

/// For each of `to` positions the weights of `from` elements: PyTorch's bicubic filter with antialiasing. It is
/// widened where the number shrinks.
fn weights(from: usize, to: usize) -> Vec<Weights> {
    let scale = from as f64 / to as f64;
    let stretch = scale.max(1.0);
    let support = 2.0 * stretch;
    let at = |position: usize| {
        let center = scale * (position as f64 + 0.5);
        let first = (center - support + 0.5).max(0.0) as usize;
        let end = ((center + support + 0.5) as usize).min(from);
        let weight = |i: usize| cubic((i as f64 - center + 0.5) / stretch);
        let weights: Vec<f64> = (first..end).map(weight).collect();
        let sum: f64 = weights.iter().sum();
        Weights { first, weights: weights.into_iter().map(|weight| weight / sum).collect() }
    };
    (0..to).map(at).collect()
}

/// Keys' cubic (1981) with `a = -0.5`, which PyTorch takes with antialiasing; without it is -0.75.
fn cubic(x: f64) -> f64 {
    const A: f64 = -0.5;
    let x = x.abs();
    if x < 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * A
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    /// ```python
    /// import torch
    /// from timm.layers import resample_abs_pos_embed
    /// x = (torch.arange(1 * 17 * 2.) * .9).sin().reshape(1, 17, 2)
    /// for size in ([2, 3], [5, 7]):
    ///     y = resample_abs_pos_embed(x, size)
    ///     print(y[0, [0, 1, 4, -1]].flatten().tolist())
    /// ```
    const SMALLER: [f32; 8] = [
        0.0,
        0.783_326_9,
        0.252_604_04,
        -0.356_137_3,
        -0.668_566_76,
        -0.583_565_3,
        0.304_068_1,
        -0.306_723_24,
    ];
    const LARGER: [f32; 8] = [
        0.0,
        0.783_326_9,
        1.110_589_5,
        0.580_894_23,
        -0.801_643_67,
        -0.656_075_66,
        -0.659_189_76,
        -1.118_400_9,
    ];

    #[test]
    fn values_are_timms() -> Result<()> {
        let x = (Tensor::arange(0f32, 34.0, &Device::Cpu)? * 0.9)?.sin()?.reshape((1, 17, 2))?;
        for (grid, expected) in [([2, 3], SMALLER), ([5, 7], LARGER)] {
            let y = resampled(&x, grid)?.expect("a square of 4x4").squeeze(0)?.to_vec2::<f32>()?;
            assert_eq!(y.len(), 1 + grid[0] * grid[1]);
            let found = [0, 1, 4, y.len() - 1].into_iter().flat_map(|i| y[i].clone());
            for (found, expected) in found.zip(expected) {
                assert!((found - expected).abs() < 1e-6, "{grid:?}: {found}, not {expected}");
            }
        }
        Ok(())
    }

    #[test]
    fn what_is_no_square_is_left_alone() -> Result<()> {
        for tokens in [1, 2, 13] {
            let x = Tensor::zeros((1, tokens, 2), DType::F32, &Device::Cpu)?;
            assert_eq!(resampled(&x, [3, 3])?.is_some(), tokens == 2);
        }
        Ok(())
    }
}
