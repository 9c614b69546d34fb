//! The two number types that kernels are written for.

use std::ops::Neg;

use candle_core::WithDType;

use super::winograd::Winograd;

/// `f32`, which training uses, and `f64`, in which gradients are checked against finite differences.
///
/// # Safety
/// Any bits are a value of the type, as [`super::scratch`] and [`super::output`] rely on.
pub(crate) unsafe trait Float: WithDType + Default + Neg<Output = Self> {
    const ZERO: Self;
    const ONE: Self;

    fn widen(self) -> f64;
    /// The nearest value of this type.
    fn narrow(value: f64) -> Self;
    fn sqrt(self) -> Self;
    fn exp(self) -> Self;
    /// The error function, `2 / sqrt(pi)` times the integral of `exp(-t * t)` from 0 to `self`.
    fn erf(self) -> Self;
    fn is_not_a_number(self) -> bool;

    /// [`transpose_into`](super::layout::transpose_into) without its checks.
    ///
    /// # Safety
    /// Both matrices are inside their buffers: see there.
    unsafe fn transpose(
        from: *const Self,
        from_stride: usize,
        size: [usize; 2],
        to: *mut Self,
        to_stride: usize,
    );

    /// The kernels with fewer multiplications for 3x3 convolutions, if this type has them.
    fn winograd() -> Option<Winograd<Self>>;
}

macro_rules! float {
    ($float:ty, $exp:path, $erf:path, $transpose:path, $winograd:expr) => {
        // SAFETY: any bits are a floating-point number.
        unsafe impl Float for $float {
            const ZERO: Self = 0.0;
            const ONE: Self = 1.0;

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
            fn erf(self) -> Self {
                $erf(self)
            }

            #[inline(always)]
            fn is_not_a_number(self) -> bool {
                self.is_nan()
            }

            unsafe fn transpose(
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
        }
    };
}

float!(
    f32,
    super::exp::exp,
    candle_core::cpu::erf::erf_f32,
    super::simd::transpose,
    Some(super::winograd::KERNELS)
);
float!(f64, f64::exp, candle_core::cpu::erf::erf_f64, transpose_plainly, None);

/// # Safety
/// As [`Float::transpose`].
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
