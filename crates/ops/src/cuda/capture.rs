//! Work that is captured once as a CUDA graph and launched again and again. A launch costs the host one call, however
//! much work it holds.

use std::any::Any;
use std::cell::RefCell;
use std::mem::ManuallyDrop;
use std::sync::Arc;

use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::{CudaGraph, CudaSlice, CudaStream, DevicePtr, sys};
use candle_core::{Device, Error, Result, bail};

use super::memory;
use super::state::{self, locked};
use crate::Generator;

/// Work of a CUDA device that was captured once and can be launched any number of times (a CUDA graph).
///
/// Each launch does the same work on the same memory: the tensors that the work read when it was captured are read
/// again, with what they hold then. New in each launch are only:
///
/// - the numbers of optimizer steps ([`sgd_steps`](crate::sgd_steps), [`adam_steps`](crate::adam_steps)), such as the
///   learning rate ([`Captured::launch_with`]),
/// - the random numbers of [`dropout`](crate::dropout) and [`drop_rows`](crate::drop_rows) ([`Captured::draw_from`]).
///
/// The sums of [`CardRanks`](crate::CardRanks) may be a part of it. Then all ranks capture and launch the same work, also in
/// the same order with other work that sums.
///
/// Tensors that the work returned hold the results of the last launch. Drop them before this value.
pub struct Captured {
    graph: CudaGraph,
    stream: Arc<CudaStream>,
    numbers: Numbers,
    drawn: Option<Drawn>,
    /// Device memory that the graph uses and that its owners may replace.
    _held: Held,
}

type Held = Vec<Arc<dyn Any + Send + Sync>>;

impl std::fmt::Debug for Captured {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Captured")
            .field("numbers", &self.numbers.values.len())
            .finish_non_exhaustive()
    }
}

// SAFETY: a graph may be used from any thread, by one at a time: launching needs an exclusive borrow.
unsafe impl Send for Captured {}

/// Largest number of numbers of one graph.
const MOST_NUMBERS: usize = 1 << 16;

/// What is new in each launch, on the host and on the device: the two halves of the generator's stream, then the bits of
/// the numbers of optimizer steps.
struct Numbers {
    values: Vec<u32>,
    on_device: CudaSlice<u32>,
    /// Whether the device has these values.
    are_uploaded: bool,
}

/// Number of values that hold the generator's stream.
const STREAM: usize = 2;

/// What captured work draws from a generator.
#[derive(Clone, Copy)]
struct Drawn {
    seed: [u8; 32],
    stream: u64,
    /// Number of 32-bit words.
    words: u64,
}

impl Drawn {
    fn halves(&self) -> [u32; STREAM] {
        [self.stream as u32, (self.stream >> 32) as u32]
    }
}

thread_local! {
    static STATE: RefCell<Option<State>> = const { RefCell::new(None) };
}

/// What this thread does beside the usual.
struct State {
    values: Vec<u32>,
    drawn: Option<Drawn>,
    /// The address of the numbers on the device while work is captured. `None` while only the numbers of the next
    /// launch are collected.
    address: Option<u64>,
    held: Held,
}

impl State {
    fn new(address: Option<u64>) -> Self {
        Self { values: vec![0; STREAM], drawn: None, address, held: Vec::new() }
    }
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
        state.values.extend(values.iter().map(|value| value.to_bits()));
        let at = |address| Placed::At(address + (offset * size_of::<u32>()) as u64);
        Ok(state.address.map_or(Placed::OnlyCollected, at))
    })
}

/// Notes that captured work draws `words` words from `generator`. Returns the address of the number of its stream, which
/// each launch sets anew. `None` if nothing is captured.
pub(super) fn note_draws(generator: &Generator, words: u64) -> Result<Option<u64>> {
    STATE.with_borrow_mut(|state| {
        let Some(State { drawn, address: Some(address), .. }) = state else { return Ok(None) };
        let (seed, stream) = (generator.get_seed(), generator.get_stream());
        let drawn = drawn.get_or_insert(Drawn { seed, stream, words: 0 });
        if (drawn.seed, drawn.stream) != (seed, stream) {
            bail!("capture: the work draws random numbers from several generators")
        }
        drawn.words += words;
        Ok(Some(*address))
    })
}

/// Whether this thread only collects the numbers of the next launch.
pub(crate) fn only_collects() -> bool {
    STATE.with_borrow(|state| state.as_ref().is_some_and(|state| state.address.is_none()))
}

/// Whether this thread captures work, which may not copy from or to the host.
pub(crate) fn is_capturing() -> bool {
    STATE.with_borrow(|state| state.as_ref().is_some_and(|state| state.address.is_some()))
}

/// Notes that the work which this thread does uses `memory`. If it is captured, the graph keeps it for the next launches.
pub(super) fn hold<T: Any + Send + Sync>(memory: &Arc<T>) {
    STATE.with_borrow_mut(|state| {
        let Some(State { held, address: Some(_), .. }) = state else { return };
        let is_it = |other: &Arc<dyn Any + Send + Sync>| {
            std::ptr::addr_eq(Arc::as_ptr(other), Arc::as_ptr(memory))
        };
        if !held.iter().any(is_it) {
            held.push(memory.clone());
        }
    });
}

/// Runs `work` with this thread in another state, and returns that state after it.
fn with_state<T, E: From<Error>>(
    address: Option<u64>,
    work: impl FnOnce() -> std::result::Result<T, E>,
) -> std::result::Result<(T, State), E> {
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
    STATE.set(Some(State::new(address)));
    let ends = Ends;
    let done = work()?;
    let state = STATE.take();
    drop(ends);
    Ok((done, state.unwrap_or(State::new(address))))
}

