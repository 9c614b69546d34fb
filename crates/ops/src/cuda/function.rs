//! Our own kernels: looking them up, and their numbers of threads.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use candle_core::Result;
use candle_core::cuda_backend::cudarc::driver::{
    CudaFunction, CudaStream, CudaView, LaunchArgs, LaunchConfig, PushKernelArg,
};
use candle_core::cuda_backend::{CudaDevice, WrapErr};

use super::element::Element;
pub(super) use super::modules::Source;
use super::state::{self, locked};

/// One of our kernels on the device, and the stream that it will run on.
pub(super) struct DeviceFunction {
    function: CudaFunction,
    stream: Arc<CudaStream>,
}

impl DeviceFunction {
    /// Arguments for one launch.
    pub(super) fn builder(&self) -> LaunchArgs<'_> {
        self.stream.launch_builder(&self.function)
    }
}

/// The kernel `name` of `source` for elements of type `T`.
pub(super) fn device_function<T: Element>(
    device: &CudaDevice,
    source: Source,
    name: impl Into<Cow<'static, str>>,
) -> Result<DeviceFunction> {
    let stream = device.cuda_stream();
    let function =
        state::of(device)?.functions.get((name.into(), T::SUFFIX), |(name, suffix)| {
            // Looking up a kernel needs a context, and this may be the thread's first call.
            stream.context().bind_to_thread().w()?;
            let module = state::of(device)?.modules.get(&stream, source)?;
            module.load_function(&format!("cv_{name}_{suffix}")).w()
        })?;
    Ok(DeviceFunction { function, stream })
}

/// The kernels that were looked up on one device, by name and suffix. Asking the driver takes longer than everything else
/// that is done before a launch.
#[derive(Default)]
pub(super) struct Functions(Mutex<HashMap<Name, CudaFunction>>);

type Name = (Cow<'static, str>, &'static str);

impl Functions {
    fn get(
        &self,
        name: Name,
        look_up: impl FnOnce(&Name) -> Result<CudaFunction>,
    ) -> Result<CudaFunction> {
        if let Some(known) = locked(&self.0).get(&name) {
            return Ok(known.clone());
        }
        let found = look_up(&name)?;
        Ok(locked(&self.0).entry(name).or_insert(found).clone())
    }
}

/// Number of threads of a block if every element is processed by itself.
const THREADS: u32 = 256;
/// Largest number of blocks, enough to fill any card. With more elements, the kernels go on from there and
/// keep the values that they have computed for their channels.
const MOST_BLOCKS: usize = 1024;

/// One thread per pack of 16 bytes of `n` elements.
pub(super) fn over_packs<T: Element>(n: usize) -> LaunchConfig {
    over_threads(n.div_ceil(pack::<T>()))
}

/// One thread per item of `n` items, up to a limit.
pub(super) fn over_threads(n: usize) -> LaunchConfig {
    let blocks = n.div_ceil(THREADS as usize).clamp(1, MOST_BLOCKS);
    LaunchConfig {
        grid_dim: (blocks as u32, 1, 1),
        block_dim: (THREADS, 1, 1),
        shared_mem_bytes: 0,
    }
}

/// Number of elements in the 16 bytes that a thread takes at once.
fn pack<T: Element>() -> usize {
    16 / size_of::<T>()
}

/// One block per row, up to a limit.
pub(super) fn over_rows(rows: usize) -> LaunchConfig {
    LaunchConfig {
        grid_dim: (rows.clamp(1, 65_535) as u32, 1, 1),
        block_dim: (THREADS, 1, 1),
        shared_mem_bytes: 0,
    }
}

/// A single block.
pub(super) const ONE_BLOCK: LaunchConfig =
    LaunchConfig { grid_dim: (1, 1, 1), block_dim: (THREADS, 1, 1), shared_mem_bytes: 0 };

const COLUMN_THREADS: (u32, u32, u32) = (32, 8, 1);

