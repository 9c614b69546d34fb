//! A whole step on the threads that its loops run on.

use std::num::NonZero;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rayon::{ThreadPoolBuilder, Yield};

/// For how long a thread that has nothing to do within a step looks for work before it sleeps: longer
/// than the pauses between loops, and than what it takes to wake a thread (some 50 us).
const PATIENCE: Duration = Duration::from_micros(200);

/// Runs `f` on one of the threads that the ops of this crate share, which are rayon's, and keeps the
/// others awake until it is done or they have had nothing to do for a while.
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

/// Does the pool's work as it comes, until all is `done` or none came for a while.
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

/// Makes the calling thread one of those that the ops of this crate share: [`in_pool`] then hands
/// nothing over, which counts where a step takes less than a millisecond.
///
/// For the main thread of a program, first thing: it does nothing once the pool works, nor where the
/// pool is of one thread (`RAYON_NUM_THREADS`, else the machine's cores).
///
/// ```
/// candle_vision_ops::join_pool();
/// ```
pub fn join_pool() {
    let asked = std::env::var("RAYON_NUM_THREADS").ok().and_then(|number| number.parse().ok());
    let cores = || thread::available_parallelism().map_or(1, NonZero::get);
    let threads = asked.filter(|&number| number > 0).unwrap_or_else(cores);
    // Alone in its pool, this thread would leave loops that others start without anyone to run them.
    if threads > 1 {
        // It fails where there is a pool already: that stays as it is.
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
