//! Convolutions through cuDNN.
//!
//! This module uses cuDNN's classic functions, channels-last, with one plan for every shape. A plan has
//! descriptors, an algorithm and the size of its workspace. The algorithm is chosen by cuDNN's heuristics
//! or by its time. Only algorithms that give the same bits every time are used.

mod arithmetic;
mod batches;
mod descriptors;
mod ends;
mod library;
mod plan;
#[cfg(test)]
mod tests;
mod timing;

use std::ffi::c_void;
use std::ptr::null_mut;
use std::sync::Arc;

use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::{CudaSlice, CudaStream, CudaView, DevicePtr};
use candle_core::{CudaDevice, Result, bail};

use self::arithmetic::Arithmetic;
pub(super) use self::ends::Ends;
use self::library::{Functions, Handle, SUCCESS};
use self::plan::{EndsPlan, Key, Plan, Routine};
use super::bounded::Bounded;
use super::capture;
use super::element::Element;
use super::size::MOST_ELEMENTS;
use crate::conv2d::OnCuda;
use candle_vision_kernels::conv_shape::ConvShape;

/// `cudnnDataType_t`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum DataType {
    Float = 0,
    Half = 2,
    BFloat16 = 9,
}

/// The result that is asked of a convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Direction {
    Forward,
    InputGradient,
    KernelGradient,
}

impl Direction {
    /// Takes values for `x`, the kernel and `y`, and returns them in the order of this direction's
    /// functions: two operands, then the result.
    fn in_order<T>(self, [x, kernel, y]: [T; 3]) -> [T; 3] {
        match self {
            Self::Forward => [x, kernel, y],
            Self::InputGradient => [kernel, y, x],
            Self::KernelGradient => [x, y, kernel],
        }
    }
}

/// The three arrays of a convolution or their gradients. The one that the direction asks for is written.
/// The others are read.
pub(super) struct Operands<'a, T> {
    pub(super) x: CudaView<'a, T>,
    /// `[out, height, width, in / groups]`.
    pub(super) kernel: CudaView<'a, T>,
    pub(super) y: CudaView<'a, T>,
}

/// cuDNN for one device.
pub(super) struct Cudnn {
    functions: Arc<Functions>,
    handle: Handle,
    /// The stream of the handle.
    stream: Arc<CudaStream>,
    /// The plans. `None` for a shape that cuDNN does not support.
    plans: Bounded<Key, Option<Plan>>,
    /// Shared by all convolutions, because they run one after the other.
    workspace: Option<Arc<CudaSlice<u8>>>,
    /// Largest number of elements of an array.
    most_elements: usize,
}

// SAFETY: cuDNN's handles and descriptors may be used from any thread, by one at a time: the owner
// keeps this behind a lock.
unsafe impl Send for Cudnn {}

/// Largest number of plans. A large network has a few hundred, and three times as many with both gradients.
const MOST_PLANS: usize = 2048;

impl Cudnn {
    /// `None` if the library is not installed, or `CANDLE_VISION_CUDNN=off`.
    pub(super) fn open(device: &CudaDevice) -> Result<Option<Self>> {
        if std::env::var_os("CANDLE_VISION_CUDNN").is_some_and(|value| value == "off") {
            return Ok(None);
        }
        let Some(functions) = Functions::open()? else {
            return Ok(None);
        };
        let stream = device.cuda_stream();
        stream.context().bind_to_thread().w()?;
        let mut handle = null_mut();
        // SAFETY: `handle` is a place for one, and what is made here keeps the stream.
        unsafe {
            functions.check("opening it", (functions.create)(&raw mut handle))?;
            let status = (functions.set_stream)(handle, stream.cu_stream().cast());
            functions.check("setting the stream", status)?;
        }
        Ok(Some(Self {
            functions: Arc::new(functions),
            handle,
            stream,
            plans: Bounded::new(MOST_PLANS),
            workspace: None,
            most_elements: MOST_ELEMENTS,
        }))
    }

