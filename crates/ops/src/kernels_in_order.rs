//! The kernels of a step's convolutions, laid out by few launches.

use candle_core::{DType, Result, Tensor};

use crate::cast;
#[cfg(feature = "cuda")]
use crate::cuda;

/// The kernels of convolutions as the passes of a training step read them: in the number type `dtype`, and on a CUDA device
/// channels-last in memory. The results have the shapes of `kernels`, `[out, in / groups, height, width]`.
///
/// On a CUDA device the kernels of a network would otherwise be cast and laid out one by one: two launches for each, and
/// two more for its gradient. This takes one launch for up to 48 of them. Kernels of few input channels (up to 4) or of a
/// single tap are only cast: their passes need nothing else.
///
/// It is differentiable. Gradients have the number types of `kernels`.
///
/// # Errors
/// If a type is not a float type.
///
/// # Example
/// ```
/// use candle_core::{DType, Device, Tensor, Var};
/// use candle_vision_ops::{Conv2dConfig, conv2d, kernels_in_order};
///
/// let kernel = Var::ones((8, 16, 3, 3), DType::F32, &Device::Cpu)?;
/// let in_order = kernels_in_order(&[kernel.as_tensor()], DType::F32)?;
/// let x = Tensor::ones((1, 5, 5, 16), DType::F32, &Device::Cpu)?;
/// let y = conv2d(&x, &in_order[0], None, &Conv2dConfig::default())?;
/// assert_eq!(y.dims(), [1, 3, 3, 8]);
/// # candle_core::Result::Ok(())
/// ```
pub fn kernels_in_order(kernels: &[&Tensor], dtype: DType) -> Result<Vec<Tensor>> {
    #[cfg(feature = "cuda")]
    let mut laid_out = {
        let wants = |kernel: &&Tensor| on_cuda::wants_order(kernel, dtype);
        let kernels: Vec<&Tensor> = kernels.iter().copied().filter(wants).collect();
        cuda::kernels_in_order(&kernels, dtype)?.into_iter()
    };
    let in_order = |kernel: &&Tensor| {
        #[cfg(feature = "cuda")]
        if on_cuda::wants_order(kernel, dtype)
            && let Some(storage) = laid_out.next()
        {
            return on_cuda::laid_out(kernel, storage);
        }
        cast(kernel, dtype)
    };
    kernels.iter().map(in_order).collect()
}

#[cfg(feature = "cuda")]
mod on_cuda {
    use std::sync::{Mutex, PoisonError};

    use candle_core::{
        CpuStorage, CudaStorage, CustomOp1, DType, Layout, Result, Shape, Tensor, bail,
    };

    use crate::tape::{Footprint, apply1, note};

    const NAME: &str = "kernels_in_order";

    /// Whether all passes would transpose `kernel` to `[out, height, width, in / groups]`, and it can be done here.
    pub(super) fn wants_order(kernel: &Tensor, dtype: DType) -> bool {
        /// Convolutions of so few channels have forms of their own.
        const FEW: usize = 4;
        let &[_, inputs, height, width] = kernel.dims() else { return false };
        kernel.device().is_cuda()
            && kernel.dtype() == DType::F32
            && matches!(dtype, DType::F32 | DType::F16 | DType::BF16)
            && kernel.is_contiguous()
            && inputs > FEW
            && height * width > 1
            && u32::try_from(kernel.elem_count()).is_ok()
    }

    /// The kernel whose values a launch has put into `storage`, channels-last.
    pub(super) fn laid_out(kernel: &Tensor, storage: CudaStorage) -> Result<Tensor> {
        let (out, inputs, height, width) = kernel.dims4()?;
        let shape = Shape::from((out, height, width, inputs));
        let op = LaidOut { values: Mutex::new(Some((storage, shape))) };
        let in_memory = apply1(kernel, op)?;
        let result = in_memory.permute([0, 3, 1, 2])?;
        note(&result, &[&in_memory], |gradient| Ok(vec![Some(gradient.permute([0, 2, 3, 1])?)]));
        Ok(result)
    }

    struct LaidOut {
        /// Until the forward pass.
        values: Mutex<Option<(CudaStorage, Shape)>>,
    }

    impl Footprint for LaidOut {}

    impl CustomOp1 for LaidOut {
        fn name(&self) -> &'static str {
            NAME
        }

        fn cpu_fwd(&self, _kernel: &CpuStorage, _layout: &Layout) -> Result<(CpuStorage, Shape)> {
            bail!("{NAME}: a kernel on the CPU stays as it is")
        }

        fn cuda_fwd(
            &self,
            _kernel: &CudaStorage,
            _layout: &Layout,
        ) -> Result<(CudaStorage, Shape)> {
            let values = self.values.lock().unwrap_or_else(PoisonError::into_inner).take();
            values.ok_or_else(|| candle_core::Error::msg(format!("{NAME}: no values")))
        }

        fn bwd(
            &self,
            kernel: &Tensor,
            _in_memory: &Tensor,
            grad: &Tensor,
        ) -> Result<Option<Tensor>> {
            // The optimizers' kernels read it as it lies.
            grad.contiguous()?.to_dtype(kernel.dtype())?.permute([0, 3, 1, 2]).map(Some)
        }
    }
}
