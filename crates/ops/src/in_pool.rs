//! Runs a whole step on the threads that its loops run on.

use std::num::NonZero;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rayon::{ThreadPoolBuilder, Yield};

/// How long an idle thread looks for work within a step before it sleeps. It is longer than the pauses
/// between loops and than the time to wake a thread (about 50 us).
const PATIENCE: Duration = Duration::from_micros(200);

/// Runs `f` on one of the threads that the ops of this crate share, which are rayon's. The other threads
/// stay awake until `f` is done or they have been idle for a while.
///
/// An op that is called from any other thread wakes these threads and sleeps until they are done. An op
/// that is called from one of them starts at once. A training step or a forward pass is hundreds of short
/// loops, so it is best to wrap it as a whole. Results do not depend on it.
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
    // A pool of one thread hands nothing to other threads anyway.
    if rayon::current_num_threads() == 1 {
        return f();
    }
    let done = AtomicBool::new(false);
    rayon::scope(|scope| {
        let (here, done) = (rayon::current_thread_index(), &done);
        scope.spawn_broadcast(move |_, thread| {
            if Some(thread.index()) != here {
                stay_awake(done);
            }
        });
        let result = f();
        done.store(true, Ordering::Relaxed);
        result
    })
}

/// The number of threads that the ops of this crate share.
pub fn pool_threads() -> usize {
    rayon::current_num_threads()
}

/// Runs the pool's work as it comes, until `done` is set or no work came for a while.
fn stay_awake(done: &AtomicBool) {
    let mut last_work = Instant::now();
    while !done.load(Ordering::Relaxed) && last_work.elapsed() < PATIENCE {
        if matches!(rayon::yield_now(), Some(Yield::Executed)) {
            last_work = Instant::now();
        } else {
            thread::yield_now();
        }
    }
}

/// Makes the calling thread one of the threads that the ops of this crate share. [`in_pool`] then hands
/// nothing over, which matters if a step takes less than a millisecond.
///
/// Call it first thing in a program's main thread. It does nothing if the pool already works, or if the
/// pool has one thread. The number of threads is `RAYON_NUM_THREADS`, or else the number of the machine's
/// cores.
///
/// ```
/// candle_vision_ops::join_pool();
/// ```
pub fn join_pool() {
    let asked = std::env::var("RAYON_NUM_THREADS").ok().and_then(|number| number.parse().ok());
    let cores = || thread::available_parallelism().map_or(1, NonZero::get);
    let threads = asked.filter(|&number| number > 0).unwrap_or_else(cores);
    // If this were the only thread of the pool, no thread would run loops that other threads start.
    if threads > 1 {
        // This fails if there is already a pool, which then stays.
        let _ = ThreadPoolBuilder::new().num_threads(threads).use_current_thread().build_global();
    }
}

#[cfg(test)]
mod tests {
    use rayon::prelude::*;

    use super::*;

    #[test]
    fn a_step_has_its_result_and_all_threads() {
        let pool = ThreadPoolBuilder::new().num_threads(3).build().unwrap();
        for _ in 0..100 {
            let sum = pool.install(|| in_pool(|| (0..1000u64).into_par_iter().sum::<u64>()));
            assert_eq!(sum, 499_500);
        }
        // From outside of any pool, and one within another.
        assert_eq!(in_pool(|| in_pool(|| 7)), 7);
    }

    #[test]
    fn a_panic_within_a_step_comes_through() {
        let pool = ThreadPoolBuilder::new().num_threads(2).build().unwrap();
        let step = || pool.install(|| in_pool(|| panic!("no")));
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(step)).is_err());
        assert_eq!(pool.install(|| in_pool(|| 7)), 7);
    }

    #[test]
    fn threads_without_work_go_to_sleep() {
        let begun = Instant::now();
        stay_awake(&AtomicBool::new(false));
        assert!(begun.elapsed() >= PATIENCE);
        stay_awake(&AtomicBool::new(true));
    }
}
