//! The rounding that the products of a convolution may use, and cuDNN's names for it.

use std::ffi::c_int;

use super::DataType;

/// `cudnnMathType_t`.
pub(super) mod math {
    use std::ffi::c_int;

    /// Tensor cores for `f32` as TF32. For half precision they must be asked for.
    pub(in super::super) const DEFAULT: c_int = 0;
    /// Tensor cores.
    pub(in super::super) const TENSOR_OP: c_int = 1;
    /// Tensor cores, also for `f32` that is rounded to `f16`.
    pub(in super::super) const ALLOW_CONVERSION: c_int = 2;
    /// Multiplications and additions without further rounding.
    pub(in super::super) const FMA: c_int = 3;
}

/// The precision of a convolution's factors in its products.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Arithmetic {
    /// The factors are `f16` or `bf16`.
    Half,
    /// `f32` rounded to 10 bits of mantissa.
    Tf32,
    /// `f32` without rounding.
    Full,
}

impl Arithmetic {
    pub(super) fn of(data: DataType, tf32: bool) -> Self {
        match data {
            DataType::Half | DataType::BFloat16 => Self::Half,
            DataType::Float if tf32 => Self::Tf32,
            DataType::Float => Self::Full,
        }
    }

    /// The math type with which cuDNN is asked for algorithms.
    pub(super) fn asked(self) -> c_int {
        match self {
            Self::Half => math::TENSOR_OP,
            Self::Tf32 => math::DEFAULT,
            Self::Full => math::FMA,
        }
    }

    /// The math type with which to run an algorithm whose performance record names `record`. `None` if it
    /// would round more than allowed.
    pub(super) fn of_record(self, record: c_int) -> Option<c_int> {
        match self {
            Self::Half => Some(record),
            // This would round to f16, whose range is smaller than that of f32.
            Self::Tf32 => (record != math::ALLOW_CONVERSION).then_some(record),
            // Records name the default even if plain arithmetic was asked for, and the default is TF32.
            // PyTorch sets this by hand for the same reason.
            Self::Full => Some(math::FMA),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_precision_asks_for_tensor_cores_and_takes_the_record_s() {
        for data in [DataType::Half, DataType::BFloat16] {
            for tf32 in [false, true] {
                let half = Arithmetic::of(data, tf32);
                assert_eq!(half.asked(), math::TENSOR_OP);
                for record in math::DEFAULT..=math::FMA {
                    assert_eq!(half.of_record(record), Some(record));
                }
            }
        }
    }

    #[test]
    fn f32_is_rounded_no_more_than_it_may() {
        let tf32 = Arithmetic::of(DataType::Float, true);
        assert_eq!(tf32.asked(), math::DEFAULT);
        assert_eq!(tf32.of_record(math::TENSOR_OP), Some(math::TENSOR_OP));
        assert_eq!(tf32.of_record(math::ALLOW_CONVERSION), None);
        let full = Arithmetic::of(DataType::Float, false);
        assert_eq!(full.asked(), math::FMA);
        for record in math::DEFAULT..=math::FMA {
            assert_eq!(full.of_record(record), Some(math::FMA));
        }
    }
}