/// Largest number of columns of blocks that [`sum_blocks`] makes.
pub(super) const MOST_SUM_COLUMNS: usize = 1024;

/// Blocks over the columns of a matrix of `T` and over chunks of its rows, for the kernels of `column_sums.cuh`, and the
/// number of chunks. That number depends only on the sizes, so sums have the same bits every time.
pub(super) fn sum_blocks<T: Element>(rows: usize, columns: usize) -> (LaunchConfig, usize) {
    /// Number of blocks that fill a card.
    const WANTED: usize = 512;
    /// Smallest number of elements of a chunk, and of rows. A smaller chunk is not worth a block.
    const FEW: [usize; 2] = [16_384, 8];
    let in_packs = columns.is_multiple_of(pack::<T>());
    let width = COLUMN_THREADS.0 as usize * if in_packs { pack::<T>() } else { 1 };
    let across = columns.div_ceil(width).min(MOST_SUM_COLUMNS);
    let few = (FEW[0] / columns).max(FEW[1]);
    let chunks = (WANTED / across).clamp(1, rows.div_ceil(few).max(1));
    let config = LaunchConfig {
        grid_dim: (across as u32, chunks as u32, 1),
        block_dim: COLUMN_THREADS,
        shared_mem_bytes: 0,
    };
    (config, chunks)
}

/// Blocks over the columns of a matrix of `T`, each with all rows, for the kernels with `OwnColumns` of `column_sums.cuh`.
pub(super) fn own_columns<T: Element>(columns: usize) -> LaunchConfig {
    /// Number of packs of a row that a block takes.
    const PACKS: usize = 8;
    let in_packs = columns.is_multiple_of(pack::<T>());
    let width = PACKS * if in_packs { pack::<T>() } else { 1 };
    LaunchConfig {
        grid_dim: (columns.div_ceil(width).min(MOST_SUM_COLUMNS) as u32, 1, 1),
        block_dim: COLUMN_THREADS,
        shared_mem_bytes: 0,
    }
}

/// Starts a kernel with the arguments given. It runs after everything that was put on the device's stream
/// before.
///
/// It expands to an `unsafe` call. The caller's comment says why the kernel stays inside its arguments.
macro_rules! launch {
    ($function:expr, $config:expr, $($argument:expr),+ $(,)?) => {{
        use candle_core::cuda_backend::WrapErr as _;
        let function = $function;
        let mut arguments = function.builder();
        $( $crate::cuda::function::Argument::push($argument, &mut arguments); )+
        arguments.launch($config).w()?;
    }};
}
pub(super) use launch;

/// An argument of a kernel.
pub(super) trait Argument<'a> {
    fn push(self, arguments: &mut LaunchArgs<'a>);
}

macro_rules! argument {
    ($([$($generics:tt)*] $ty:ty),+ $(,)?) => {
        $(impl<'a, $($generics)*> Argument<'a> for $ty {
            fn push(self, arguments: &mut LaunchArgs<'a>) {
                arguments.arg(self);
            }
        })+
    };
}

argument!(
    [] &'a u32,
    [] &'a i32,
    [] &'a u64,
    [] &'a usize,
    [] &'a f32,
    [] &'a f64,
    ['c: 'a, T] &'a CudaView<'c, T>,
    [T] &'a candle_core::cuda_backend::cudarc::driver::CudaSlice<T>,
    [T] &'a mut candle_core::cuda_backend::cudarc::driver::CudaSlice<T>,
    ['c: 'a, T] &'a mut candle_core::cuda_backend::cudarc::driver::CudaViewMut<'c, T>,
);

/// A pointer that may be null.
impl<'a, 'c: 'a, T> Argument<'a> for &'a Option<CudaView<'c, T>> {
    fn push(self, arguments: &mut LaunchArgs<'a>) {
        const NULL: &usize = &0;
        match self {
            Some(view) => arguments.arg(view),
            None => arguments.arg(NULL),
        };
    }
}
