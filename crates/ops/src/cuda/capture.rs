//! Work that is captured once as a CUDA graph and launched again and again. A launch costs the host one call, however
//! much work it holds.

use std::cell::RefCell;
use std::sync::Arc;

use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::{CudaGraph, CudaSlice, CudaStream, DevicePtr, sys};
use candle_core::{Device, Error, Result, bail};

use super::state::{self, locked};

/// Work of a CUDA device that was captured once and can be launched any number of times (a CUDA graph).
///
/// Each launch does the same work on the same memory: the tensors that the work read when it was captured are read
/// again, with what they hold then. Only the numbers of optimizer steps ([`sgd_steps`](crate::sgd_steps),
/// [`adam_steps`](crate::adam_steps)), such as the learning rate, are new in each launch.
///
/// Tensors that the work returned hold the results of the last launch. Drop them before this value, and not before the
/// first launch: until then their memory is not theirs.
pub struct Captured {
    graph: CudaGraph,
    stream: Arc<CudaStream>,
    numbers: Numbers,
}

impl std::fmt::Debug for Captured {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Captured")
            .field("numbers", &self.numbers.values.len())
            .finish_non_exhaustive()
    }
}

// SAFETY: a graph may be used from any thread, by one at a time: launching needs an exclusive borrow.
unsafe impl Send for Captured {}

/// Largest number of numbers of optimizer steps in one graph.
const MOST_NUMBERS: usize = 1 << 16;

/// The numbers of a graph's optimizer steps, on the host and on the device.
struct Numbers {
    values: Vec<f32>,
    on_device: CudaSlice<f32>,
    /// Whether the device has these values.
    are_uploaded: bool,
}

thread_local! {
    static STATE: RefCell<Option<State>> = const { RefCell::new(None) };
}

/// What this thread does beside the usual.
struct State {
    values: Vec<f32>,
    /// The address of the numbers on the device while work is captured. `None` while only the numbers of the next
    /// launch are collected.
    address: Option<u64>,
}

/// The numbers of an optimizer step on this thread: to be launched with it, or to be read from device memory.
pub(super) enum Placed {
    /// Nothing is captured: they go with the launch.
    WithLaunch,
    /// They lie at this address of the device.
    At(u64),
    /// There is nothing to launch.
    OnlyCollected,
}

/// Takes the numbers of one launch of an optimizer.
pub(super) fn place(values: &[f32]) -> Result<Placed> {
    STATE.with_borrow_mut(|state| {
        let Some(state) = state else { return Ok(Placed::WithLaunch) };
        let offset = state.values.len();
        if offset + values.len() > MOST_NUMBERS {
            bail!("a captured step has more than {MOST_NUMBERS} numbers of parameters")
        }
        state.values.extend_from_slice(values);
        let at = |address| Placed::At(address + (offset * size_of::<f32>()) as u64);
        Ok(state.address.map_or(Placed::OnlyCollected, at))
    })
}

/// Whether this thread only collects the numbers of the next launch.
pub(super) fn only_collects() -> bool {
    STATE.with_borrow(|state| state.as_ref().is_some_and(|state| state.address.is_none()))
}

/// Whether this thread captures work, which may not copy from or to the host.
pub(super) fn is_capturing() -> bool {
    STATE.with_borrow(|state| state.as_ref().is_some_and(|state| state.address.is_some()))
}

/// Runs `work` with this thread in another state, and returns the numbers that it placed.
fn with_state<T, E: From<Error>>(
    address: Option<u64>,
    work: impl FnOnce() -> std::result::Result<T, E>,
) -> std::result::Result<(T, Vec<f32>), E> {
    /// Ends the state after a panic, too.
    struct Ends;
    impl Drop for Ends {
        fn drop(&mut self) {
            STATE.set(None);
        }
    }
    if STATE.with_borrow(Option::is_some) {
        return Err(Error::Msg("a capture cannot hold another".to_owned()).into());
    }
    STATE.set(Some(State { values: Vec::new(), address }));
    let ends = Ends;
    let done = work()?;
    let state = STATE.take();
    drop(ends);
    Ok((done, state.map(|state| state.values).unwrap_or_default()))
}

