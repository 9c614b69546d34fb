//! The two number types that kernels are written for.

use std::ops::Neg;

use candle_core::WithDType;

/// `f32`, which training uses, and `f64`, in which gradients are checked against finite differences.
pub(crate) trait Float: WithDType + Default + Neg<Output = Self> {
    const ZERO: Self;
    const ONE: Self;

    fn widen(self) -> f64;
    /// The nearest value of this type.
    fn narrow(value: f64) -> Self;
    fn exp(self) -> Self;
    /// The error function, `2 / sqrt(pi)` times the integral of `exp(-t * t)` from 0 to `self`.
    fn erf(self) -> Self;
    fn is_not_a_number(self) -> bool;
}

macro_rules! float {
    ($float:ty, $erf:path) => {
        impl Float for $float {
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
            fn exp(self) -> Self {
                self.exp()
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
    };
}

float!(f32, candle_core::cpu::erf::erf_f32);
float!(f64, candle_core::cpu::erf::erf_f64);
