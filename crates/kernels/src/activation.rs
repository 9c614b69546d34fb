//! Activation functions and their derivatives, element by element.

pub(crate) mod smooth;

use super::compiled::compiled;
use super::float::Float;
use super::output::filled_in_pieces;
use super::pieces::PIECE;
use super::vectorize::vectorize_wide;

/// A function of one number and its derivative. At a kink the derivative is PyTorch's.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Curve {
    /// `max(x, 0)`.
    Relu,
    /// `min(max(x, 0), 6)`.
    Relu6,
    /// `x` where it is positive, otherwise `slope * x`.
    LeakyRelu {
        /// Factor of negative values.
        slope: f64,
    },
    /// `x` where it is positive, otherwise `alpha * (exp(x) - 1)`.
    Elu {
        /// The limit towards minus infinity, without its sign.
        alpha: f64,
    },
    /// `1 / (1 + exp(-x))`.
    Sigmoid,
    /// The hyperbolic tangent.
    Tanh,
    /// `ln(1 + exp(x))`. Above 20 it is `x` itself.
    Softplus,
    /// `x * sigmoid(x)`.
    Silu,
    /// `x * tanh(softplus(x))`.
    Mish,
    /// `x` times the probability that a standard normal number is below `x`.
    Gelu,
    /// `x * relu6(x + 3) / 6`.
    HardSwish,
    /// `relu6(x + 3) / 6`.
    HardSigmoid,
}

impl Curve {
    /// PyTorch's name of the function.
    pub fn name(self) -> &'static str {
        match self {
            Self::Relu => "relu",
            Self::Relu6 => "relu6",
            Self::LeakyRelu { .. } => "leaky_relu",
            Self::Elu { .. } => "elu",
            Self::Sigmoid => "sigmoid",
            Self::Tanh => "tanh",
            Self::Softplus => "softplus",
            Self::Silu => "silu",
            Self::Mish => "mish",
            Self::Gelu => "gelu",
            Self::HardSwish => "hardswish",
            Self::HardSigmoid => "hardsigmoid",
        }
    }
}

/// Evaluates an expression with `$function` bound to the [`Function`] of a [`Curve`].
macro_rules! with_function {
    ($curve:expr, $function:ident => $body:expr) => {
        match $curve {
            Curve::Relu => with_function!(@ $function = Relu, $body),
            Curve::Relu6 => with_function!(@ $function = Relu6, $body),
            Curve::LeakyRelu { slope } => with_function!(@ $function = LeakyRelu(slope), $body),
            Curve::Elu { alpha } => with_function!(@ $function = Elu(alpha), $body),
            Curve::Sigmoid => with_function!(@ $function = Sigmoid, $body),
            Curve::Tanh => with_function!(@ $function = Tanh, $body),
            Curve::Softplus => with_function!(@ $function = Softplus, $body),
            Curve::Silu => with_function!(@ $function = Silu, $body),
            Curve::Mish => with_function!(@ $function = Mish, $body),
            Curve::Gelu => with_function!(@ $function = Gelu, $body),
            Curve::HardSwish => with_function!(@ $function = HardSwish, $body),
            Curve::HardSigmoid => with_function!(@ $function = HardSigmoid, $body),
        }
    };
    (@ $function:ident = $value:expr, $body:expr) => {{
        let $function = $value;
        $body
    }};
}

compiled! {
    trait Kernels<T>;

    /// Applies the function to every element.
    pub fn value(curve: Curve, x: &[T]) -> Vec<T> {
        if let Some(values) = T::smooth_value(curve, x) {
            return values;
        }
        // Not inlined, a long function would be called for each element, without vectors.
        with_function!(curve, function => map_all(
            x,
            #[inline(always)]
            |x| function.value(x),
        ))
    }

    /// The gradient of `x`, from the gradient of the function's result.
    ///
    /// # Panics
    /// If `grad` is shorter than `x`.
    pub fn gradient(curve: Curve, x: &[T], grad: &[T]) -> Vec<T> {
        if let Some(gradients) = T::smooth_gradient(curve, x, grad) {
            return gradients;
        }
        with_function!(curve, function => {
            zip_map(
                x,
                grad,
                #[inline(always)]
                |x, grad| function.derivative(x) * grad,
            )
        })
    }

    /// The gradient of a ReLU's input: `grad` where `output` is neither zero nor the ceiling, otherwise 0.
    /// Where `output` is NaN, `grad` passes, as in PyTorch.
    ///
    /// # Panics
    /// If `grad` is shorter than `output`.
    pub fn relu_mask(output: &[T], grad: &[T], ceiling: f64) -> Vec<T> {
        let ceiling = T::narrow(ceiling);
        zip_map(output, grad, |output, grad| masked(output, grad, ceiling))
    }
}

