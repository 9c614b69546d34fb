//! The two number types that kernels are written for.

use std::fmt::Debug;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Div, DivAssign, Mul, MulAssign, Neg, Sub, SubAssign};

use super::activation::{Curve, smooth};
use super::attention::Attention;
use super::gemm::Multiply;
use super::winograd::Winograd;
use super::{
    activation, add, attention, avg_pool, batch_norm, binary_cross_entropy, cat, channel_sums,
    conv, copied, dropout, finish, gemm, layer_norm, layout, local_response_norm, max_pool, mul,
    optimizer_step, rearrange, resample, softmax,
};

/// `f32` for training, and `f64` for checking gradients against finite differences.
///
/// The trait is sealed. Its supertraits hold the kernels of this crate, which are compiled for these two
/// types.
///
/// # Safety
/// Any bits must be a valid value of the type. The working memory of this crate relies on that.
pub unsafe trait Float:
    Copy
    + Debug
    + Default
    + PartialOrd
    + Send
    + Sync
    + 'static
    + Neg<Output = Self>
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + AddAssign
    + SubAssign
    + MulAssign
    + DivAssign
    + Sum
    + Parts
    + Kernels
{
    /// The number 0.
    const ZERO: Self;
    /// The number 1.
    const ONE: Self;
    /// The smallest positive normal number.
    const SMALLEST: Self;
    /// So small that it adds nothing to a parameter, and so large that its product with a learning rate is a normal number.
    const TINY: Self;

    /// The same number, without loss.
    fn widen(self) -> f64;
    /// The nearest value of this type.
    fn narrow(value: f64) -> Self;
    /// The square root.
    fn sqrt(self) -> Self;
    /// `e` to the power of `self`.
    fn exp(self) -> Self;
    /// The natural logarithm of `1 + self`, accurate near 0.
    fn ln_1p(self) -> Self;
    /// `e` to the power of `self`, minus 1, accurate near 0.
    fn exp_m1(self) -> Self;
    /// The hyperbolic tangent.
    fn tanh(self) -> Self;
    /// The error function, `2 / sqrt(pi)` times the integral of `exp(-t * t)` from 0 to `self`.
    fn erf(self) -> Self;
    /// Whether this is a NaN.
    fn is_not_a_number(self) -> bool;
}

/// Every kernel of this crate for one number type.
#[doc(hidden)]
pub trait Kernels:
    Sized
    + activation::Kernels<Self>
    + add::Kernels<Self>
    + attention::Kernels<Self>
    + avg_pool::Kernels<Self>
    + batch_norm::Kernels<Self>
    + binary_cross_entropy::Kernels<Self>
    + cat::Kernels<Self>
    + channel_sums::Kernels<Self>
    + conv::Kernels<Self>
    + copied::Kernels<Self>
    + dropout::Kernels<Self>
    + finish::Kernels<Self>
    + gemm::Kernels<Self>
    + layer_norm::Kernels<Self>
    + layout::Kernels<Self>
    + local_response_norm::Kernels<Self>
    + max_pool::Kernels<Self>
    + mul::Kernels<Self>
    + optimizer_step::Kernels<Self>
    + rearrange::Kernels<Self>
    + resample::Kernels<Self>
    + softmax::Kernels<Self>
{
}

impl Kernels for f32 {}
impl Kernels for f64 {}

pub(crate) use parts::Parts;

/// Public in a private module, so that no other crate can name it and implement [`Float`].
mod parts {
    use super::Winograd;
    use super::activation::Curve;
    use super::attention::Attention;
    use super::gemm::Multiply;

    /// The operations that are implemented separately for each number type.
    pub trait Parts: Sized {
        /// [`transpose_into`](crate::layout::transpose_into) without its checks.
        ///
        /// # Safety
        /// Both matrices must be inside their buffers, see there.
        unsafe fn transpose_unchecked(
            from: *const Self,
            from_stride: usize,
            size: [usize; 2],
            to: *mut Self,
            to_stride: usize,
        );

