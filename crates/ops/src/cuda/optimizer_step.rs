//! Updates of many parameters by one kernel. Most of them are far too small for their own launch.

mod scale;

use std::ops::Range;

use candle_core::cuda_backend::cudarc::driver::{
    CudaSlice, DevicePtr, DeviceRepr, LaunchArgs, LaunchConfig, PushKernelArg,
};
use candle_core::{CudaDevice, DType, Result, Tensor, bail};

use super::array::{kept, stored, tensor};
use super::capture::{self, Placed};
use super::function::{Argument, Source, device_function, launch};
use crate::optimizer_step::{AdamUpdate, RmsPropUpdate, SgdUpdate};
pub(crate) use scale::{grad_scale, over_norm, set_if_used, times_scale, without_factor};

/// Largest number of tensors of one launch.
const TENSORS: usize = 48;
/// Number of threads of a block, and largest number of blocks of one tensor.
const THREADS: u32 = 256;
const MOST_BLOCKS: usize = 256;

/// The kernels' list of tensors: their addresses, their lengths, and the values that belong to each.
#[repr(C)]
#[derive(Clone, Copy)]
struct Tensors {
    parameter: [u64; TENSORS],
    grad: [u64; TENSORS],
    first: [u64; TENSORS],
    second: [u64; TENSORS],
    third: [u64; TENSORS],
    size: [u64; TENSORS],
    /// The number of inputs and of taps of a kernel whose gradient lies channels-last, or 0.
    inputs: [u32; TENSORS],
    taps: [u32; TENSORS],
    lr: [f32; TENSORS],
    weight_decay: [f32; TENSORS],
    a: [f32; TENSORS],
    b: [f32; TENSORS],
    /// Where the last four lists lie on the device, one after the other. 0 if the launch brings them.
    numbers: u64,
}

// SAFETY: addresses and numbers, laid out as the kernels' structure is.
unsafe impl DeviceRepr for Tensors {}

impl<'a> Argument<'a> for &'a Tensors {
    fn push(self, arguments: &mut LaunchArgs<'a>) {
        arguments.arg(self);
    }
}

impl Tensors {
    const NONE: Self = Self {
        parameter: [0; TENSORS],
        grad: [0; TENSORS],
        first: [0; TENSORS],
        second: [0; TENSORS],
        third: [0; TENSORS],
        size: [0; TENSORS],
        inputs: [0; TENSORS],
        taps: [0; TENSORS],
        lr: [0.0; TENSORS],
        weight_decay: [0.0; TENSORS],
        a: [0.0; TENSORS],
        b: [0.0; TENSORS],
        numbers: 0,
    };

    /// Takes the lists of numbers from device memory if the launch is captured. Returns whether there is a launch.
    fn place_numbers(&mut self) -> Result<bool> {
        let Self { lr, weight_decay, a, b, .. } = self;
        let numbers = [*lr, *weight_decay, *a, *b].concat();
        match capture::place(&numbers)? {
            Placed::WithLaunch => {}
            Placed::At(address) => self.numbers = address,
            Placed::OnlyCollected => return Ok(false),
        }
        Ok(true)
    }
}

/// One tensor of the list.
struct Entry<'a> {
    parameter: &'a Tensor,
    /// The gradient. It is contiguous or lies channels-last.
    grad: &'a Tensor,
    state: [Option<&'a Tensor>; 3],
    lr: f64,
    weight_decay: f64,
    constants: [f64; 2],
}

/// One step of gradient descent. `scale` is what [`grad_scale`] returned. Returns flags (`u32`, one per update) that are set where a new value is
/// not finite.
pub(crate) fn sgd(
    device: &CudaDevice,
    updates: &[SgdUpdate<'_>],
    scale: Option<&Tensor>,
) -> Result<Tensor> {
    let scale = scale::address_of(device, scale)?;
    let mut flags = new_flags(device, updates.len())?;
    let grads = gradients(updates.iter().map(|update| update.grad))?;
    let entries = updates.iter().zip(&grads).map(|(update, grad)| Entry {
        parameter: update.parameter,
        grad,
        state: [update.buffer.map(|buffer| buffer.as_tensor()), None, None],
        lr: update.step.lr,
        weight_decay: update.step.weight_decay,
        constants: [1.0 - update.step.dampening, 0.0],
    });
    let entries: Vec<Entry<'_>> = entries.collect();
    // The settings that all tensors of a launch share.
    let shared = |update: &SgdUpdate<'_>| {
        let step = update.step;
        (step.momentum.to_bits(), step.nesterov, step.grad_scale.to_bits())
    };
    for run in runs(updates, shared) {
        let (entries, updates) = (&entries[run.clone()], &updates[run.clone()]);
        let step = updates[0].step;
        let (momentum, grad_scale) = (step.momentum as f32, step.grad_scale as f32);
        let nesterov = i32::from(step.nesterov);
        let (mut tensors, config) = list(device, entries)?;
        if !tensors.place_numbers()? {
            continue;
        }
        let mut flags = flags.slice_mut(run);
        let function = device_function::<f32>(device, Source::Optimizer, "sgd")?;
        // SAFETY: the list names tensors of the sizes it says, which the op has checked, and `grads`
        // keeps its copies until the launch is queued; memory is freed behind it on the same stream.
        unsafe {
            launch!(
                function,
                config,
                &tensors,
                &momentum,
                &nesterov,
                &grad_scale,
                &scale,
                &mut flags
            )
        }
    }
    let count = flags.len();
    Ok(tensor(stored(flags, device, count)))
}