    /// Writes the operand that `direction` asks for. Returns whether cuDNN supports the shape. A batch that
    /// is too large for cuDNN is computed in parts.
    ///
    /// # Errors
    /// If a single image is too large, memory runs out, or cuDNN fails.
    pub(super) fn convolve<T: Element>(
        &mut self,
        direction: Direction,
        operands: &Operands<'_, T>,
        shape: &ConvShape,
        options: OnCuda,
    ) -> Result<bool> {
        self.stream.context().bind_to_thread().w()?;
        for part in batches::parts(shape, self.most_elements)? {
            let operands = part.operands(operands);
            // The kernel's gradient is a sum over all images. The first part writes it, and the others add
            // to it.
            let add = direction == Direction::KernelGradient && part.first_image > 0;
            if !self.convolve_part(direction, &operands, &part.shape, options, add)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn convolve_part<T: Element>(
        &mut self,
        direction: Direction,
        operands: &Operands<'_, T>,
        shape: &ConvShape,
        options: OnCuda,
        add: bool,
    ) -> Result<bool> {
        let arithmetic = Arithmetic::of(T::CUDNN, options.tf32);
        let timed = options.benchmark;
        let mut key = Key { direction, shape: *shape, data: T::CUDNN, arithmetic, timed };
        // Timing runs an algorithm several times, which would add to the result several times.
        if add && !self.plans.contains(&key) {
            key.timed = false;
        }
        self.know(key, operands)?;
        let Some(Some(plan)) = self.plans.get(&key) else {
            return Ok(false);
        };
        let workspace = workspace(&mut self.workspace, &self.stream, plan.choice.workspace)?;
        let run = Run { functions: &self.functions, handle: self.handle, stream: &self.stream };
        run.convolve(plan, direction, operands, workspace, add)?;
        Ok(true)
    }

    /// Makes the plan for `key`, unless it is there.
    fn know<T: Element>(&mut self, key: Key, operands: &Operands<'_, T>) -> Result<()> {
        if !self.plans.contains(&key) {
            let plan = self.plan(&key, operands)?;
            self.plans.insert(key, plan, 1);
        }
        Ok(())
    }

    /// Writes `y` with what comes behind the convolution, in one operation. Returns whether cuDNN has one.
    ///
    /// # Errors
    /// If memory runs out or cuDNN fails.
    pub(super) fn convolve_finished<T: Element>(
        &mut self,
        operands: &Operands<'_, T>,
        ends: &Ends<'_, T>,
        shape: &ConvShape,
        options: OnCuda,
    ) -> Result<bool> {
        // A batch that cuDNN takes in parts is so large that one more pass over memory does not matter.
        if shape.input_len().max(shape.output_len()) > self.most_elements {
            return Ok(false);
        }
        self.stream.context().bind_to_thread().w()?;
        let direction = Direction::Forward;
        let arithmetic = Arithmetic::of(T::CUDNN, options.tf32);
        let timed = options.benchmark;
        let key = Key { direction, shape: *shape, data: T::CUDNN, arithmetic, timed };
        self.know(key, operands)?;
        let Some(Some(plan)) = self.plans.get(&key) else { return Ok(false) };
        let workspace = workspace(&mut self.workspace, &self.stream, plan.choice.workspace)?;
        let run = Run { functions: &self.functions, handle: self.handle, stream: &self.stream };
        let is_first = plan.ends.is_none();
        if is_first {
            let made = ends::EndsDescriptors::new(&self.functions, shape, T::CUDNN)?;
            plan.ends = Some(EndsPlan::Fused(made));
        }
        let Some(EndsPlan::Fused(descriptors)) = &plan.ends else { return Ok(false) };
        if !descriptors.can_end(plan.choice.algorithm, ends) {
            return Ok(false);
        }
        let status = run.convolve_finished(plan, descriptors, operands, ends, workspace);
        if status != SUCCESS && is_first {
            plan.ends = Some(EndsPlan::Unsupported);
            return Ok(false);
        }
        self.functions.check("a convolution with its activation", status)?;
        Ok(true)
    }

    fn plan<T: Element>(&mut self, key: &Key, operands: &Operands<'_, T>) -> Result<Option<Plan>> {
        let Some((mut plan, choices)) = plan::plan(&self.functions, self.handle, key)? else {
            return Ok(None);
        };
        if key.timed && choices.len() > 1 {
            let run = Run { functions: &self.functions, handle: self.handle, stream: &self.stream };
            let fastest = timing::fastest(&choices, |choice| {
                plan.choose(&self.functions, choice)?;
                let workspace = workspace(&mut self.workspace, &self.stream, choice.workspace)?;
                timing::milliseconds(&self.stream, || {
                    run.convolve(&plan, key.direction, operands, workspace, false)
                })
            });
            plan.choose(&self.functions, fastest)?;
        }
        Ok(Some(plan))
    }
}

impl Drop for Cudnn {
    fn drop(&mut self) {
        // If the driver has gone, it has taken the handle with it.
        if self.stream.context().bind_to_thread().is_ok() {
            // SAFETY: made by the matching function, destroyed once; no other call is under way.
            unsafe { (self.functions.destroy)(self.handle) };
        }
    }
}

/// A workspace of at least `bytes` bytes. A graph keeps the one that it was captured with when another replaces it here.
fn workspace<'a>(
    kept: &'a mut Option<Arc<CudaSlice<u8>>>,
    stream: &Arc<CudaStream>,
    bytes: usize,
) -> Result<&'a CudaSlice<u8>> {
    let bytes = bytes.max(1);
    if kept.as_ref().is_none_or(|kept| kept.len() < bytes) {
        if capture::is_capturing() {
            // It would be the graph's memory, which ends with it.
            bail!("capture: a convolution needs a larger workspace than those before it")
        }
        // Freed first, so that both do not exist at once.
        *kept = None;
    }
    let kept = match kept {
        Some(kept) => kept,
        // SAFETY: cuDNN does not expect anything of what is in its workspace.
        None => kept.insert(Arc::new(unsafe { stream.alloc::<u8>(bytes) }.w()?)),
    };
    capture::hold(kept);
    Ok(kept)
}

