//! The smooth functions that networks use most, on vectors of `f32` with fused multiply-add.
//!
//! Each of them computes an exponential for every element. Written for one number at a time, with separate
//! products and sums, they take longer than memory does.

use super::{Curve, PIECE};
use crate::erf::{CUT, END, FAR, NEAR};
use crate::output::filled_in_pieces;
use crate::simd::{Level, Simd, with_simd};

/// The function of every element of `x`. `None` if `curve` is not among the smooth functions here.
pub(crate) fn value(curve: Curve, x: &[f32]) -> Option<Vec<f32>> {
    value_at(Level::get(), curve, x)
}

/// The gradient of `x`, from the gradient of the function's result. `None` as for [`value`].
pub(crate) fn gradient(curve: Curve, x: &[f32], grad: &[f32]) -> Option<Vec<f32>> {
    gradient_at(Level::get(), curve, x, grad)
}

fn value_at(level: Level, curve: Curve, x: &[f32]) -> Option<Vec<f32>> {
    Some(match curve {
        Curve::Gelu => with_simd!(level, simd => map(simd, Gelu, x)),
        Curve::Silu => with_simd!(level, simd => map(simd, Silu, x)),
        Curve::Sigmoid => with_simd!(level, simd => map(simd, Sigmoid, x)),
        _ => return None,
    })
}

fn gradient_at(level: Level, curve: Curve, x: &[f32], grad: &[f32]) -> Option<Vec<f32>> {
    assert!(grad.len() >= x.len(), "every element has a gradient");
    Some(match curve {
        Curve::Gelu => with_simd!(level, simd => map_gradient(simd, Gelu, x, grad)),
        Curve::Silu => with_simd!(level, simd => map_gradient(simd, Silu, x, grad)),
        Curve::Sigmoid => with_simd!(level, simd => map_gradient(simd, Sigmoid, x, grad)),
        _ => return None,
    })
}

/// A function and its derivative, of a vector at a time.
trait Function: Copy + Send + Sync {
    fn value<S: Simd>(self, simd: S, x: S::Vector) -> S::Vector;
    fn derivative<S: Simd>(self, simd: S, x: S::Vector) -> S::Vector;
}

fn map<S: Simd>(simd: S, function: impl Function, x: &[f32]) -> Vec<f32> {
    let write = |i: usize, out: &mut [f32]| {
        let x = &x[i * PIECE..][..out.len()];
        simd.vectorize(
            #[inline(always)]
            || {
                each(
                    simd,
                    [x, x],
                    out,
                    #[inline(always)]
                    |[x, _]| function.value(simd, x),
                );
            },
        );
    };
    // SAFETY: `each` only writes, as many elements as `x` has, which is as long as `out`.
    unsafe { filled_in_pieces(x.len(), PIECE, write) }
}

fn map_gradient<S: Simd>(simd: S, function: impl Function, x: &[f32], grad: &[f32]) -> Vec<f32> {
    let write = |i: usize, out: &mut [f32]| {
        let [x, grad] = [x, grad].map(|values| &values[i * PIECE..][..out.len()]);
        simd.vectorize(
            #[inline(always)]
            || {
                each(
                    simd,
                    [x, grad],
                    out,
                    #[inline(always)]
                    |[x, grad]| simd.mul(function.derivative(simd, x), grad),
                );
            },
        );
    };
    // SAFETY: `each` only writes, as many elements as `x` and `grad` have, which are as long as `out`.
    unsafe { filled_in_pieces(x.len(), PIECE, write) }
}

/// Sets every element of `out`, which is as long as both of `from`.
#[inline(always)]
fn each<S: Simd>(
    simd: S,
    from: [&[f32]; 2],
    out: &mut [f32],
    f: impl Fn([S::Vector; 2]) -> S::Vector,
) {
    let len = out.len();
    assert!(from.iter().all(|from| from.len() == len), "the slices are equally long");
    let whole = len - len % S::LANES;
    for start in (0..whole).step_by(S::LANES) {
        // SAFETY: `start + LANES` is at most the length of all three slices.
        unsafe {
            let [a, b] = from;
            let values = [simd.load(a.as_ptr().add(start)), simd.load(b.as_ptr().add(start))];
            simd.store(out.as_mut_ptr().add(start), f(values));
        }
    }
    let rest = len - whole;
    // SAFETY: `rest` values follow `whole` in all three slices.
    unsafe {
        let [a, b] = from.map(|from| from.as_ptr().wrapping_add(whole));
        let values = [simd.load_first(a, rest), simd.load_first(b, rest)];
        simd.store_first(out.as_mut_ptr().add(whole), f(values), rest);
    }
}

/// A polynomial of `x`, with the coefficient of the highest power first.
#[inline(always)]
fn polynomial<S: Simd, const N: usize>(simd: S, coefficients: [f32; N], x: S::Vector) -> S::Vector {
    let mut sum = simd.splat(coefficients[0]);
    for &coefficient in &coefficients[1..] {
        sum = simd.mul_add(sum, x, simd.splat(coefficient));
    }
    sum
}

