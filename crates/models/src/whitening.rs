//! Convolution kernels that whiten the patches of images.

use candle_core::{DType, Device, Result, Tensor, bail};

use crate::Parameters;

/// Added to each eigenvalue, so that directions in which the patches hardly differ are not amplified to noise.
/// Its unit is the square of the images' unit.
const EPSILON: f64 = 1e-2;
/// How many images are split into patches at a time.
const CHUNK: usize = 50;

/// The kernels of a convolution that whitens the patches of these images.
///
/// The outputs of the convolution are uncorrelated over the patches. A direction in which the patches have
/// variance `v` gets the variance `v / (v + 0.01)`. The kernels are the eigenvectors of the patches'
/// covariance, each divided by the square root of its eigenvalue plus 0.01, in order of falling eigenvalue.
///
/// As a fixed first layer, the convolution spares the network from learning what nearly all networks learn
/// first (Page 2019, <https://myrtle.ai/learn/how-to-train-your-resnet-8-bag-of-tricks/>).
///
/// # Shapes
/// - `images`: `[batch, channels, height, width]`, normalised floats
/// - `side`: height and width of a patch, in pixels
/// - returns `[channels * side * side, channels, side, side]` in `f32` on the CPU
///
/// # Errors
/// If the images are smaller than a patch, or a value is not finite.
///
/// # Example
/// ```
/// use candle_core::{Device, Tensor};
/// use candle_vision_models::whitening_kernels;
///
/// let images = Tensor::randn(0f32, 1.0, (8, 3, 16, 16), &Device::Cpu)?;
/// assert_eq!(whitening_kernels(&images, 3)?.dims(), [27, 3, 3, 3]);
/// # candle_core::Result::Ok(())
/// ```
pub fn whitening_kernels(images: &Tensor, side: usize) -> Result<Tensor> {
    whitening_kernels_with(images, side, EPSILON)
}

/// [`whitening_kernels`] with another number than 0.01 added to the eigenvalues. Its unit is the square of the images'
/// unit.
///
/// # Errors
/// As [`whitening_kernels`], and if `epsilon` is not positive.
pub fn whitening_kernels_with(images: &Tensor, side: usize, epsilon: f64) -> Result<Tensor> {
    if !(epsilon > 0.0 && epsilon.is_finite()) {
        bail!("what is added to the eigenvalues must be a positive number, got {epsilon}")
    }
    let (batch, channels, height, width) = images.dims4()?;
    if batch == 0 || side == 0 || height < side || width < side {
        bail!("images of {:?} have no patch of {side}x{side} to whiten", images.dims())
    }
    let covariance = covariance_of_patches(images, side)?;
    if covariance.iter().any(|value| !value.is_finite()) {
        bail!("the images to whiten have values that are not finite")
    }
    let n = channels * side * side;
    let (values, vectors) = eigen(covariance, n);
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|a, b| values[*b].total_cmp(&values[*a]));
    let mut kernels = Vec::with_capacity(n * n);
    for at in order {
        let vector: Vec<f64> = (0..n).map(|row| vectors[row * n + at]).collect();
        // The sign of an eigenvector is arbitrary. The largest component decides it, because rounding cannot
        // change that component's sign.
        let larger = |a: f64, b: &f64| if b.abs() > a.abs() { *b } else { a };
        let sign = vector.iter().fold(0.0, larger).signum();
        let scale = sign / (values[at].max(0.0) + epsilon).sqrt();
        kernels.extend(vector.iter().map(|value| (value * scale) as f32));
    }
    Tensor::from_vec(kernels, (n, channels, side, side), &Device::Cpu)
}

/// Gives the layer `whiten` of a network these kernels, and freezes them.
pub(crate) fn keep_whitening(parameters: &Parameters, kernels: &Tensor) -> Result<()> {
    let Some(weight) = parameters.get("whiten.weight") else {
        bail!("the network has no layer `whiten`")
    };
    weight.set(&kernels.to_device(weight.var().device())?)?;
    parameters.freeze(weight.path())?;
    Ok(())
}

