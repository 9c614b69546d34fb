//! A whole step on the threads that its loops run on.

/// Runs `f` on one of the threads that the ops of this crate share, which are rayon's.
///
/// An op that is called from any other thread wakes those threads and sleeps until they are done;
/// one that is called from among them starts at once. So a training step or a forward pass, which is
/// hundreds of short loops, is best wrapped as a whole. Results do not depend on it.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use candle_vision_ops::{in_pool, relu};
///
/// let x = Tensor::ones((4, 1000), DType::F32, &Device::Cpu)?;
/// let y = in_pool(|| relu(&relu(&x)?))?;
/// assert_eq!(y.dims(), [4, 1000]);
/// # candle_core::Result::Ok(())
/// ```
pub fn in_pool<R: Send>(f: impl FnOnce() -> R + Send) -> R {
    let f = || {
        #[cfg(feature = "cuda")]
        crate::cuda::bind_this_thread();
        f()
    };
    // Of one thread, nothing is handed to others in any case.
    if rayon::current_num_threads() == 1 { f() } else { rayon::scope(|_| f()) }
}
