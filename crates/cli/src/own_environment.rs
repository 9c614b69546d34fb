//! Settings that the allocator and candle read only from the environment, before `main` could change them.
//! So the program sets them and starts itself again, once. This costs a millisecond.

/// The allocator, jemalloc, keeps the memory that a training step frees, because the next step needs as much again. Returning it to the
/// system costs thousands of page faults per step. -1 means never, and without an `oversize_threshold` it holds for large blocks too.
/// Blocks lie on huge pages (`thp`). All threads share one arena, so that memory of one serves the others, and no block
/// has an empty page in front (`cache_oblivious`).
#[cfg(unix)]
const ALLOCATOR: &str = "dirty_decay_ms:-1,muzzy_decay_ms:-1,oversize_threshold:0,narenas:1,thp:always,cache_oblivious:false";

/// The settings with the program's values. A value that the user has set is kept.
#[cfg(unix)]
const SETTINGS: [(&str, &str); 2] = [
    ("_RJEM_MALLOC_CONF", ALLOCATOR),
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
