//! Sets up a device for these kernels.

use std::sync::{Arc, PoisonError, RwLock};

use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::{CudaContext, result, sys};
use candle_core::{CudaDevice, Device, Result};

/// CUDA device number `ordinal`, from 0, set up for training. It has a single stream of its own, on which
/// everything runs in order, and a memory pool that keeps the memory it gets.
///
/// `Device::new_cuda` works too, with two drawbacks. Its pool returns all memory to the driver whenever the
/// host waits for the device. Its stream belongs to the calling thread, so tensors that other threads made
/// are not ordered with it.
///
/// Tensors of this device must not be used with streams made elsewhere. candle's tracking of pending reads
/// is switched off, because a single stream does not need it.
///
/// # Errors
/// If there is no driver, or no such device.
pub fn cuda_device(ordinal: usize) -> Result<Device> {
    let device = Device::new_cuda_with_stream(ordinal)?;
    if let Device::Cuda(cuda) = &device {
        *CONTEXT.write().unwrap_or_else(PoisonError::into_inner) =
            Some(cuda.cuda_stream().context().clone());
        keep_memory(cuda)?;
        // SAFETY: every tensor of this device is made, used and freed on its one stream; uploads,
        // which copy on another, wait for it by events of their own.
        unsafe { cuda.disable_event_tracking() };
    }
    Ok(device)
}

/// Bytes of a CUDA card's memory that are taken, by all processes together. The pool of a device that [`cuda_device`]
/// made keeps what it once took, so this is also the most that it took so far. `None` if the device is no card, or the
/// driver does not say.
pub fn card_memory_in_use(device: &Device) -> Option<u64> {
    let Device::Cuda(cuda) = device else { return None };
    let (free, total) = cuda.cuda_stream().context().mem_get_info().ok()?;
    u64::try_from(total.saturating_sub(free)).ok()
}

/// A test holds this while it uses the device, because the device's libraries do not support several
/// threads.
#[cfg(test)]
pub(super) fn alone() -> std::sync::MutexGuard<'static, ()> {
    static ALONE: std::sync::Mutex<()> = std::sync::Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The context of the device that was made last.
static CONTEXT: RwLock<Option<Arc<CudaContext>>> = RwLock::new(None);

/// Allows this thread to look up kernels. candle's own operations do that before anything binds a context
/// to their thread. Any device's context will do for this.
pub(crate) fn bind_this_thread() {
    if let Some(context) = &*CONTEXT.read().unwrap_or_else(PoisonError::into_inner) {
        // If this fails, the next operation reports the error.
        let _ = context.bind_to_thread();
    }
}

/// Lets the memory pool of tensors keep freed memory. By default it returns the memory to the driver at
/// every synchronisation and asks for it again a moment later.
fn keep_memory(device: &CudaDevice) -> Result<()> {
    let stream = device.cuda_stream();
    let context = stream.context();
    if !context.has_async_alloc() {
        return Ok(());
    }
    let mut everything = u64::MAX;
    // SAFETY: the pool is the device's own, and the attribute is a 64-bit number.
    unsafe {
        let pool = result::device::get_default_mem_pool(context.cu_device()).w()?;
        let attribute = sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
        result::mem_pool::set_attribute(pool, attribute, (&raw mut everything).cast()).w()
    }
}
