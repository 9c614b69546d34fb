//! Norms on the device, and what gradients are multiplied by.

use candle_core::cuda_backend::cudarc::driver::{
    DevicePtr, DeviceRepr, LaunchArgs, LaunchConfig, PushKernelArg,
};
use candle_core::{CudaDevice, Result, Tensor};

use super::super::array::{kept, stored, tensor};
use super::super::function::{Argument, ONE_BLOCK, Source, device_function, launch, over_threads};
use super::{TENSORS, address, gradients, over_tensors};

/// The kernels' list of gradients: their addresses and lengths.
#[repr(C)]
#[derive(Clone, Copy)]
struct Gradients {
    grad: [u64; TENSORS],
    size: [u64; TENSORS],
}

// SAFETY: addresses and numbers, laid out as the kernels' structure is.
unsafe impl DeviceRepr for Gradients {}

impl<'a> Argument<'a> for &'a Gradients {
    fn push(self, arguments: &mut LaunchArgs<'a>) {
        arguments.arg(self);
    }
}

/// `x / max(|x| / divisor, least)`, with the norm `|x|` of all its elements. `x` is contiguous.
pub(crate) fn over_norm(
    device: &CudaDevice,
    x: &Tensor,
    divisor: f64,
    least: f64,
) -> Result<Tensor> {
    let n = x.elem_count();
    let (list, config) = gradient_list(device, &[x])?;
    let sums = config.grid_dim.0 * config.grid_dim.1;
    // SAFETY: the first kernel writes a sum for each block, the second all elements of the result.
    let (mut partial, mut y) =
        unsafe { (device.alloc::<f64>(sums as usize)?, device.alloc::<f32>(n)?) };
    let function = device_function::<f32>(device, Source::Optimizer, "squares")?;
    // SAFETY: the list names a contiguous tensor of the size it says, and partial has a place for each block.
    unsafe { launch!(function, config, &list, &mut partial) }
    let kept = kept(x);
    let from = kept.array()?.view::<f32>()?;
    let function = device_function::<f32>(device, Source::Optimizer, "over_norm")?;
    // SAFETY: x and the result have n elements, partial has `sums`.
    unsafe {
        launch!(function, over_threads(n), &n, &from, &sums, &partial, &divisor, &least, &mut y)
    }
    Ok(tensor(stored(y, device, x.shape())))
}

/// Number of values of the kernels' `GradScale`.
const SCALE: usize = 4;

/// What gradients are multiplied by, `[4]` of `f64`: the sum of the squares of all elements, the norm, the factor, and 0
/// if they must not be used. `loss_scale` is one number that the loss was multiplied by.
pub(crate) fn grad_scale(
    device: &CudaDevice,
    grads: &[&Tensor],
    largest: f64,
    loss_scale: Option<&Tensor>,
) -> Result<Tensor> {
    let grads = gradients(grads.iter().copied())?;
    let mut filled: Vec<&Tensor> = grads.iter().filter(|grad| grad.elem_count() > 0).collect();
    // Gradients of about the same size share a launch. The order among equals is kept.
    filled.sort_by_key(|grad| grad.elem_count());
    let runs: Vec<(Gradients, LaunchConfig)> =
        filled.chunks(TENSORS).map(|run| gradient_list(device, run)).collect::<Result<_>>()?;
    let blocks = |config: &LaunchConfig| (config.grid_dim.0 * config.grid_dim.1) as usize;
    let count: usize = runs.iter().map(|(_, config)| blocks(config)).sum();
    // SAFETY: the kernels write each block's sum before they read it, and all values of the scale.
    let (mut partial, mut scale) =
        unsafe { (device.alloc::<f64>(count.max(1))?, device.alloc::<f64>(SCALE)?) };
    let mut start = 0;
    for (list, config) in &runs {
        let end = start + blocks(config);
        let mut partial = partial.slice_mut(start..end);
        let function = device_function::<f32>(device, Source::Optimizer, "squares")?;
        // SAFETY: the list names contiguous tensors of the sizes it says, and partial has a place for each block.
        unsafe { launch!(function, *config, list, &mut partial) }
        start = end;
    }
    let loss_scale = loss_scale.map(kept);
    let loss_scale = match &loss_scale {
        Some(loss_scale) => Some(loss_scale.array()?.view::<f32>()?),
        None => None,
    };
    let function = device_function::<f32>(device, Source::Optimizer, "grad_scale")?;
    let sums = count as u32;
    // SAFETY: partial has `sums` elements, loss_scale one if it is not null, scale as many as the structure.
    unsafe { launch!(function, ONE_BLOCK, &sums, &partial, &largest, &loss_scale, &mut scale) }
    Ok(tensor(stored(scale, device, SCALE)))
}

