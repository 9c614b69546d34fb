//! Loads kernels before they are needed, and reports it if that takes long.

use std::sync::mpsc;
use std::time::Duration;

use candle_core::cuda_backend::{WrapErr, kernels};
use candle_core::{CudaDevice, Device, Result};

use super::function::device_function;
use super::modules::{Source, has_machine_code};

/// Loading that takes longer means that the driver translates kernels. The driver keeps translated kernels
/// on disk and loads all of them in a fraction of this time.
const PATIENCE: Duration = Duration::from_secs(1);

/// candle's modules that networks and their training use. Other modules would only make a first start
/// longer. The modules are PTX for every card.
const CANDLE: [&kernels::Module; 6] = [
    &kernels::AFFINE,
    &kernels::BINARY,
    &kernels::CAST,
    &kernels::FILL,
    &kernels::REDUCE,
    &kernels::UNARY,
];

/// The kernels that the driver has to translate into a card's machine code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Translation {
    /// Number of candle's kernels, which come as PTX.
    pub kernels: usize,
    /// Whether this crate's kernels have to be translated too. The crate has machine code only for some
    /// cards.
    pub ours_too: bool,
}

/// Loads the kernels that networks use onto `device`, so that their first step does not have to.
///
/// The first start on a machine takes long, because the driver translates kernels that come as PTX. It
/// keeps the result on disk. If loading takes more than a second, `notice` is called once, on another
/// thread, while loading goes on. On a CPU there is nothing to load.
///
/// # Errors
/// If the driver refuses this crate's kernels, as it does on cards that are older than those they were
/// compiled for. If the driver refuses one of candle's kernels, the operation that needs it reports the
/// error.
///
/// # Example
/// ```
/// use candle_core::Device;
/// use candle_vision_ops::load_kernels;
///
/// load_kernels(&Device::Cpu, |translation| eprintln!("{} kernels", translation.kernels))?;
/// # candle_core::Result::Ok(())
/// ```
pub fn load_kernels(device: &Device, notice: impl FnOnce(Translation) + Send) -> Result<()> {
    let Device::Cuda(device) = device else { return Ok(()) };
    let stream = device.cuda_stream();
    stream.context().bind_to_thread().w()?;
    let capability = stream.context().compute_capability().w()?;
    let translation = Translation {
        kernels: CANDLE.iter().map(|module| entries(module.ptx()).count()).sum(),
        ours_too: !has_machine_code(capability),
    };
    noticed_if_slow(PATIENCE, || notice(translation), || load_all(device))
}

fn load_all(device: &CudaDevice) -> Result<()> {
    for source in Source::ALL {
        // By looking up a kernel, because a driver may delay loading a module until one is needed.
        device_function::<f32>(device, source, source.a_kernel())?;
    }
    for module in CANDLE {
        let name = entries(module.ptx()).next().unwrap_or_default();
        let _ = device.get_or_load_func(name, module);
    }
    Ok(())
}

/// The names of the kernels in a PTX text.
fn entries(ptx: &str) -> impl Iterator<Item = &str> {
    ptx.split(".entry ").skip(1).map(|rest| rest.split('(').next().unwrap_or(rest).trim())
}

/// Runs `work` and returns its result. Calls `notice` if it takes longer than `patience`.
fn noticed_if_slow<R>(
    patience: Duration,
    notice: impl FnOnce() + Send,
    work: impl FnOnce() -> R,
) -> R {
    let (done, waiting) = mpsc::channel::<()>();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            if waiting.recv_timeout(patience) == Err(mpsc::RecvTimeoutError::Timeout) {
                notice();
            }
        });
        let result = work();
        // Dropping the sender ends the waiting thread, even if the work panics.
        drop(done);
        result
    })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn only_slow_work_is_noticed_and_while_it_goes_on() {
        let noticed = AtomicUsize::new(0);
        let count = || {
            noticed.fetch_add(1, Ordering::SeqCst);
        };
        assert_eq!(noticed_if_slow(Duration::from_secs(600), count, || 3), 3);
        assert_eq!(noticed.load(Ordering::SeqCst), 0);
        let slow = || {
            let begun = std::time::Instant::now();
            while noticed.load(Ordering::SeqCst) == 0 && begun.elapsed().as_secs() < 60 {
                std::thread::yield_now();
            }
            4
        };
        assert_eq!(noticed_if_slow(Duration::from_millis(1), count, slow), 4);
        assert_eq!(noticed.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn kernels_are_counted_in_their_ptx() {
        let ptx = ".version 9.0\n.visible .entry first_f32(\n\t.param .u64 a\n)\n{ ret; }\n\
                   .visible .entry second_f32()\n{ ret; }\n.func other() { ret; }\n";
        assert_eq!(entries(ptx).collect::<Vec<_>>(), ["first_f32", "second_f32"]);
        assert_eq!(entries("").count(), 0);
    }

    /// Skipped where there is no device, which the emulator is too.
    #[test]
    fn every_module_has_the_kernel_that_stands_for_it() {
        let _alone = crate::cuda::device::alone();
        let Ok(device) = crate::cuda_device(0) else { return };
        load_kernels(&device, |_| ()).expect("all of our modules load");
    }
}
