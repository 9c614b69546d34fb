//! Activation functions and their derivatives, element by element.

use super::float::Float;
use super::output::filled_in_pieces;
use super::pieces::PIECE;
use super::vectorize::vectorize;

/// A function of one number with its derivative; at a kink the derivative is PyTorch's.
pub(crate) trait Curve: Send + Sync + 'static {
    const NAME: &'static str;

    fn value<T: Float>(x: T) -> T;
    fn derivative<T: Float>(x: T) -> T;
}

/// `C` of every element.
pub(crate) fn value<C: Curve, T: Float>(x: &[T]) -> Vec<T> {
    let write = |i: usize, out: &mut [T]| map(&x[i * PIECE..][..out.len()], &C::value, out);
    // SAFETY: `map` only writes, as many elements as `x` has, which is as long as `out`.
    unsafe { filled_in_pieces(x.len(), PIECE, write) }
}

/// The gradient of `x`, given the gradient of `C` of it.
pub(crate) fn gradient<C: Curve, T: Float>(x: &[T], grad: &[T]) -> Vec<T> {
    zip_map(x, grad, |x, grad| C::derivative(x) * grad)
}

/// `grad` where a rectifier's output is neither zero nor its ceiling (a NaN lets it through, as in
/// PyTorch), else 0.
pub(crate) fn rectifier_mask<T: Float>(output: &[T], grad: &[T], ceiling: f64) -> Vec<T> {
    let ceiling = T::narrow(ceiling);
    zip_map(output, grad, |output, grad| masked(output, grad, ceiling))
}

/// What of `grad` passes back through a rectifier that was given `x`, or gave it.
#[inline(always)]
pub(crate) fn masked<T: Float>(x: T, grad: T, ceiling: T) -> T {
    // Two selections of one operand each: compilers make no vectors of an `or`.
    let grad = if x <= T::ZERO { T::ZERO } else { grad };
    if x >= ceiling { T::ZERO } else { grad }
}

/// `min(max(x, 0), ceiling)`; a NaN stays one.
#[inline(always)]
pub(crate) fn rectified<T: Float>(x: T, ceiling: T) -> T {
    clamp(x, T::ZERO, ceiling)
}

fn zip_map<T: Float>(a: &[T], b: &[T], f: impl Fn(T, T) -> T + Sync) -> Vec<T> {
    let write = |i: usize, out: &mut [T]| {
        let start = i * PIECE;
        zip_map_piece(&a[start..][..out.len()], &b[start..][..out.len()], &f, out);
    };
    // SAFETY: `zip_map_piece` only writes, as many elements as both have, as long as `out`.
    unsafe { filled_in_pieces(a.len(), PIECE, write) }
}

vectorize! {
    fn map<T: Float, F: Fn(T) -> T>(x: &[T], f: &F, out: &mut [T]) {
        for (out, &x) in out.iter_mut().zip(x) {
            *out = f(x);
        }
    }

    fn zip_map_piece<T: Float, F: Fn(T, T) -> T>(a: &[T], b: &[T], f: &F, out: &mut [T]) {
        for ((out, &a), &b) in out.iter_mut().zip(a).zip(b) {
            *out = f(a, b);
        }
    }
}

// Comparisons are written so that a NaN ends in the branch that keeps it.

#[inline(always)]
fn clamp<T: Float>(x: T, low: T, high: T) -> T {
    if x < low {
        low
    } else if x > high {
        high
    } else {
        x
    }
}

#[inline(always)]
fn number<T: Float>(value: f64) -> T {
    T::narrow(value)
}

#[inline(always)]
fn logistic<T: Float>(x: T) -> T {
    T::ONE / (T::ONE + (-x).exp())
}

pub(crate) struct Relu;

impl Curve for Relu {
    const NAME: &'static str = "relu";

    #[inline(always)]
    fn value<T: Float>(x: T) -> T {
        if x < T::ZERO { T::ZERO } else { x }
    }

    #[inline(always)]
    fn derivative<T: Float>(x: T) -> T {
        if x <= T::ZERO { T::ZERO } else { T::ONE }
    }
}

pub(crate) struct Relu6;

impl Curve for Relu6 {
    const NAME: &'static str = "relu6";

    #[inline(always)]
    fn value<T: Float>(x: T) -> T {
        clamp(x, T::ZERO, number(6.0))
    }

    #[inline(always)]
    fn derivative<T: Float>(x: T) -> T {
        if x <= T::ZERO || x >= number(6.0) { T::ZERO } else { T::ONE }
    }
}

pub(crate) struct Sigmoid;

impl Curve for Sigmoid {
    const NAME: &'static str = "sigmoid";

    #[inline(always)]
    fn value<T: Float>(x: T) -> T {
        logistic(x)
    }

    #[inline(always)]
    fn derivative<T: Float>(x: T) -> T {
        let y = logistic(x);
        y * (T::ONE - y)
    }
}

pub(crate) struct Silu;

impl Curve for Silu {
    const NAME: &'static str = "silu";

    #[inline(always)]
    fn value<T: Float>(x: T) -> T {
        // Not `x * logistic(x)`: one rounding less.
        x / (T::ONE + (-x).exp())
    }

    #[inline(always)]
    fn derivative<T: Float>(x: T) -> T {
        let y = logistic(x);
        y * (T::ONE + x * (T::ONE - y))
    }
}

pub(crate) struct Gelu;

/// The probability that a standard normal number is below `x`.
#[inline(always)]
fn normal_cdf<T: Float>(x: T) -> T {
    number::<T>(0.5) * (T::ONE + (x * number(std::f64::consts::FRAC_1_SQRT_2)).erf())
}

impl Curve for Gelu {
    const NAME: &'static str = "gelu";

    #[inline(always)]
    fn value<T: Float>(x: T) -> T {
        x * normal_cdf(x)
    }

    #[inline(always)]
    fn derivative<T: Float>(x: T) -> T {
        let inverse_sqrt_2_pi = std::f64::consts::FRAC_2_SQRT_PI * std::f64::consts::SQRT_2 / 4.0;
        let density = number::<T>(inverse_sqrt_2_pi) * (number::<T>(-0.5) * x * x).exp();
        normal_cdf(x) + x * density
    }
}

pub(crate) struct HardSwish;

impl Curve for HardSwish {
    const NAME: &'static str = "hardswish";

    #[inline(always)]
    fn value<T: Float>(x: T) -> T {
        x * HardSigmoid::value(x)
    }

    #[inline(always)]
    fn derivative<T: Float>(x: T) -> T {
        if x <= number(-3.0) {
            T::ZERO
        } else if x < number(3.0) {
            x / number(3.0) + number(0.5)
        } else {
            T::ONE
        }
    }
}

pub(crate) struct HardSigmoid;

impl Curve for HardSigmoid {
    const NAME: &'static str = "hardsigmoid";

    #[inline(always)]
    fn value<T: Float>(x: T) -> T {
        clamp(x + number(3.0), T::ZERO, number(6.0)) / number(6.0)
    }

    #[inline(always)]
    fn derivative<T: Float>(x: T) -> T {
        if x > number(-3.0) && x < number(3.0) { number(1.0 / 6.0) } else { T::ZERO }
    }
}
