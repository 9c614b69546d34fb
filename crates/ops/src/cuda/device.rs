//! A device as these kernels want it.

use std::sync::{Arc, PoisonError, RwLock};

use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::{CudaContext, result, sys};
use candle_core::{CudaDevice, Device, Result};

/// CUDA device number `ordinal`, set up for training: one stream of its own, on which everything is
/// ordered, and a memory pool that keeps what it was given.
///
/// `Device::new_cuda` works too, but its pool hands all memory back to the driver whenever the host
/// waits for the device, and its stream is the calling thread's, so that tensors which other threads
/// made are not ordered with it.
///
/// Tensors of this device must not meet streams made elsewhere: candle's tracking of who still reads
/// what is switched off, since one stream needs none.
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

/// Held by a test that uses the device: its libraries are not made for several threads.
#[cfg(test)]
pub(super) fn alone() -> std::sync::MutexGuard<'static, ()> {
    static ALONE: std::sync::Mutex<()> = std::sync::Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// That of the last device that was made.
static CONTEXT: RwLock<Option<Arc<CudaContext>>> = RwLock::new(None);

/// Makes this thread one that may look up kernels, which candle's own operations do before anything
/// that binds a context to their thread. Whose context it is makes no difference to that.
pub(crate) fn bind_this_thread() {
    if let Some(context) = &*CONTEXT.read().unwrap_or_else(PoisonError::into_inner) {
        // What is wrong with it, the next operation will say.
        let _ = context.bind_to_thread();
    }
}

/// Lets the pool that tensors come from keep what is freed: by default it goes back to the driver at
/// every synchronisation, and is asked for again a moment later.
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