/// A contiguous tensor times the factor of `scale`, which [`grad_scale`] returned.
pub(crate) fn times_scale(device: &CudaDevice, x: &Tensor, scale: &Tensor) -> Result<Tensor> {
    let (n, from) = (x.elem_count(), address(device, x)?);
    let scale = address_of(device, Some(scale))?;
    // SAFETY: the kernel writes every element.
    let mut y = unsafe { device.alloc::<f32>(n)? };
    let function = device_function::<f32>(device, Source::Optimizer, "times_scale")?;
    // SAFETY: x and the result have n elements, and scale is one.
    unsafe { launch!(function, over_threads(n), &n, &from, &scale, &mut y) }
    Ok(tensor(stored(y, device, x.shape())))
}

/// `scale` with the factor 1.
pub(crate) fn without_factor(device: &CudaDevice, scale: &Tensor) -> Result<Tensor> {
    let from = address_of(device, Some(scale))?;
    // SAFETY: the kernel writes all values.
    let mut left = unsafe { device.alloc::<f64>(SCALE)? };
    let function = device_function::<f32>(device, Source::Optimizer, "without_factor")?;
    let one = LaunchConfig { grid_dim: (1, 1, 1), block_dim: (1, 1, 1), shared_mem_bytes: 0 };
    // SAFETY: both are scales.
    unsafe { launch!(function, one, &from, &mut left) }
    Ok(tensor(stored(left, device, SCALE)))
}

/// Sets `place` to `values` of its shape, unless `scale` says that the gradients must not be used. Both are contiguous.
pub(crate) fn set_if_used(
    device: &CudaDevice,
    place: &Tensor,
    values: &Tensor,
    scale: &Tensor,
) -> Result<()> {
    let (n, from, to) = (place.elem_count(), address(device, values)?, address(device, place)?);
    let scale = address_of(device, Some(scale))?;
    let function = device_function::<f32>(device, Source::Optimizer, "set_if_used")?;
    // SAFETY: both tensors have n elements, and scale is one.
    unsafe { launch!(function, over_threads(n), &n, &from, &scale, &to) }
    Ok(())
}

/// The kernels' form of at most [`TENSORS`] gradients, and the blocks for them.
fn gradient_list(device: &CudaDevice, grads: &[&Tensor]) -> Result<(Gradients, LaunchConfig)> {
    let mut list = Gradients { grad: [0; TENSORS], size: [0; TENSORS] };
    for (i, grad) in grads.iter().enumerate() {
        list.grad[i] = address(device, grad)?;
        list.size[i] = grad.elem_count() as u64;
    }
    let longest = grads.iter().map(|grad| grad.elem_count()).max().unwrap_or(0);
    Ok((list, over_tensors(longest, grads.len())))
}

/// The address of a scale on the device, 0 if there is none.
pub(super) fn address_of(device: &CudaDevice, scale: Option<&Tensor>) -> Result<u64> {
    let Some(scale) = scale else { return Ok(0) };
    let kept = kept(scale);
    let view = kept.array()?.view::<f64>()?;
    Ok(view.device_ptr(&device.cuda_stream()).0)
}