/// The function and derivative that a [`Curve`] stands for.
trait Function: Copy + Send + Sync {
    fn value<T: Float>(self, x: T) -> T;
    fn derivative<T: Float>(self, x: T) -> T;
}

/// The part of `grad` that passes back through a ReLU. `x` is the ReLU's input or its output.
#[inline(always)]
pub(crate) fn masked<T: Float>(x: T, grad: T, ceiling: T) -> T {
    // Two selections with one condition each. Compilers do not vectorise an `or` of both.
    let grad = if x <= T::ZERO { T::ZERO } else { grad };
    if x >= ceiling { T::ZERO } else { grad }
}

/// `min(max(x, 0), ceiling)`. A NaN stays NaN.
#[inline(always)]
pub(crate) fn relu_up_to<T: Float>(x: T, ceiling: T) -> T {
    clamp(x, T::ZERO, ceiling)
}

fn map_all<T: Float>(x: &[T], f: impl Fn(T) -> T + Sync) -> Vec<T> {
    let write = |i: usize, out: &mut [T]| map(&x[i * PIECE..][..out.len()], &f, out);
    // SAFETY: `map` only writes, as many elements as `x` has, which is as long as `out`.
    unsafe { filled_in_pieces(x.len(), PIECE, write) }
}

fn zip_map<T: Float>(a: &[T], b: &[T], f: impl Fn(T, T) -> T + Sync) -> Vec<T> {
    let write = |i: usize, out: &mut [T]| {
        let start = i * PIECE;
        zip_map_piece(&a[start..][..out.len()], &b[start..][..out.len()], &f, out);
    };
    // SAFETY: `zip_map_piece` only writes, as many elements as both have, as long as `out`.
    unsafe { filled_in_pieces(a.len(), PIECE, write) }
}

