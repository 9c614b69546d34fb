//! Batch normalisation over the rows of a `[rows, channels]` matrix.
//!
//! Sums over rows are taken in three stages. The first sums `GROUP` rows in the number type of the data.
//! The second sums the groups of a piece in `f64`. The third sums the pieces in order, in `f64`. This is as
//! fast as the memory and nearly as accurate as `f64` throughout. The result is the same for any number of
//! threads.

use std::ops::Range;

use super::activation::{masked, relu_up_to};
use super::channel_sums::{GROUP, sum_pieces};
use super::compiled::compiled;
use super::float::Float;
use super::output::filled_in_pieces;
use super::pieces::rows_per_piece;
use super::vectorize::vectorize;

/// Normalisation and scaling of every channel as one multiplication and one addition. See [`affine`].
#[derive(Debug, Clone)]
pub struct Affine<T> {
    scale: Vec<T>,
    shift: Vec<T>,
}

/// The gradient that flows back to a batch norm: the gradient of its output, and its ReLU if the gradient
/// has not passed it yet.
///
/// The ReLU's input is computed again. That costs less than reading the output, and the same operations
/// give the same bits.
#[derive(Debug, Clone, Copy)]
pub struct Incoming<'a, T> {
    /// The gradient of the output, `[rows, channels]`.
    pub grad: &'a [T],
    /// The ReLU after the batch norm, if the gradient has not passed it yet.
    pub relu: Option<Relu<'a, T>>,
}

/// A ReLU of `affine(x)`.
#[derive(Debug, Clone, Copy)]
pub struct Relu<'a, T> {
    /// The normalisation before the ReLU.
    pub affine: &'a Affine<T>,
    /// The ReLU's upper limit: infinity for a plain ReLU, 6 for ReLU6.
    pub ceiling: T,
}

impl<T: Copy> Incoming<'_, T> {
    fn piece(&self, piece: Range<usize>) -> Self {
        Self { grad: &self.grad[piece], relu: self.relu }
    }
}

/// How the gradient of the input is computed from that of the output, for each channel:
/// `dx = of_grad * grad + of_x * x + shift`. See [`of_constant_statistics`] and [`of_batch_statistics`].
#[derive(Debug, Clone)]
pub struct InputGradient<T> {
    of_grad: Vec<T>,
    /// `of_x` and `shift`. `None` if the statistics were given, because they do not depend on the input
    /// then.
    of_batch: Option<[Vec<T>; 2]>,
}