/// The covariance of the patches, `[n, n]` row by row, for patches of `n` values.
fn covariance_of_patches(images: &Tensor, side: usize) -> Result<Vec<f64>> {
    let (batch, channels, height, width) = images.dims4()?;
    let n = channels * side * side;
    let (rows, columns) = (height - side + 1, width - side + 1);
    let mut products = Tensor::zeros((n, n), DType::F64, &Device::Cpu)?;
    let mut sums = Tensor::zeros((n, 1), DType::F64, &Device::Cpu)?;
    for first in (0..batch).step_by(CHUNK) {
        let count = CHUNK.min(batch - first);
        let images = images.narrow(0, first, count)?.to_device(&Device::Cpu)?;
        let images = images.to_dtype(DType::F64)?.transpose(0, 1)?.contiguous()?;
        let mut values = Vec::with_capacity(n);
        for channel in 0..channels {
            for (y, x) in (0..side).flat_map(|y| (0..side).map(move |x| (y, x))) {
                let shifted = images.get(channel)?.narrow(1, y, rows)?.narrow(2, x, columns)?;
                values.push(shifted.flatten_all()?);
            }
        }
        let patches = Tensor::stack(&values, 0)?; // [n, patches]
        products = (products + patches.matmul(&patches.t()?)?)?;
        sums = (sums + patches.sum_keepdim(1)?)?;
    }
    let patches = (batch * rows * columns) as f64;
    let means = (sums / patches)?;
    let covariance = ((products / patches)? - means.matmul(&means.t()?)?)?;
    covariance.flatten_all()?.to_vec1()
}

/// The eigenvalues and, as columns, the eigenvectors of a symmetric `[n, n]` matrix, by Jacobi rotations (Golub
/// and Van Loan, Matrix Computations, 8.5).
fn eigen(mut a: Vec<f64>, n: usize) -> (Vec<f64>, Vec<f64>) {
    let mut vectors = vec![0.0; n * n];
    (0..n).for_each(|i| vectors[i * n + i] = 1.0);
    let total: f64 = a.iter().map(|value| value * value).sum();
    // The method converges quadratically, so a few sweeps are enough.
    for _ in 0..50 {
        let off: f64 = (0..n * n).filter(|at| at / n != at % n).map(|at| a[at] * a[at]).sum();
        if off <= 1e-24 * total {
            break;
        }
        for p in 0..n {
            for q in p + 1..n {
                rotate(&mut a, &mut vectors, n, p, q);
            }
        }
    }
    ((0..n).map(|i| a[i * n + i]).collect(), vectors)
}

/// Rotates the axes `p` and `q` so that `a[p][q]` becomes 0.
fn rotate(a: &mut [f64], vectors: &mut [f64], n: usize, p: usize, q: usize) {
    if a[p * n + q] == 0.0 {
        return;
    }
    let theta = (a[q * n + q] - a[p * n + p]) / (2.0 * a[p * n + q]);
    let tan = theta.signum() / (theta.abs() + theta.hypot(1.0));
    let cos = 1.0 / tan.hypot(1.0);
    let sin = tan * cos;
    let turn = |matrix: &mut [f64], at_p: usize, at_q: usize| {
        let (x, y) = (matrix[at_p], matrix[at_q]);
        (matrix[at_p], matrix[at_q]) = (cos * x - sin * y, sin * x + cos * y);
    };
    for i in 0..n {
        turn(a, i * n + p, i * n + q);
    }
    for i in 0..n {
        turn(a, p * n + i, q * n + i);
        turn(vectors, i * n + p, i * n + q);
    }
}

#[cfg(test)]
mod tests {
    use candle_vision_ops::{Conv2dConfig, channels_last, conv2d};

    use super::*;

    /// Uniform in `-0.3..0.3`, of variance 0.03.
    fn noise(i: u32) -> f32 {
        let mixed = (i.wrapping_mul(0x9E37_79B1) >> 15 ^ i).wrapping_mul(0x85EB_CA6B);
        ((mixed >> 13 ^ mixed) & 0xFFFF) as f32 / 65536.0 * 0.6 - 0.3
    }

