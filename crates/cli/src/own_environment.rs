//! Settings that the allocator and candle read only from the environment, before `main` could change them.
//! So the program sets them and starts itself again, once. This costs a millisecond.

/// The settings with the program's values. A value that the user has set is kept.
#[cfg(unix)]
const SETTINGS: [(&str, &str); 2] = [
    // mimalloc keeps the memory that a training step frees, because the next step needs as much again.
    // Returning it to the system costs thousands of page faults per step. -1 means never.
    ("MIMALLOC_PURGE_DELAY", "-1"),
    // The threads of candle's own pool wait for work by spinning 25,000 times, which takes the cores away
    // from the threads that compute.
    ("CANDLE_BARRIER_POOL_SPIN_LIMIT", "1"),
];

/// Returns only in a process with these settings, if the system allows it.
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
    // `exec` returns only if it fails. The process then goes on without the settings.
    let _ = again.args(arguments).envs(missing().copied()).exec();
}

/// On other systems nothing changes.
#[cfg(not(unix))]
pub(crate) fn settle() {}
