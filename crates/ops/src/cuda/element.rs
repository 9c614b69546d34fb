//! The number types of the kernels.

use candle_core::cuda_backend::CudaDType;
use candle_core::cuda_backend::cudarc::cublas::{
    CudaBlas, Gemm, GemmConfig, StridedBatchedConfig, result::CublasError,
};
use candle_core::cuda_backend::cudarc::driver::{CudaView, CudaViewMut, DeviceRepr};
use candle_core::{DType, Result};
use half::{bf16, f16};

use super::cudnn::DataType;

/// A number type on the device. Sums are computed in `f32` for each type.
pub(crate) trait Element: CudaDType + DeviceRepr + Copy + 'static {
    /// Suffix of the names of its kernels.
    const SUFFIX: &'static str;
    /// cuDNN's name of the type.
    const CUDNN: DataType;
    const ZERO: Self;
    const ONE: Self;

    /// # Safety
    /// The matrices that `config` describes lie inside the views.
    unsafe fn gemm(
        blas: &CudaBlas,
        config: GemmConfig<Self>,
        a: &CudaView<'_, Self>,
        b: &CudaView<'_, Self>,
        c: &mut CudaViewMut<'_, Self>,
    ) -> std::result::Result<(), CublasError>;

    /// # Safety
    /// The matrices that `config` describes lie inside the views.
    unsafe fn gemm_batched(
        blas: &CudaBlas,
        config: StridedBatchedConfig<Self>,
        a: &CudaView<'_, Self>,
        b: &CudaView<'_, Self>,
        c: &mut CudaViewMut<'_, Self>,
    ) -> std::result::Result<(), CublasError>;
}

macro_rules! element {
    ($ty:ty, $suffix:literal, $cudnn:ident, $zero:expr, $one:expr) => {
        impl Element for $ty {
            const SUFFIX: &'static str = $suffix;
            const CUDNN: DataType = DataType::$cudnn;
            const ZERO: Self = $zero;
            const ONE: Self = $one;

            unsafe fn gemm(
                blas: &CudaBlas,
                config: GemmConfig<Self>,
                a: &CudaView<'_, Self>,
                b: &CudaView<'_, Self>,
                c: &mut CudaViewMut<'_, Self>,
            ) -> std::result::Result<(), CublasError> {
                // SAFETY: what the caller promises.
                unsafe { blas.gemm(config, a, b, c) }
            }

            unsafe fn gemm_batched(
                blas: &CudaBlas,
                config: StridedBatchedConfig<Self>,
                a: &CudaView<'_, Self>,
                b: &CudaView<'_, Self>,
                c: &mut CudaViewMut<'_, Self>,
            ) -> std::result::Result<(), CublasError> {
                // SAFETY: what the caller promises.
                unsafe { blas.gemm_strided_batched(config, a, b, c) }
            }
        }
    };
}

element!(f32, "f32", Float, 0.0, 1.0);
element!(f16, "f16", Half, f16::ZERO, f16::ONE);
element!(bf16, "bf16", BFloat16, bf16::ZERO, bf16::ONE);

/// The error for a number type without kernels. It names `op`.
pub(super) fn unsupported<T>(op: &str, dtype: DType) -> Result<T> {
    candle_core::bail!(
        "{op}: on a CUDA device expected f32, f16 or bf16, got {dtype:?}; use the CPU for others"
    )
}

/// Evaluates an expression with `$element` bound to a number type.
macro_rules! with_dtype {
    ($op:expr, $dtype:expr, $element:ident => $body:expr) => {
        match $dtype {
            candle_core::DType::F32 => {
                type $element = f32;
                $body
            }
            candle_core::DType::F16 => {
                type $element = half::f16;
                $body
            }
            candle_core::DType::BF16 => {
                type $element = half::bf16;
                $body
            }
            dtype => $crate::cuda::element::unsupported($op, dtype),
        }
    };
}
pub(super) use with_dtype;

/// The same, with the number type of an array's storage.
macro_rules! with_element {
    ($op:expr, $storage:expr, $element:ident => $body:expr) => {
        $crate::cuda::element::with_dtype!(
            $op,
            candle_core::backend::BackendStorage::dtype($storage),
            $element => $body
        )
    };
}
pub(super) use with_element;