        /// Winograd's kernels for 3x3 convolutions, which need fewer multiplications. `None` if this type
        /// has none.
        fn winograd() -> Option<Winograd<Self>>;

        /// The fastest product of large matrices. `None` if this type has no kernels of its own.
        fn packed_product() -> Option<Multiply<Self>>;

        /// Applies one of the smooth functions that this type has on vectors. `None` if it is not one of them.
        fn smooth_value(curve: Curve, x: &[Self]) -> Option<Vec<Self>>;

        /// The gradient of `x` for the same functions.
        fn smooth_gradient(curve: Curve, x: &[Self], grad: &[Self]) -> Option<Vec<Self>>;

        /// The forward and the backward pass of attention.
        fn attention_passes() -> Attention<Self>;
    }
}

macro_rules! float {
    (
        $float:ty, $exp:path, $erf:path, $transpose:path, $winograd:expr, $product:expr,
        [$value:expr, $gradient:expr], $attention:expr
    ) => {
        // SAFETY: any bits are a floating-point number.
        unsafe impl Float for $float {
            const ZERO: Self = 0.0;
            const ONE: Self = 1.0;
            const SMALLEST: Self = <$float>::MIN_POSITIVE;
            // About 8e-31 and 1e-300.
            const TINY: Self = <$float>::MIN_POSITIVE * (1u32 << 26) as $float;

            #[inline(always)]
            fn widen(self) -> f64 {
                self.into()
            }

            #[inline(always)]
            fn narrow(value: f64) -> Self {
                value as $float
            }

            #[inline(always)]
            fn sqrt(self) -> Self {
                self.sqrt()
            }

            #[inline(always)]
            fn exp(self) -> Self {
                $exp(self)
            }

            #[inline(always)]
            fn ln_1p(self) -> Self {
                self.ln_1p()
            }

            #[inline(always)]
            fn exp_m1(self) -> Self {
                self.exp_m1()
            }

            #[inline(always)]
            fn tanh(self) -> Self {
                self.tanh()
            }

            #[inline(always)]
            fn erf(self) -> Self {
                $erf(self)
            }

            #[inline(always)]
            fn is_not_a_number(self) -> bool {
                self.is_nan()
            }
        }

        impl Parts for $float {
            unsafe fn transpose_unchecked(
                from: *const Self,
                from_stride: usize,
                size: [usize; 2],
                to: *mut Self,
                to_stride: usize,
            ) {
                // SAFETY: passed on.
                unsafe { $transpose(from, from_stride, size, to, to_stride) }
            }

            fn winograd() -> Option<Winograd<Self>> {
                $winograd
            }

            fn packed_product() -> Option<Multiply<Self>> {
                $product
            }

            fn smooth_value(curve: Curve, x: &[Self]) -> Option<Vec<Self>> {
                $value(curve, x)
            }

            fn smooth_gradient(curve: Curve, x: &[Self], grad: &[Self]) -> Option<Vec<Self>> {
                $gradient(curve, x, grad)
            }

            fn attention_passes() -> Attention<Self> {
                $attention
            }
        }
    };
}

float!(
    f32,
    super::exp::exp,
    super::erf::erf,
    super::simd::transpose,
    Some(super::winograd::KERNELS),
    Some(gemm::multiply_packed),
    [smooth::value, smooth::gradient],
    attention::OF_F32
);
float!(
    f64,
    f64::exp,
    libm::erf,
    transpose_plainly,
    None,
    None,
    [|_, _| None, |_, _, _| None],
    attention::OF_F64
);

/// # Safety
/// As [`Parts::transpose_unchecked`].
unsafe fn transpose_plainly<T: Copy>(
    from: *const T,
    from_stride: usize,
    [rows, columns]: [usize; 2],
    to: *mut T,
    to_stride: usize,
) {
    for row in 0..rows {
        for column in 0..columns {
            // SAFETY: the caller vouches for every row and column of both.
            unsafe { *to.add(column * to_stride + row) = *from.add(row * from_stride + column) }
        }
    }
}
