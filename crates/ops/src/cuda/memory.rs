//! How much of a card's memory this process takes, and a limit for it.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::{CudaContext, CudaGraph, CudaStream, result, sys};
use candle_core::{Device, Result, bail};

use crate::CardMemory;

/// Drivers take memory from a card in pieces of this size.
const PIECE: u64 = 2 << 20;

/// The limits of this process, by the numbers of the cards.
static LIMITS: Mutex<BTreeMap<usize, u64>> = Mutex::new(BTreeMap::new());

fn limits() -> MutexGuard<'static, BTreeMap<usize, u64>> {
    LIMITS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Number of CUDA cards that this process sees.
///
/// # Errors
/// If there is no driver, or it sees no card.
pub fn cuda_device_count() -> Result<usize> {
    let count = CudaContext::device_count().w()?;
    Ok(usize::try_from(count).unwrap_or(0))
}

/// Lets this process take at most `bytes` of a card's memory for tensors and graphs, until its end. A tensor that needs
/// more fails as on a full card, and the driver itself sees to that: it makes tensors from a memory pool with a largest size.
/// Work whose graph would not fit beside the tensors so far is not captured ([`Captured`](crate::Captured)).
///
/// Call it before the first tensor is made. The limit is rounded down to a multiple of 2 MiB. Beside it come the context, the
/// kernels and the libraries' own memory, a few hundred MiB. If tensors take more after a capture than they ever did before
/// it, the graph's memory comes beside the limit, too.
///
/// # Errors
/// If `device` is not a CUDA device, `bytes` is below 2 MiB, the card has another limit already, or its driver is older than
/// CUDA 12.2 and so has no pools with a largest size.
pub fn limit_card_memory(device: &Device, bytes: u64) -> Result<()> {
    let Device::Cuda(cuda) = device else {
        bail!("limit_card_memory: expected a CUDA device, got {:?}", device.location())
    };
    let stream = cuda.cuda_stream();
    let context = stream.context();
    let bytes = bytes / PIECE * PIECE;
    if bytes == 0 {
        bail!("limit_card_memory: the limit must be at least {PIECE} bytes")
    }
    let mut limits = limits();
    match limits.get(&context.ordinal()) {
        Some(known) if *known == bytes => return Ok(()),
        Some(known) => bail!("limit_card_memory: the card has a limit already: {known} bytes"),
        None => {}
    }
    take_from_pool_of(context, bytes)?;
    limits.insert(context.ordinal(), bytes);
    Ok(())
}

/// The driver's `CUmemPoolProps`. Its fields got other names and types with each release of CUDA, but their places stayed.
#[repr(C)]
struct PoolProperties {
    kind: u32,
    handles: u32,
    place: u32,
    card: i32,
    security: *mut std::ffi::c_void,
    /// Drivers from before CUDA 12.2 refuse a pool where this is not 0.
    max_bytes: usize,
    rest: [u8; 56],
}

const _: () = assert!(size_of::<PoolProperties>() == size_of::<sys::CUmemPoolProps>());

/// Gives the card a pool of at most `bytes`, from which all later tensors come.
fn take_from_pool_of(context: &CudaContext, bytes: u64) -> Result<()> {
    if !context.has_async_alloc() {
        bail!("limit_card_memory: the card's driver has no memory pools")
    }
    let properties = PoolProperties {
        kind: sys::CUmemAllocationType::CU_MEM_ALLOCATION_TYPE_PINNED as u32,
        handles: 0,
        place: sys::CUmemLocationType::CU_MEM_LOCATION_TYPE_DEVICE as u32,
        card: context.cu_device(),
        security: std::ptr::null_mut(),
        max_bytes: bytes as usize,
        rest: [0; 56],
    };
    // As `cuda_device` has it: the pool keeps what is freed.
    let mut everything = u64::MAX;
    // SAFETY: the properties have the size and the layout of the driver's, the attribute is a 64-bit number, and nothing
    // destroys the pool.
    unsafe {
        let pool = result::mem_pool::create((&raw const properties).cast()).w()?;
        let attribute = sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
        result::mem_pool::set_attribute(pool, attribute, (&raw mut everything).cast()).w()?;
        result::device::set_mem_pool(context.cu_device(), pool).w()
    }
}

/// The memory of a card. `None` if the device is no card, or its driver does not say.
pub fn card_memory(device: &Device) -> Option<CardMemory> {
    let Device::Cuda(cuda) = device else { return None };
    of_context(cuda.cuda_stream().context()).ok()
}

fn of_context(context: &CudaContext) -> Result<CardMemory> {
    let (free, total) = context.mem_get_info().w()?;
    let (mut in_pool, mut in_graphs) = (0_u64, 0_u64);
    if context.has_async_alloc() {
        // SAFETY: the pool is the device's own, and both attributes are 64-bit numbers.
        unsafe {
            let card = context.cu_device();
            let pool = result::device::get_mem_pool(card).w()?;
            let reserved = sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT;
            result::mem_pool::get_attribute(pool, reserved, (&raw mut in_pool).cast()).w()?;
            let reserved = sys::CUgraphMem_attribute::CU_GRAPH_MEM_ATTR_RESERVED_MEM_CURRENT;
            let place = (&raw mut in_graphs).cast();
            sys::cuDeviceGetGraphMemAttribute(card, reserved, place).result().w()?;
        }
    }
    let limit = limits().get(&context.ordinal()).copied();
    Ok(CardMemory { total: total as u64, free: free as u64, in_pool, in_graphs, limit })
}

/// Gives back to the card what plain work has freed, before a graph takes memory of its own for the same work. With a limit,
/// the pool keeps it: the plain work may come again, and then graph and tensors together could exceed the limit.
pub(super) fn give_back_freed(stream: &CudaStream) -> Result<()> {
    let context = stream.context();
    if !context.has_async_alloc() || limits().contains_key(&context.ordinal()) {
        return Ok(());
    }
    // What is not freed yet by work on the card stays in the pool.
    stream.synchronize().w()?;
    // SAFETY: the pool is the device's own, and only memory that nothing uses leaves it.
    unsafe {
        let pool = result::device::get_mem_pool(context.cu_device()).w()?;
        result::mem_pool::trim_to(pool, 0).w()
    }
}

/// Destroys a graph that does not fit into the limit beside what tensors have taken. Some later work may need as much for
/// its tensors again, such as the plain step of an epoch's last batch.
pub(super) fn within_limit(stream: &CudaStream, graph: CudaGraph) -> Result<CudaGraph> {
    let context = stream.context();
    if !limits().contains_key(&context.ordinal()) {
        return Ok(graph);
    }
    let memory = of_context(context)?;
    let Some(limit) = memory.limit.filter(|limit| memory.taken() > *limit) else {
        return Ok(graph);
    };
    stream.synchronize().w()?;
    drop(graph);
    // SAFETY: it takes a number, and returns to the card what no graph uses.
    unsafe { sys::cuDeviceGraphMemTrim(context.cu_device()).result().w()? };
    let CardMemory { in_pool, in_graphs, .. } = memory;
    bail!(
        "graphs of {in_graphs} bytes do not fit beside {in_pool} bytes of tensors into the limit of {limit} bytes"
    )
}