/// Everything that running a plan needs.
struct Run<'a> {
    functions: &'a Functions,
    handle: Handle,
    stream: &'a CudaStream,
}

impl Run<'_> {
    /// Writes the result, or adds to it.
    fn convolve<T: Element>(
        &self,
        plan: &Plan,
        direction: Direction,
        operands: &Operands<'_, T>,
        workspace: &CudaSlice<u8>,
        add: bool,
    ) -> Result<()> {
        let (x, _x) = operands.x.device_ptr(self.stream);
        let (kernel, _kernel) = operands.kernel.device_ptr(self.stream);
        let (y, _y) = operands.y.device_ptr(self.stream);
        let raw = plan.descriptors.raw();
        let blocks = [(raw.x, x), (raw.kernel, kernel), (raw.y, y)];
        let [first, second, result] = direction.in_order(blocks);
        let (alpha, beta) = (1f32, if add { 1f32 } else { 0f32 });
        let bytes = workspace.len();
        // Whatever uses it runs on this stream, one after the other.
        let (space, _space) = workspace.device_ptr(self.stream);
        let routine = Routine::of(self.functions, direction);
        // SAFETY: the arrays have the sizes that the descriptors say, which the caller's shape gave
        // both; the workspace is at least as large as the plan asks.
        let status = unsafe {
            (routine.convolve)(
                self.handle,
                (&raw const alpha).cast(),
                first.0,
                first.1 as *const c_void,
                second.0,
                second.1 as *const c_void,
                raw.convolution,
                plan.choice.algorithm,
                space as *mut c_void,
                bytes,
                (&raw const beta).cast(),
                result.0,
                result.1 as *mut c_void,
            )
        };
        self.functions.check("a convolution", status)
    }
}