    /// Smooth patterns, and channels that nearly agree: as correlated as photographs are.
    fn images() -> Tensor {
        let value = |i: usize| {
            let (x, y, channel, image) = (i % 12, i / 12 % 10, i / 120 % 3, i / 360);
            let phase = image as f32 * 2.4;
            let shared = (x as f32 * 0.5 + phase).sin() + (y as f32 * 0.3 - phase * 1.7).cos();
            shared + noise(i as u32) + 0.1 * channel as f32
        };
        let values: Vec<f32> = (0..60 * 360).map(value).collect();
        Tensor::from_vec(values, (60, 3, 10, 12), &Device::Cpu).unwrap()
    }

    #[test]
    fn the_outputs_are_uncorrelated_and_of_variance_one() {
        let images = images();
        let kernels = whitening_kernels(&images, 3).unwrap();
        let x = channels_last(&images).unwrap();
        let y = conv2d(&x, &kernels, None, &Conv2dConfig::default()).unwrap();
        let y = y.reshape(((), 27)).unwrap().to_dtype(DType::F64).unwrap();
        let y = y.broadcast_sub(&y.mean_keepdim(0).unwrap()).unwrap();
        let count = y.dims()[0] as f64;
        let covariance = (y.t().unwrap().matmul(&y).unwrap() / count).unwrap();
        let covariance = covariance.to_vec2::<f64>().unwrap();
        // The variance v of a direction becomes v / (v + 0.01): the noise's is around 0.03.
        for (i, row) in covariance.iter().enumerate() {
            for (j, value) in row.iter().enumerate() {
                if i == j {
                    assert!((0.6..1.0).contains(value), "{i}: {value}");
                    assert!(i == 0 || *value <= covariance[i - 1][i - 1] + 1e-6, "{i}: {value}");
                } else {
                    assert!(value.abs() < 1e-4, "{i}, {j}: {value}");
                }
            }
        }
        assert!(covariance[0][0] > 0.999);
    }

    /// A kernel is an eigenvector over `sqrt(v + epsilon)`, so `v` follows from the norms at two epsilons.
    #[test]
    fn a_larger_epsilon_makes_smaller_kernels_of_the_same_direction() {
        let images = images();
        let norms = |epsilon: f64| {
            let kernels = whitening_kernels_with(&images, 2, epsilon).unwrap();
            let rows = kernels.flatten_from(1).unwrap().to_dtype(DType::F64).unwrap();
            rows.sqr().unwrap().sum(1).unwrap().to_vec1::<f64>().unwrap()
        };
        let (small, large) = (norms(1e-3), norms(0.5));
        for (small, large) in small.iter().zip(&large) {
            assert!((1.0 / large - 1.0 / small - 0.499).abs() < 1e-3, "{small} and {large}");
        }
        assert!(small.is_sorted() && small.len() == 12);
        assert!(whitening_kernels_with(&images, 2, 0.0).is_err());
    }

    #[test]
    fn one_colour_has_finite_kernels() {
        let images = Tensor::ones((2, 3, 4, 4), DType::F32, &Device::Cpu).unwrap();
        let kernels = whitening_kernels(&images, 3).unwrap().flatten_all().unwrap();
        assert!(kernels.to_vec1::<f32>().unwrap().iter().all(|value| value.abs() <= 10.0));
    }

    #[test]
    fn what_cannot_be_whitened_is_said() {
        let images = Tensor::ones((2, 3, 2, 4), DType::F32, &Device::Cpu).unwrap();
        let error = whitening_kernels(&images, 3).unwrap_err().to_string();
        assert!(error.starts_with("images of [2, 3, 2, 4] have no patch of 3x3"), "{error}");
        let images = (Tensor::ones((2, 3, 4, 4), DType::F32, &Device::Cpu).unwrap() / 0.0).unwrap();
        let error = whitening_kernels(&images, 3).unwrap_err().to_string();
        assert!(error.contains("not finite"), "{error}");
    }
}