compiled! {
    trait Kernels<T>;

    /// Mean and biased variance of every channel of `x`, `[rows, channels]`. Each result is `[channels]`.
    ///
    /// # Panics
    /// If `x` has no whole row.
    pub fn moments(x: &[T], channels: usize) -> [Vec<f64>; 2] {
        let count = (x.len() / channels) as f64;
        // Without subtracting a sample first, the difference of squares below would cancel if the mean is
        // far larger than the standard deviation.
        let origin = &x[..channels];
        let sums = sum_pieces(x.len(), channels, 2 * channels, |piece, sums| {
            moment_sums(&x[piece], origin, sums)
        });
        let (firsts, squares) = sums.split_at(channels);
        let mean = firsts.iter().zip(origin).map(|(sum, origin)| origin.widen() + sum / count);
        let variance = firsts.iter().zip(squares).map(|(sum, square)| {
            let offset = sum / count;
            // Rounding may make the variance of a constant channel slightly negative.
            (square / count - offset * offset).max(0.0)
        });
        [mean.collect(), variance.collect()]
    }

    /// `weight * (x - mean) * inv_std + bias`. Every slice has one number per channel.
    pub fn affine(weight: &[T], bias: &[T], mean: &[T], inv_std: &[f64]) -> Affine<T> {
        let scale: Vec<f64> = weight.iter().zip(inv_std).map(|(w, s)| w.widen() * s).collect();
        let shift = scale.iter().zip(mean).zip(bias);
        let shift = shift.map(|((scale, mean), bias)| bias.widen() - mean.widen() * scale);
        Affine {
            shift: shift.map(T::narrow).collect(),
            scale: scale.iter().copied().map(T::narrow).collect(),
        }
    }

    /// `affine(x) + residual`. The residual is optional. With a ceiling, the result is limited to
    /// `0..=ceiling`.
    ///
    /// # Shapes
    /// `x` and `residual` are `[rows, channels]`, and so is the result.
    ///
    /// # Panics
    /// If `x` does not consist of whole rows, or a residual is not as long as `x`.
    pub fn normalize(
        x: &[T],
        residual: Option<&[T]>,
        affine: &Affine<T>,
        ceiling: Option<T>,
    ) -> Vec<T> {
        assert_rows(x.len(), affine.scale.len());
        let piece = rows_per_piece(affine.scale.len()) * affine.scale.len();
        let write = |i: usize, y: &mut [T]| {
            let piece = i * piece..i * piece + y.len();
            let residual = residual.map(|residual| &residual[piece.clone()]);
            normalize_rows(&x[piece], residual, affine, ceiling, y);
        };
        // SAFETY: `normalize_rows` only writes, and pieces are whole rows, as was asserted, of which
        // it leaves out none.
        unsafe { filled_in_pieces(x.len(), piece, write) }
    }

    /// The gradients of weight and bias. Each is `[channels]`.
    ///
    /// # Shapes
    /// `x` and `incoming.grad` are `[rows, channels]`, `mean` and `inv_std` `[channels]`.
    pub fn affine_gradient(
        x: &[T],
        incoming: Incoming<'_, T>,
        mean: &[T],
        inv_std: &[f64],
    ) -> [Vec<f64>; 2] {
        let channels = mean.len();
        let sums = sum_pieces(x.len(), channels, 2 * channels, |piece, sums| {
            gradient_sums(&x[piece.clone()], incoming.piece(piece), mean, sums);
        });
        let (grads, products) = sums.split_at(channels);
        let weight = products.iter().zip(inv_std).map(|(product, inv_std)| product * inv_std);
        [weight.collect(), grads.to_vec()]
    }

    /// The gradient of the input if the statistics were given. All slices have one number per channel.
    pub fn of_constant_statistics(weight: &[T], inv_std: &[f64]) -> InputGradient<T> {
        let of_grad = weight.iter().zip(inv_std).map(|(w, s)| T::narrow(w.widen() * s));
        InputGradient { of_grad: of_grad.collect(), of_batch: None }
    }

    /// The gradient of the input if the statistics are those of a batch of `count` rows. `sums` are the
    /// gradients of weight and bias.
    pub fn of_batch_statistics(
        weight: &[T],
        mean: &[T],
        inv_std: &[f64],
        sums: [&[T]; 2],
        count: usize,
    ) -> InputGradient<T> {
        let [of_weight, of_bias] = sums;
        let mut of_x = Vec::with_capacity(mean.len());
        let mut shift = Vec::with_capacity(mean.len());
        for channel in 0..mean.len() {
            let slope = weight[channel].widen() * inv_std[channel] / count as f64;
            let x = -slope * inv_std[channel] * of_weight[channel].widen();
            of_x.push(T::narrow(x));
            shift.push(T::narrow(-slope * of_bias[channel].widen() - x * mean[channel].widen()));
        }
        InputGradient { of_batch: Some([of_x, shift]), ..of_constant_statistics(weight, inv_std) }
    }

    /// The gradient of `x`.
    ///
    /// # Panics
    /// If `x` does not consist of whole rows, or the gradient is not as long as `x`.
    pub fn input_gradient(
        x: &[T],
        gradient: &InputGradient<T>,
        incoming: Incoming<'_, T>,
    ) -> Vec<T> {
        assert_rows(x.len(), gradient.of_grad.len());
        let piece = rows_per_piece(gradient.of_grad.len()) * gradient.of_grad.len();
        let write = |i: usize, dx: &mut [T]| {
            let piece = i * piece..i * piece + dx.len();
            input_gradient_rows(&x[piece.clone()], incoming.piece(piece), gradient, dx);
        };
        // SAFETY: `input_gradient_rows` only writes, and pieces are whole rows, as was asserted, of
        // which it leaves out none.
        unsafe { filled_in_pieces(x.len(), piece, write) }
    }
}

/// An incomplete last row would never be written.
fn assert_rows(len: usize, channels: usize) {
    assert!(channels > 0 && len.is_multiple_of(channels), "{len} elements in rows of {channels}");
}

#[inline(always)]
fn at<T: Float, const N: usize>(slices: &[&[T]; N], i: usize) -> [T; N] {
    std::array::from_fn(|n| slices[n][i])
}

#[inline(always)]
fn cut<'a, T, const N: usize>(slices: &[&'a [T]; N], start: usize, len: usize) -> [&'a [T]; N] {
    slices.map(|slice| &slice[start..][..len])
}

/// Computes `f` of the elements at each position of some matrices and of its channel's constants. Writes it
/// to `out`.
#[inline(always)]
fn map_rows<T: Float, const M: usize, const C: usize>(
    matrices: [&[T]; M],
    constants: [&[T]; C],
    out: &mut [T],
    f: impl Fn([T; M], [T; C]) -> T,
) {
    let channels = constants[0].len();
    let constants = cut(&constants, 0, channels);
    for (row, out) in out.chunks_exact_mut(channels).enumerate() {
        let row = cut(&matrices, row * channels, channels);
        for (channel, out) in out.iter_mut().enumerate() {
            *out = f(at(&row, channel), at(&constants, channel));
        }
    }
}

