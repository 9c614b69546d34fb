//! Convolutions through cuDNN.
//!
//! Its classic functions, channels-last, with one plan for every shape: descriptors, an algorithm by
//! cuDNN's own heuristics, and the size of its workspace. Only algorithms that give the same bits
//! every time are taken.

mod descriptors;
mod library;

use std::collections::HashMap;
use std::ffi::{c_int, c_void};
use std::ptr::null_mut;
use std::sync::Arc;

use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::{
    CudaSlice, CudaStream, CudaView, DevicePtr, DevicePtrMut,
};
use candle_core::{CudaDevice, Result};

use self::descriptors::{Descriptors, Math};
use self::library::{Functions, Handle, Performance, SUCCESS};
use super::element::Element;
use crate::conv2d::tf32_allowed;
use crate::cpu::conv_shape::ConvShape;

/// `cudnnDataType_t`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum DataType {
    Float = 0,
    Half = 2,
    BFloat16 = 9,
}

/// What is asked of a convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Direction {
    Forward,
    InputGradient,
    KernelGradient,
}

/// The three arrays of a convolution or their gradients. The one that the direction asks for is
/// written, the others are read.
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
    /// `None` for a shape that cuDNN does not take.
    plans: HashMap<Key, Option<Plan>>,
    /// Shared by all convolutions, which run one after the other.
    workspace: Option<CudaSlice<u8>>,
}

// SAFETY: cuDNN's handles and descriptors may be used from any thread, by one at a time: the owner
// keeps this behind a lock.
unsafe impl Send for Cudnn {}

type Key = (Direction, ConvShape, DataType, Math);

struct Plan {
    descriptors: Descriptors,
    algorithm: c_int,
    workspace: usize,
}

/// Bytes of workspace at most: algorithms that want more are passed over.
const MOST_WORKSPACE: usize = 1 << 30;

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
        // SAFETY: `handle` is a place for one; the stream lives as long as the device, whose state
        // this is part of.
        unsafe {
            functions.check("opening it", (functions.create)(&raw mut handle))?;
            let status = (functions.set_stream)(handle, stream.cu_stream().cast());
            functions.check("setting the stream", status)?;
        }
        let functions = Arc::new(functions);
        Ok(Some(Self { functions, handle, plans: HashMap::new(), workspace: None }))
    }

    /// Writes the operand that `direction` asks for; whether cuDNN takes the shape.
    pub(super) fn convolve<T: Element>(
        &mut self,
        device: &CudaDevice,
        direction: Direction,
        operands: &Operands<'_, T>,
        shape: &ConvShape,
    ) -> Result<bool> {
        let stream = device.cuda_stream();
        stream.context().bind_to_thread().w()?;
        let math = if T::CUDNN == DataType::Float && !tf32_allowed() {
            Math::Plain
        } else {
            Math::TensorCores
        };
        let key = (direction, *shape, T::CUDNN, math);
        if !self.plans.contains_key(&key) {
            let plan = self.plan(key)?;
            self.plans.insert(key, plan);
        }
        let Some(Some(plan)) = self.plans.get(&key) else {
            return Ok(false);
        };
        let workspace = workspace(&mut self.workspace, &stream, plan.workspace)?;
        run(&self.functions, self.handle, plan, direction, operands, workspace, &stream)?;
        Ok(true)
    }

    /// The first of the algorithms that cuDNN recommends which gives the same bits every time and is
    /// content with the workspace.
    fn plan(&self, (direction, shape, data, math): Key) -> Result<Option<Plan>> {
        const WANTED: usize = 8;
        let functions = &self.functions;
        let descriptors = Descriptors::new(functions, &shape, data, math)?;
        let raw = descriptors.raw();
        let (algorithms, sizes, [first, second, result]) = match direction {
            Direction::Forward => (
                functions.forward_algorithms,
                functions.forward_workspace,
                [raw.x, raw.kernel, raw.y],
            ),
            Direction::InputGradient => (
                functions.input_gradient_algorithms,
                functions.input_gradient_workspace,
                [raw.kernel, raw.y, raw.x],
            ),
            Direction::KernelGradient => (
                functions.kernel_gradient_algorithms,
                functions.kernel_gradient_workspace,
                [raw.x, raw.y, raw.kernel],
            ),
        };
        let mut found = 0;
        let mut performances = [Performance::EMPTY; WANTED];
        // SAFETY: the descriptors are those that the direction's function takes, in its order, and
        // there is room for as many answers as are asked for.
        let status = unsafe {
            algorithms(
                self.handle,
                first,
                second,
                raw.convolution,
                result,
                WANTED as c_int,
                &raw mut found,
                performances.as_mut_ptr(),
            )
        };
        if status != SUCCESS {
            return Ok(None);
        }
        let found = performances.into_iter().take(found as usize);
        for performance in found.filter(|found| found.status == SUCCESS && found.determinism == 1) {
            let mut workspace = 0;
            // SAFETY: as above.
            let status = unsafe {
                sizes(
                    self.handle,
                    first,
                    second,
                    raw.convolution,
                    result,
                    performance.algorithm,
                    &raw mut workspace,
                )
            };
            if status == SUCCESS && workspace <= MOST_WORKSPACE {
                let algorithm = performance.algorithm;
                return Ok(Some(Plan { descriptors, algorithm, workspace }));
            }
        }
        Ok(None)
    }
}

/// At least `bytes` of memory.
fn workspace<'a>(
    kept: &'a mut Option<CudaSlice<u8>>,
    stream: &Arc<CudaStream>,
    bytes: usize,
) -> Result<&'a mut CudaSlice<u8>> {
    let bytes = bytes.max(1);
    if kept.as_ref().is_none_or(|kept| kept.len() < bytes) {
        // Freed first, so that both are not there at once.
        *kept = None;
    }
    match kept {
        Some(kept) => Ok(kept),
        // SAFETY: cuDNN does not expect anything of what is in its workspace.
        None => Ok(kept.insert(unsafe { stream.alloc::<u8>(bytes) }.w()?)),
    }
}

fn run<T: Element>(
    functions: &Functions,
    handle: Handle,
    plan: &Plan,
    direction: Direction,
    operands: &Operands<'_, T>,
    workspace: &mut CudaSlice<u8>,
    stream: &CudaStream,
) -> Result<()> {
    let raw = plan.descriptors.raw();
    let (x, _x) = operands.x.device_ptr(stream);
    let (kernel, _kernel) = operands.kernel.device_ptr(stream);
    let (y, _y) = operands.y.device_ptr(stream);
    let (x, kernel, y) = ((raw.x, x), (raw.kernel, kernel), (raw.y, y));
    let (convolve, [first, second, result]) = match direction {
        Direction::Forward => (functions.forward, [x, kernel, y]),
        Direction::InputGradient => (functions.input_gradient, [kernel, y, x]),
        Direction::KernelGradient => (functions.kernel_gradient, [x, y, kernel]),
    };
    let (alpha, beta) = (1f32, 0f32);
    let bytes = workspace.len();
    let (space, _space) = workspace.device_ptr_mut(stream);
    // SAFETY: the arrays have the sizes that the descriptors say, which the caller's shape gave both;
    // the workspace is at least as large as the plan asks.
    let status = unsafe {
        convolve(
            handle,
            (&raw const alpha).cast(),
            first.0,
            first.1 as *const c_void,
            second.0,
            second.1 as *const c_void,
            raw.convolution,
            plan.algorithm,
            space as *mut c_void,
            bytes,
            (&raw const beta).cast(),
            result.0,
            result.1 as *mut c_void,
        )
    };
    functions.check("a convolution", status)
}