vectorize_wide! {
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

// The comparisons send a NaN into the branch that keeps it.

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

#[derive(Clone, Copy)]
struct Relu;

impl Function for Relu {
    #[inline(always)]
    fn value<T: Float>(self, x: T) -> T {
        if x < T::ZERO { T::ZERO } else { x }
    }

    #[inline(always)]
    fn derivative<T: Float>(self, x: T) -> T {
        if x <= T::ZERO { T::ZERO } else { T::ONE }
    }
}

#[derive(Clone, Copy)]
struct Relu6;

impl Function for Relu6 {
    #[inline(always)]
    fn value<T: Float>(self, x: T) -> T {
        clamp(x, T::ZERO, number(6.0))
    }

    #[inline(always)]
    fn derivative<T: Float>(self, x: T) -> T {
        if x <= T::ZERO || x >= number(6.0) { T::ZERO } else { T::ONE }
    }
}

#[derive(Clone, Copy)]
struct Sigmoid;

impl Function for Sigmoid {
    #[inline(always)]
    fn value<T: Float>(self, x: T) -> T {
        logistic(x)
    }

    #[inline(always)]
    fn derivative<T: Float>(self, x: T) -> T {
        let y = logistic(x);
        y * (T::ONE - y)
    }
}

#[derive(Clone, Copy)]
struct Silu;

impl Function for Silu {
    #[inline(always)]
    fn value<T: Float>(self, x: T) -> T {
        // Instead of `x * logistic(x)`, because it rounds once less.
        x / (T::ONE + (-x).exp())
    }

    #[inline(always)]
    fn derivative<T: Float>(self, x: T) -> T {
        let y = logistic(x);
        y * (T::ONE + x * (T::ONE - y))
    }
}

#[derive(Clone, Copy)]
struct Gelu;

/// The probability that a standard normal number is below `x`.
#[inline(always)]
fn normal_cdf<T: Float>(x: T) -> T {
    number::<T>(0.5) * (T::ONE + (x * number(std::f64::consts::FRAC_1_SQRT_2)).erf())
}

impl Function for Gelu {
    #[inline(always)]
    fn value<T: Float>(self, x: T) -> T {
        x * normal_cdf(x)
    }

    #[inline(always)]
    fn derivative<T: Float>(self, x: T) -> T {
        let inverse_sqrt_2_pi = std::f64::consts::FRAC_2_SQRT_PI * std::f64::consts::SQRT_2 / 4.0;
        let density = number::<T>(inverse_sqrt_2_pi) * (number::<T>(-0.5) * x * x).exp();
        normal_cdf(x) + x * density
    }
}

#[derive(Clone, Copy)]
struct HardSwish;

impl Function for HardSwish {
    #[inline(always)]
    fn value<T: Float>(self, x: T) -> T {
        x * HardSigmoid.value(x)
    }

    #[inline(always)]
    fn derivative<T: Float>(self, x: T) -> T {
        if x <= number(-3.0) {
            T::ZERO
        } else if x < number(3.0) {
            x / number(3.0) + number(0.5)
        } else {
            T::ONE
        }
    }
}

#[derive(Clone, Copy)]
struct HardSigmoid;

impl Function for HardSigmoid {
    #[inline(always)]
    fn value<T: Float>(self, x: T) -> T {
        clamp(x + number(3.0), T::ZERO, number(6.0)) / number(6.0)
    }

    #[inline(always)]
    fn derivative<T: Float>(self, x: T) -> T {
        if x > number(-3.0) && x < number(3.0) { number(1.0 / 6.0) } else { T::ZERO }
    }
}

#[derive(Clone, Copy)]
struct LeakyRelu(f64);

impl Function for LeakyRelu {
    #[inline(always)]
    fn value<T: Float>(self, x: T) -> T {
        if x > T::ZERO { x } else { x * number(self.0) }
    }

    #[inline(always)]
    fn derivative<T: Float>(self, x: T) -> T {
        if x > T::ZERO { T::ONE } else { number(self.0) }
    }
}

#[derive(Clone, Copy)]
struct Elu(f64);

impl Function for Elu {
    #[inline(always)]
    fn value<T: Float>(self, x: T) -> T {
        if x > T::ZERO { x } else { number::<T>(self.0) * x.exp_m1() }
    }

    #[inline(always)]
    fn derivative<T: Float>(self, x: T) -> T {
        if x > T::ZERO { T::ONE } else { number::<T>(self.0) * x.exp() }
    }
}

#[derive(Clone, Copy)]
struct Tanh;

impl Function for Tanh {
    #[inline(always)]
    fn value<T: Float>(self, x: T) -> T {
        x.tanh()
    }

    #[inline(always)]
    fn derivative<T: Float>(self, x: T) -> T {
        let y = x.tanh();
        T::ONE - y * y
    }
}

#[derive(Clone, Copy)]
struct Softplus;

impl Function for Softplus {
    #[inline(always)]
    fn value<T: Float>(self, x: T) -> T {
        // PyTorch's threshold. Above it both are equal in `f32`, and for large values `exp` overflows.
        if x > number(20.0) { x } else { x.exp().ln_1p() }
    }

    #[inline(always)]
    fn derivative<T: Float>(self, x: T) -> T {
        if x > number(20.0) { T::ONE } else { logistic(x) }
    }
}

#[derive(Clone, Copy)]
struct Mish;

impl Function for Mish {
    #[inline(always)]
    fn value<T: Float>(self, x: T) -> T {
        x * Softplus.value(x).tanh()
    }

    #[inline(always)]
    fn derivative<T: Float>(self, x: T) -> T {
        let y = Softplus.value(x).tanh();
        y + x * logistic(x) * (T::ONE - y * y)
    }
}
