//! The first principal component of a stack of maps.

use candle_core::{D, DType, Device, Result, Tensor};

/// The projection of each place on the direction in which the channels vary most, up to a factor. Takes
/// `[batch, channels, height, width]` and returns `[batch, height, width]`.
///
/// The channels are first centred over the places. A principal component has no sign of its own. The sign
/// chosen here agrees with the sum of the channels.
pub(super) fn principal_projection(maps: &Tensor) -> Result<Tensor> {
    let (batch, channels, height, width) = maps.dims4()?;
    let device = maps.device();
    // The computation runs in f64 on the host. The repeated squaring below needs the precision, and few GPUs
    // are fast in f64.
    let maps = maps.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.flatten_from(2)?;
    let centred = maps.broadcast_sub(&maps.mean_keepdim(2)?)?.contiguous()?;
    let transposed = centred.t()?.contiguous()?;
    // Both matrices of products give the same component, so the smaller one is used.
    let projection = if height * width < channels {
        leading_eigenvectors(&transposed.matmul(&centred)?)?
    } else {
        transposed.matmul(&leading_eigenvectors(&centred.matmul(&transposed)?)?)?
    };
    let projection = projection.squeeze(2)?; // [batch, places]
    let agreement = (&projection * maps.sum(1)?)?.sum_keepdim(1)?;
    let sign = agreement.ge(0.0)?.to_dtype(DType::F64)?.affine(2.0, -1.0)?;
    let projection = projection.broadcast_mul(&sign)?;
    projection.to_dtype(DType::F32)?.reshape((batch, height, width))?.to_device(device)
}

/// The eigenvector of the largest eigenvalue of each matrix, `[batch, n, n]` to `[batch, n, 1]`. The matrices
/// are symmetric without negative eigenvalues. A matrix of zeros gives 0.
///
/// Squaring a matrix squares the ratio of its eigenvalues. After twenty squarings only the largest eigenvalue
/// is left, even if the second differs from it by only a ten-thousandth.
fn leading_eigenvectors(matrices: &Tensor) -> Result<Tensor> {
    let (batch, n, _) = matrices.dims3()?;
    let mut power = matrices.clone();
    for _ in 0..20 {
        let largest = power.abs()?.max_keepdim(D::Minus1)?.max_keepdim(1)?;
        power = power.broadcast_div(&(largest + f64::MIN_POSITIVE)?)?;
        power = power.matmul(&power)?;
    }
    // In the limit every column is a multiple of the eigenvector. The column with the largest diagonal element
    // has the smallest rounding error.
    let mut vectors = Vec::with_capacity(batch * n);
    for rows in power.to_vec3::<f64>()? {
        let best = (0..n).max_by(|a, b| rows[*a][*a].total_cmp(&rows[*b][*b])).unwrap_or(0);
        let length = rows.iter().map(|row| row[best].powi(2)).sum::<f64>().sqrt();
        let scale = if length > 0.0 { 1.0 / length } else { 0.0 };
        vectors.extend(rows.iter().map(|row| row[best] * scale));
    }
    Tensor::from_vec(vectors, (batch, n, 1), matrices.device())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(channels: usize, height: usize, width: usize, pattern: &[f32]) -> Result<()> {
        // Channel c is c + 1 times the pattern, and a little of something else.
        let value = |i: usize| {
            let (channel, place) = (i / (height * width), i % (height * width));
            (channel + 1) as f32 * pattern[place] + 1e-4 * (i as f32).sin()
        };
        let values: Vec<f32> = (0..channels * height * width).map(value).collect();
        let maps = Tensor::from_vec(values, (1, channels, height, width), &Device::Cpu)?;
        let found = principal_projection(&maps)?.flatten_all()?.to_vec1::<f32>()?;
        let mean = pattern.iter().sum::<f32>() / pattern.len() as f32;
        let ratio = found[0] / (pattern[0] - mean);
        assert!(ratio > 0.0, "{found:?}");
        for (found, pattern) in found.iter().zip(pattern) {
            let expected = ratio * (pattern - mean);
            assert!((found - expected).abs() < 1e-3 * ratio, "{found}, expected {expected}");
        }
        Ok(())
    }

    #[test]
    fn the_shared_pattern_is_found_with_its_sign_by_either_matrix() -> Result<()> {
        let pattern = [3.0, 0.5, 1.0, 0.0, 2.0, 0.2];
        check(9, 2, 3, &pattern)?;
        check(4, 2, 3, &pattern)?;
        check(1, 2, 3, &pattern)
    }

    #[test]
    fn maps_without_variation_have_no_component() -> Result<()> {
        let maps = Tensor::ones((2, 3, 2, 2), DType::F32, &Device::Cpu)?;
        let found = principal_projection(&maps)?.flatten_all()?.to_vec1::<f32>()?;
        assert_eq!(found, [0.0; 8]);
        Ok(())
    }
}