impl Captured {
    /// Captures what `work` asks of `device`. None of it is done yet.
    ///
    /// The work must not wait for the device, copy between host and device, or free tensors that it did not make. Do the
    /// same work at least once before, so that everything is loaded and prepared.
    ///
    /// # Errors
    /// If `device` is not a CUDA device, `work` fails, or it does what cannot be captured. The device is then as before.
    pub fn new<T, E: From<Error>>(
        device: &Device,
        work: impl FnOnce() -> std::result::Result<T, E>,
    ) -> std::result::Result<(T, Self), E> {
        let Device::Cuda(device) = device else {
            let place = device.location();
            return Err(
                Error::Msg(format!("capture: expected a CUDA device, got {place:?}")).into()
            );
        };
        let stream = device.cuda_stream();
        let on_device = device.alloc_zeros::<f32>(MOST_NUMBERS)?;
        let address = on_device.device_ptr(&stream).0;
        // Another thread's upload would become a part of the graph.
        let state = state::of(device)?;
        let uploads = locked(&state.staging);
        stream.begin_capture(sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_RELAXED).w()?;
        let done = with_state(Some(address), work);
        let graph = ended(&stream);
        drop(uploads);
        match (done, graph) {
            (Ok((done, values)), Ok(graph)) => {
                let numbers = Numbers { values, on_device, are_uploaded: false };
                Ok((done, Self { graph, stream, numbers }))
            }
            (Err(error), _) => {
                forget_errors(&stream);
                Err(error)
            }
            (Ok((done, _)), Err(error)) => {
                // Its memory went with the graph, so it must not be freed.
                std::mem::forget(done);
                forget_errors(&stream);
                Err(error.into())
            }
        }
    }

    /// Launches the work with the numbers that it was captured with.
    ///
    /// # Errors
    /// If the device fails.
    pub fn launch(&mut self) -> Result<()> {
        if !self.numbers.are_uploaded {
            self.upload()?;
        }
        self.graph.launch().w()
    }

    /// Launches the work with new numbers: those of the optimizer steps that `steps` takes. Within `steps` they change
    /// nothing and take no time of the device. Their gradients are not looked at.
    ///
    /// # Errors
    /// If `steps` fails or takes other steps than those that were captured, or the device fails.
    pub fn launch_with<E: From<Error>>(
        &mut self,
        steps: impl FnOnce() -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        let ((), values) = with_state(None, steps)?;
        let (found, expected) = (values.len(), self.numbers.values.len());
        if found != expected {
            let wrong =
                format!("a captured step has {expected} numbers of parameters, not {found}");
            return Err(Error::Msg(wrong).into());
        }
        if values != self.numbers.values {
            self.numbers.values = values;
            self.numbers.are_uploaded = false;
        }
        Ok(self.launch()?)
    }

    fn upload(&mut self) -> Result<()> {
        let Numbers { values, on_device, are_uploaded } = &mut self.numbers;
        if !values.is_empty() {
            let mut place = on_device.slice_mut(..values.len());
            self.stream.memcpy_htod(values.as_slice(), &mut place).w()?;
        }
        *are_uploaded = true;
        Ok(())
    }
}

/// Ends the capture and makes its graph ready.
fn ended(stream: &Arc<CudaStream>) -> Result<CudaGraph> {
    let flags = sys::CUgraphInstantiate_flags::CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH;
    let Some(graph) = stream.end_capture(flags).w()? else {
        bail!("capture: the driver made no graph")
    };
    // What only fails in the background, such as freeing memory of others, left its error behind.
    stream.context().check_err().w()?;
    graph.upload().w()?;
    Ok(graph)
}

/// Clears the errors of calls within a capture that failed. The next call would report them as its own.
fn forget_errors(stream: &CudaStream) {
    while stream.context().check_err().is_err() {}
}