/// One step of Adam or AdamW. `scale` is what [`grad_scale`] returned. Returns flags (`u32`, one per update) that are set where a new value is not
/// finite.
pub(crate) fn adam(
    device: &CudaDevice,
    updates: &[AdamUpdate<'_>],
    scale: Option<&Tensor>,
) -> Result<Tensor> {
    let scale = scale::address_of(device, scale)?;
    let mut flags = new_flags(device, updates.len())?;
    let grads = gradients(updates.iter().map(|update| update.grad))?;
    let entries = updates.iter().zip(&grads).map(|(update, grad)| Entry {
        parameter: update.parameter,
        grad,
        state: [
            Some(update.first_moment.as_tensor()),
            Some(update.second_moment.as_tensor()),
            None,
        ],
        lr: update.step.lr,
        weight_decay: update.step.weight_decay,
        constants: [update.step.step_size(), 1.0 / update.step.second_moment_correction()],
    });
    let entries: Vec<Entry<'_>> = entries.collect();
    let shared = |update: &AdamUpdate<'_>| {
        let step = update.step;
        let numbers = [step.beta1, step.beta2, step.eps, step.grad_scale].map(f64::to_bits);
        (numbers, step.decoupled_weight_decay)
    };
    for run in runs(updates, shared) {
        let (entries, updates) = (&entries[run.clone()], &updates[run.clone()]);
        let step = updates[0].step;
        let (beta1, beta2) = (step.beta1, step.beta2);
        let (eps, grad_scale) = (step.eps as f32, step.grad_scale as f32);
        let decoupled = i32::from(step.decoupled_weight_decay);
        let (mut tensors, config) = list(device, entries)?;
        if !tensors.place_numbers()? {
            continue;
        }
        let mut flags = flags.slice_mut(run);
        let function = device_function::<f32>(device, Source::Optimizer, "adam")?;
        // SAFETY: as in `sgd`.
        unsafe {
            launch!(
                function,
                config,
                &tensors,
                &beta1,
                &beta2,
                &eps,
                &decoupled,
                &grad_scale,
                &scale,
                &mut flags
            )
        }
    }
    let count = flags.len();
    Ok(tensor(stored(flags, device, count)))
}

/// One step of RMSprop. `scale` is what [`grad_scale`] returned. Returns flags (`u32`, one per update) that are set where a
/// new value is not finite.
pub(crate) fn rms_prop(
    device: &CudaDevice,
    updates: &[RmsPropUpdate<'_>],
    scale: Option<&Tensor>,
) -> Result<Tensor> {
    let scale = scale::address_of(device, scale)?;
    let mut flags = new_flags(device, updates.len())?;
    let grads = gradients(updates.iter().map(|update| update.grad))?;
    let entries = updates.iter().zip(&grads).map(|(update, grad)| Entry {
        parameter: update.parameter,
        grad,
        state: [Some(update.square_avg), update.grad_avg, update.buffer]
            .map(|state| state.map(|state| state.as_tensor())),
        lr: update.step.lr,
        weight_decay: update.step.weight_decay,
        constants: [0.0, 0.0],
    });
    let entries: Vec<Entry<'_>> = entries.collect();
    let shared = |update: &RmsPropUpdate<'_>| {
        let step = update.step;
        [step.alpha, step.eps, step.momentum, step.grad_scale].map(f64::to_bits)
    };
    for run in runs(updates, shared) {
        let (entries, updates) = (&entries[run.clone()], &updates[run.clone()]);
        let step = updates[0].step;
        let (eps, momentum) = (step.eps as f32, step.momentum as f32);
        let grad_scale = step.grad_scale as f32;
        let (mut tensors, config) = list(device, entries)?;
        if !tensors.place_numbers()? {
            continue;
        }
        let mut flags = flags.slice_mut(run);
        let function = device_function::<f32>(device, Source::Optimizer, "rms_prop")?;
        // SAFETY: as in `sgd`.
        unsafe {
            launch!(
                function,
                config,
                &tensors,
                &step.alpha,
                &eps,
                &momentum,
                &grad_scale,
                &scale,
                &mut flags
            )
        }
    }
    let count = flags.len();
    Ok(tensor(stored(flags, device, count)))
}