/// Sums `f` of the same arguments. It gives two values, which go to the first and the second half of
/// `sums`.
#[inline(always)]
fn sum_rows<T: Float, const M: usize, const C: usize>(
    matrices: [&[T]; M],
    constants: [&[T]; C],
    sums: &mut [f64],
    f: impl Fn([T; M], [T; C]) -> [T; 2],
) {
    let (len, channels) = (matrices[0].len(), constants[0].len());
    let constants = cut(&constants, 0, channels);
    let mut near = vec![T::ZERO; 2 * channels];
    for group in (0..len).step_by(GROUP * channels) {
        near.fill(T::ZERO);
        let (first, second) = near.split_at_mut(channels);
        // One row at a time. Several rows would share loads and stores of the sums, but the processor
        // prefetches best along a single stream.
        for start in (group..len).step_by(channels).take(GROUP) {
            let row = cut(&matrices, start, channels);
            for (channel, (first, second)) in first.iter_mut().zip(&mut *second).enumerate() {
                let [a, b] = f(at(&row, channel), at(&constants, channel));
                *first += a;
                *second += b;
            }
        }
        for (sum, near) in sums.iter_mut().zip(&near) {
            *sum += near.widen();
        }
    }
}

vectorize! {
    fn moment_sums<T: Float>(x: &[T], origin: &[T], sums: &mut [f64]) {
        sum_rows([x], [origin], sums, |[x], [origin]| {
            let offset = x - origin;
            [offset, offset * offset]
        });
    }

    fn gradient_sums<T: Float>(x: &[T], incoming: Incoming<'_, T>, mean: &[T], sums: &mut [f64]) {
        let matrices = [incoming.grad, x];
        match incoming.relu {
            None => sum_rows(matrices, [mean], sums, |[grad, x], [mean]| [grad, grad * (x - mean)]),
            Some(Relu { affine: Affine { scale, shift }, ceiling }) => {
                let constants = [mean, scale, shift];
                sum_rows(matrices, constants, sums, |[grad, x], [mean, scale, shift]| {
                    let grad = masked(x * scale + shift, grad, ceiling);
                    [grad, grad * (x - mean)]
                });
            }
        }
    }

    fn normalize_rows<T: Float>(
        x: &[T],
        residual: Option<&[T]>,
        affine: &Affine<T>,
        ceiling: Option<T>,
        y: &mut [T],
    ) {
        let of = [&affine.scale[..], &affine.shift[..]];
        match (residual, ceiling) {
            (None, None) => map_rows([x], of, y, |[x], [a, b]| x * a + b),
            (None, Some(c)) => map_rows([x], of, y, |[x], [a, b]| relu_up_to(x * a + b, c)),
            (Some(r), None) => map_rows([x, r], of, y, |[x, r], [a, b]| x * a + b + r),
            (Some(r), Some(c)) => {
                map_rows([x, r], of, y, |[x, r], [a, b]| relu_up_to(x * a + b + r, c));
            }
        }
    }

    fn input_gradient_rows<T: Float>(
        x: &[T],
        incoming: Incoming<'_, T>,
        gradient: &InputGradient<T>,
        dx: &mut [T],
    ) {
        let (matrices, of_grad) = ([incoming.grad, x], &gradient.of_grad[..]);
        match (incoming.relu, &gradient.of_batch) {
            (None, None) => map_rows(matrices, [of_grad], dx, |[grad, _], [a]| a * grad),
            (None, Some([of_x, shift])) => {
                let constants = [of_grad, of_x, shift];
                map_rows(matrices, constants, dx, |[grad, x], [a, b, c]| a * grad + (b * x + c));
            }
            (Some(Relu { affine, ceiling }), None) => {
                let constants = [of_grad, &affine.scale, &affine.shift];
                map_rows(matrices, constants, dx, |[grad, x], [a, scale, shift]| {
                    a * masked(x * scale + shift, grad, ceiling)
                });
            }
            (Some(Relu { affine, ceiling }), Some([of_x, shift])) => {
                let constants = [of_grad, of_x, shift, &affine.scale, &affine.shift];
                map_rows(matrices, constants, dx, |[grad, x], [a, b, c, scale, shift]| {
                    a * masked(x * scale + shift, grad, ceiling) + (b * x + c)
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows around a mean a thousand times the deviation: where `f32` sums of squares give nonsense.
    #[test]
    fn moments_survive_a_large_mean() {
        let (rows, channels) = (20_011, 3);
        let x: Vec<f32> = (0..rows * channels)
            .map(|i| 1000.0 + ((i as u64 * 2_654_435_761 % 1024) as f32 - 512.0) / 1024.0)
            .collect();
        let [mean, variance] = moments(&x, channels);
        for channel in 0..channels {
            let values = || x.iter().skip(channel).step_by(channels).map(|&x| f64::from(x));
            let exact_mean = values().sum::<f64>() / rows as f64;
            let squares = values().map(|x| (x - exact_mean).powi(2));
            let exact_variance = squares.sum::<f64>() / rows as f64;
            assert!((mean[channel] - exact_mean).abs() < 1e-7, "mean of channel {channel}");
            let error = (variance[channel] / exact_variance - 1.0).abs();
            assert!(error < 1e-6, "variance of channel {channel} is off by {error:.1e}");
        }
    }

    #[test]
    fn a_constant_channel_has_no_variance() {
        let [mean, variance] = moments(&[0.1f32; 99], 3);
        assert_eq!((mean, variance), (vec![f64::from(0.1f32); 3], vec![0.0; 3]));
    }
}