/// The error function. [`crate::erf::erf`] is the same for one number.
#[inline(always)]
fn erf<S: Simd>(simd: S, x: S::Vector) -> S::Vector {
    let zero = simd.splat(0.0);
    let minus = simd.sub(zero, x);
    let size = simd.select_less(x, zero, minus, x);
    let near = simd.mul_add(x, polynomial(simd, NEAR, simd.mul(x, x)), x);
    // A NaN fails the comparison and so stays NaN.
    let end = simd.splat(END);
    let t = simd.select_less(end, size, end, size);
    let far = simd.sub(simd.splat(1.0), simd.exp(polynomial(simd, FAR, t)));
    let far = simd.select_less(x, zero, simd.sub(zero, far), far);
    simd.select_less(size, simd.splat(CUT), near, far)
}

#[derive(Clone, Copy)]
struct Gelu;

/// The probability that a standard normal number is below each of `x`.
#[inline(always)]
fn normal_cdf<S: Simd>(simd: S, x: S::Vector) -> S::Vector {
    let half = simd.splat(0.5);
    let erf = erf(simd, simd.mul(x, simd.splat(std::f32::consts::FRAC_1_SQRT_2)));
    simd.mul_add(half, erf, half)
}

impl Function for Gelu {
    #[inline(always)]
    fn value<S: Simd>(self, simd: S, x: S::Vector) -> S::Vector {
        simd.mul(x, normal_cdf(simd, x))
    }

    #[inline(always)]
    fn derivative<S: Simd>(self, simd: S, x: S::Vector) -> S::Vector {
        let inverse_sqrt_2_pi = std::f64::consts::FRAC_2_SQRT_PI * std::f64::consts::SQRT_2 / 4.0;
        let exponent = simd.mul(simd.mul(simd.splat(-0.5), x), x);
        let density = simd.mul(simd.splat(inverse_sqrt_2_pi as f32), simd.exp(exponent));
        simd.mul_add(x, density, normal_cdf(simd, x))
    }
}

/// `1 + exp(-x)`.
#[inline(always)]
fn one_and_exp<S: Simd>(simd: S, x: S::Vector) -> S::Vector {
    simd.add(simd.splat(1.0), simd.exp(simd.sub(simd.splat(0.0), x)))
}

#[derive(Clone, Copy)]
struct Silu;

impl Function for Silu {
    #[inline(always)]
    fn value<S: Simd>(self, simd: S, x: S::Vector) -> S::Vector {
        simd.div(x, one_and_exp(simd, x))
    }

    #[inline(always)]
    fn derivative<S: Simd>(self, simd: S, x: S::Vector) -> S::Vector {
        let one = simd.splat(1.0);
        let y = simd.div(one, one_and_exp(simd, x));
        simd.mul(y, simd.mul_add(x, simd.sub(one, y), one))
    }
}

#[derive(Clone, Copy)]
struct Sigmoid;

impl Function for Sigmoid {
    #[inline(always)]
    fn value<S: Simd>(self, simd: S, x: S::Vector) -> S::Vector {
        simd.div(simd.splat(1.0), one_and_exp(simd, x))
    }

    #[inline(always)]
    fn derivative<S: Simd>(self, simd: S, x: S::Vector) -> S::Vector {
        let y = self.value(simd, x);
        simd.mul(y, simd.sub(simd.splat(1.0), y))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::activation;

    const CURVES: [Curve; 3] = [Curve::Gelu, Curve::Silu, Curve::Sigmoid];

    /// Close together around zero, and far to both sides.
    fn numbers() -> Vec<f32> {
        (-40_003..=40_000)
            .map(|i| i as f32 * 5e-4)
            .chain([-1e4, -104.0, -89.0, 89.0, 1e4])
            .collect()
    }

    #[test]
    fn every_instruction_set_is_near_the_exact_functions() {
        let x = numbers();
        let wide: Vec<f64> = x.iter().map(|&x| f64::from(x)).collect();
        let grad: Vec<f32> = (0..x.len()).map(|i| (i % 5) as f32 - 2.0).collect();
        let wide_grad: Vec<f64> = grad.iter().map(|&grad| f64::from(grad)).collect();
        for (level, curve) in Level::available().into_iter().flat_map(|l| CURVES.map(|c| (l, c))) {
            let pairs = [
                (value_at(level, curve, &x), activation::value(curve, &wide)),
                (
                    gradient_at(level, curve, &x, &grad),
                    activation::gradient(curve, &wide, &wide_grad),
                ),
            ];
            for (found, exact) in pairs {
                for ((&x, found), exact) in x.iter().zip(found.unwrap()).zip(exact) {
                    // The derivative of SiLU multiplies the rounding of `1 - y` by x, as PyTorch's does.
                    let error = (f64::from(found) - exact).abs();
                    assert!(
                        error <= 1.5e-6 * exact.abs().max(1.0),
                        "{level:?} {curve:?} of {x}: {found} instead of {exact}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_nan_stays_one_wherever_it_stands() {
        for (level, curve) in Level::available().into_iter().flat_map(|l| CURVES.map(|c| (l, c))) {
            for position in 0..19 {
                let mut x = vec![0.5; 19];
                x[position] = f32::NAN;
                let found = value_at(level, curve, &x).unwrap();
                let nans: Vec<usize> = (0..19).filter(|&i| found[i].is_nan()).collect();
                assert_eq!(nans, [position], "{level:?} {curve:?}");
            }
        }
    }

    #[test]
    fn the_other_functions_are_left_alone() {
        assert_eq!(value(Curve::Relu, &[1.0]), None);
        assert_eq!(gradient(Curve::Tanh, &[1.0], &[1.0]), None);
    }
}