impl Captured {
    /// Captures what `work` asks of `device`, and launches it for the first time.
    ///
    /// The work must not wait for the device, copy between host and device, or free tensors that it did not make. Do the
    /// same work at least once before, so that everything is loaded and prepared. The memory that this has freed goes back to
    /// the card, unless there is a limit: a graph has memory of its own.
    ///
    /// # Errors
    /// If `device` is not a CUDA device, `work` fails, it does what cannot be captured, or its memory does not fit into the
    /// limit ([`limit_card_memory`](crate::limit_card_memory)). The device is then as before.
    pub fn new<T, E: From<Error>>(
        device: &Device,
        work: impl FnOnce() -> std::result::Result<T, E>,
    ) -> std::result::Result<(T, Self), E> {
        Ok(Self::prepare(device, work)?.launch()?)
    }

    /// Captures as [`Captured::new`] and launches nothing yet. Several processes that sum on their cards capture first, and
    /// launch when all of them could.
    ///
    /// # Errors
    /// As [`Captured::new`].
    pub fn prepare<T, E: From<Error>>(
        device: &Device,
        work: impl FnOnce() -> std::result::Result<T, E>,
    ) -> std::result::Result<PreparedWork<T>, E> {
        let Device::Cuda(device) = device else {
            let place = device.location();
            return Err(
                Error::Msg(format!("capture: expected a CUDA device, got {place:?}")).into()
            );
        };
        let stream = device.cuda_stream();
        memory::give_back_freed(&stream)?;
        let on_device = device.alloc_zeros::<u32>(MOST_NUMBERS)?;
        let address = on_device.device_ptr(&stream).0;
        // Another thread's upload would become a part of the graph.
        let state = state::of(device)?;
        let uploads = locked(&state.staging);
        stream.begin_capture(sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_RELAXED).w()?;
        let guard = EndsCapture(&stream);
        let done = with_state(Some(address), work);
        std::mem::forget(guard);
        let graph = ended(&stream);
        drop(uploads);
        match (done, graph) {
            (Ok((done, state)), Ok(graph)) => {
                let State { mut values, drawn, held, .. } = state;
                let halves = drawn.map(|drawn| drawn.halves()).unwrap_or_default();
                values[..STREAM].copy_from_slice(&halves);
                let numbers = Numbers { values, on_device, are_uploaded: false };
                let work = Self { graph, stream, numbers, drawn, _held: held };
                Ok(PreparedWork { results: ManuallyDrop::new(done), work })
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

    /// Number of 32-bit words that the work which this thread captures has drawn on the device so far. A layer that draws
    /// on the host would draw the same numbers in each launch. So compare this with how far the generator has come.
    pub fn drawn_words() -> u64 {
        let words = |state: &State| state.drawn.map_or(0, |drawn| drawn.words);
        STATE.with_borrow(|state| state.as_ref().map_or(0, words))
    }

    /// Lets the following launches draw their random numbers from the stream of `generator`, at the positions where the
    /// captured work drew them. Work without random numbers takes no notice.
    ///
    /// # Errors
    /// If `generator` has another seed than the one that was captured.
    pub fn draw_from(&mut self, generator: &Generator) -> Result<()> {
        let Some(drawn) = &mut self.drawn else { return Ok(()) };
        if generator.get_seed() != drawn.seed {
            bail!("capture: the work drew random numbers from a generator of another seed")
        }
        drawn.stream = generator.get_stream();
        let halves = drawn.halves();
        self.set_values(0, &halves);
        Ok(())
    }

    /// Launches the work with the numbers that it was captured with, or those of the last [`Captured::launch_with`].
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
        let ((), State { values, .. }) = with_state(None, steps)?;
        let [found, expected] = [&values, &self.numbers.values].map(|values| values.len() - STREAM);
        if found != expected {
            let wrong =
                format!("a captured step has {expected} numbers of parameters, not {found}");
            return Err(Error::Msg(wrong).into());
        }
        self.set_values(STREAM, &values[STREAM..]);
        Ok(self.launch()?)
    }

    fn set_values(&mut self, from: usize, new: &[u32]) {
        let values = &mut self.numbers.values[from..from + new.len()];
        if values != new {
            values.copy_from_slice(new);
            self.numbers.are_uploaded = false;
        }
    }

    fn upload(&mut self) -> Result<()> {
        let Numbers { values, on_device, are_uploaded } = &mut self.numbers;
        let mut place = on_device.slice_mut(..values.len());
        self.stream.memcpy_htod(values.as_slice(), &mut place).w()?;
        *are_uploaded = true;
        Ok(())
    }
}

/// Work that was captured and not launched yet.
#[derive(Debug)]
#[must_use = "nothing is done before it is launched"]
pub struct PreparedWork<T> {
    /// The device gives it memory with the first launch, so it cannot be freed before.
    results: ManuallyDrop<T>,
    work: Captured,
}

impl<T> PreparedWork<T> {
    /// Launches the work for the first time. Gives what it returned, and what launches it again.
    ///
    /// # Errors
    /// If the device fails.
    pub fn launch(self) -> Result<(T, Captured)> {
        let Self { results, mut work } = self;
        work.launch()?;
        Ok((ManuallyDrop::into_inner(results), work))
    }
}

/// Ends the capture when the work panics. Nothing could use the stream otherwise.
struct EndsCapture<'a>(&'a Arc<CudaStream>);

impl Drop for EndsCapture<'_> {
    fn drop(&mut self) {
        // Its error would hide the panic.
        drop(ended(self.0));
        forget_errors(self.0);
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
    memory::within_limit(stream, graph)
}

/// Clears the errors of calls within a capture that failed. The next call would report them as its own.
fn forget_errors(stream: &CudaStream) {
    while stream.context().check_err().is_err() {}
}