/// Adds each gradient to the sum before it, times the number `kept`; with 0 it takes the sum's place.
pub(crate) fn accumulate(
    device: &CudaDevice,
    sums: &[(&Tensor, &Tensor)],
    kept_of_sums: &Tensor,
) -> Result<()> {
    let grads = gradients(sums.iter().map(|(_, grad)| *grad))?;
    let entries = sums.iter().zip(&grads).map(|((sum, _), grad)| Entry {
        parameter: sum,
        grad,
        state: [None; 3],
        lr: 0.0,
        weight_decay: 0.0,
        constants: [0.0; 2],
    });
    let entries: Vec<Entry<'_>> = entries.collect();
    let number = kept(kept_of_sums);
    let number = number.array()?.view::<f32>()?;
    for entries in entries.chunks(TENSORS) {
        let (tensors, config) = list(device, entries)?;
        let function = device_function::<f32>(device, Source::Optimizer, "accumulate")?;
        // SAFETY: as in `sgd`; the number is one.
        unsafe { launch!(function, config, &tensors, &number) }
    }
    Ok(())
}

/// The gradients as the kernels read them.
fn gradients<'a>(grads: impl Iterator<Item = &'a Tensor>) -> Result<Vec<Tensor>> {
    // Without a launch nobody reads them.
    let is_read = !capture::only_collects();
    let readable = |grad: &Tensor| -> Result<Tensor> {
        if !is_read || lies_channels_last(grad)? { Ok(grad.clone()) } else { grad.contiguous() }
    };
    grads.map(readable).collect()
}

/// Whether the gradient of a kernel lies in memory as convolutions write it. The kernels count its elements in 32 bits.
fn lies_channels_last(grad: &Tensor) -> Result<bool> {
    if grad.dtype() != DType::F32 || u32::try_from(grad.elem_count()).is_err() {
        return Ok(false);
    }
    Ok(kept(grad).array()?.channels_last_view::<f32>()?.is_some())
}

/// One flag for each update, 0 to begin with.
fn new_flags(device: &CudaDevice, updates: usize) -> Result<CudaSlice<u32>> {
    let is_written = !capture::only_collects();
    device.alloc_zeros::<u32>(if is_written { updates } else { 0 })
}

/// Splits the updates where a list is full or the shared settings change.
fn runs<'a, U, K: PartialEq>(
    updates: &'a [U],
    shared: impl Fn(&U) -> K + 'a,
) -> impl Iterator<Item = Range<usize>> {
    let mut start = 0;
    std::iter::from_fn(move || {
        let key = shared(updates.get(start)?);
        let same = updates[start..].iter().take(TENSORS).take_while(|update| shared(update) == key);
        let run = start..start + same.count();
        start = run.end;
        Some(run)
    })
}

/// The kernels' form of at most [`TENSORS`] entries, and the blocks for them.
fn list(device: &CudaDevice, entries: &[Entry<'_>]) -> Result<(Tensors, LaunchConfig)> {
    let mut tensors = Tensors::NONE;
    let mut longest = 0;
    let has_launch = !capture::only_collects();
    for (i, entry) in entries.iter().enumerate() {
        tensors.lr[i] = entry.lr as f32;
        tensors.weight_decay[i] = entry.weight_decay as f32;
        [tensors.a[i], tensors.b[i]] = entry.constants.map(|constant| constant as f32);
        if !has_launch {
            continue;
        }
        tensors.parameter[i] = address(device, entry.parameter)?;
        tensors.grad[i] = address(device, entry.grad)?;
        if !entry.grad.is_contiguous() {
            let (_, inputs, height, width) = entry.grad.dims4()?;
            (tensors.inputs[i], tensors.taps[i]) = (inputs as u32, (height * width) as u32);
        }
        let [first, second, third] =
            entry.state.map(|state| state.map_or(Ok(0), |state| address(device, state)));
        (tensors.first[i], tensors.second[i], tensors.third[i]) = (first?, second?, third?);
        tensors.size[i] = entry.parameter.elem_count() as u64;
        longest = longest.max(entry.parameter.elem_count());
    }
    Ok((tensors, over_tensors(longest, entries.len())))
}

/// Blocks for `count` tensors, the longest of which has `longest` elements.
fn over_tensors(longest: usize, count: usize) -> LaunchConfig {
    let blocks = longest.div_ceil(4 * THREADS as usize).clamp(1, MOST_BLOCKS);
    LaunchConfig {
        grid_dim: (blocks as u32, count as u32, 1),
        block_dim: (THREADS, 1, 1),
        shared_mem_bytes: 0,
    }
}

/// The address of the elements of a tensor that is contiguous or lies channels-last.
fn address(device: &CudaDevice, tensor: &Tensor) -> Result<u64> {
    if tensor.dtype() != DType::F32 {
        bail!("optimizer: on a CUDA device parameters are f32, got {:?}", tensor.dtype())
    }
    let kept = kept(tensor);
    let array = kept.array()?;
    let view = match array.channels_last_view::<f32>()? {
        Some(view) => view,
        None => array.view::<f32>()?,
    };
    Ok(view.device_ptr(&device.cuda_stream()).0)
}
