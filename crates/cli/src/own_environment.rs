//! Settings that the program's allocator and candle take from the environment alone, and read before
//! `main` could change them. So the program starts itself anew, once, with them set: it costs a
//! millisecond.

/// Each with its value here. Whoever has set one keeps their choice.
#[cfg(unix)]
const SETTINGS: [(&str, &str); 2] = [
    // mimalloc keeps what a training step frees, because the next step takes as much again: handing
    // it back to the system costs thousands of page faults a step. -1 is never.
    ("MIMALLOC_PURGE_DELAY", "-1"),
    // The threads of candle's own pool wait for their next work by spinning 25,000 times, which takes
    // the cores away from the threads that compute.
    ("CANDLE_BARRIER_POOL_SPIN_LIMIT", "1"),
];

/// Returns in a process with these settings, if that can be had.
#[cfg(unix)]
pub(crate) fn settle() {
    use std::os::unix::process::CommandExt;

    let missing = || SETTINGS.iter().filter(|(name, _)| std::env::var_os(name).is_none());
    if missing().next().is_none() {
        return;
    }
    let Ok(program) = std::env::current_exe() else { return };
    let mut arguments = std::env::args_os();
    let mut again = std::process::Command::new(program);
    if let Some(name) = arguments.next() {
        again.arg0(name);
    }
    // `exec` only comes back if it fails; then this process goes on as it is.
    let _ = again.args(arguments).envs(missing().copied()).exec();
}

/// Elsewhere the program stays as it is.
#[cfg(not(unix))]
pub(crate) fn settle() {}
