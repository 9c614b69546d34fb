//! The kernels of a network's convolutions, cast and laid channels-last by one launch for many of them.

use candle_core::cuda_backend::cudarc::driver::{
    DevicePtr, DevicePtrMut, DeviceRepr, LaunchArgs, LaunchConfig, PushKernelArg,
};
use candle_core::{CudaStorage, DType, Result, Tensor, bail};

use super::array::{kept, stored, unwritten};
use super::element::Element;
use super::function::{Argument, Source, device_function, launch};

/// Largest number of kernels of one launch.
const KERNELS: usize = 48;
const THREADS: u32 = 256;
/// Largest number of blocks of one kernel.
const MOST_BLOCKS: usize = 256;

/// The list of the kernel of the same name: addresses and sizes.
#[repr(C)]
#[derive(Clone, Copy)]
struct Kernels {
    from: [u64; KERNELS],
    to: [u64; KERNELS],
    out: [u32; KERNELS],
    inputs: [u32; KERNELS],
    taps: [u32; KERNELS],
}

// SAFETY: addresses and numbers, laid out as the kernels' structure is.
unsafe impl DeviceRepr for Kernels {}

impl<'a> Argument<'a> for &'a Kernels {
    fn push(self, arguments: &mut LaunchArgs<'a>) {
        arguments.arg(self);
    }
}

/// The elements of each of `kernels`, `[out, in, height, width]` of `f32` and contiguous, as `[out, height, width, in]` of
/// `dtype`.
pub(crate) fn kernels_in_order(kernels: &[&Tensor], dtype: DType) -> Result<Vec<CudaStorage>> {
    match dtype {
        DType::F32 => of_type::<f32>(kernels),
        DType::F16 => of_type::<half::f16>(kernels),
        DType::BF16 => of_type::<half::bf16>(kernels),
        _ => bail!("kernels_in_order: no kernel for {dtype:?}"),
    }
}

fn of_type<T: Element>(kernels: &[&Tensor]) -> Result<Vec<CudaStorage>> {
    let mut storages = Vec::with_capacity(kernels.len());
    for kernels in kernels.chunks(KERNELS) {
        let locked: Vec<_> = kernels.iter().map(|kernel| kept(kernel)).collect();
        let Some(first) = locked.first() else { break };
        let device = first.array()?.device().clone();
        let stream = device.cuda_stream();
        let mut list = Kernels {
            from: [0; KERNELS],
            to: [0; KERNELS],
            out: [0; KERNELS],
            inputs: [0; KERNELS],
            taps: [0; KERNELS],
        };
        let mut most_out = 0;
        let mut written = Vec::with_capacity(kernels.len());
        for (i, (kernel, locked)) in kernels.iter().zip(&locked).enumerate() {
            let (out, inputs, height, width) = kernel.dims4()?;
            let from = locked.array()?.view::<f32>()?;
            let mut to = unwritten::<T>(&device, from.len())?;
            list.from[i] = from.device_ptr(&stream).0;
            list.to[i] = to.device_ptr_mut(&stream).0;
            [list.out[i], list.inputs[i], list.taps[i]] =
                [out, inputs, height * width].map(|size| size as u32);
            most_out = most_out.max(out);
            written.push(to);
        }
        let config = LaunchConfig {
            grid_dim: (most_out.clamp(1, MOST_BLOCKS) as u32, kernels.len() as u32, 1),
            block_dim: (THREADS, 1, 1),
            shared_mem_bytes: 0,
        };
        let function = device_function::<T>(&device, Source::Layout, "kernels_in_order")?;
        // SAFETY: the list names arrays of the sizes that it says. `locked` and `written` keep them until the launch is
        // queued, and memory is freed behind it on the same stream.
        unsafe { launch!(function, config, &list) }
        storages.extend(written.into_iter().map(|to| {
            let len = to.len();
            stored(to, &device, len).0
        }));
    }
    Ok(storages)
}
