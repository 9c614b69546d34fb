//! Has the allocator keep what a training step frees, because the next step takes as much again.
//!
//! mimalloc hands memory back to the system after a while, and reads whether it should from the
//! environment before `main` begins. So the program starts itself anew, once, with that set: it costs
//! a millisecond and saves thousands of page faults a step.

/// mimalloc's name for it; `-1` is never. Whoever has set it keeps their choice.
#[cfg(unix)]
const PURGE_DELAY: &str = "MIMALLOC_PURGE_DELAY";

/// Returns in a process whose allocator keeps its memory, if that can be had.
#[cfg(unix)]
pub(crate) fn keep_memory() {
    use std::os::unix::process::CommandExt;

    if std::env::var_os(PURGE_DELAY).is_some() {
        return;
    }
    let Ok(program) = std::env::current_exe() else { return };
    let mut arguments = std::env::args_os();
    let mut again = std::process::Command::new(program);
    if let Some(name) = arguments.next() {
        again.arg0(name);
    }
    // `exec` only comes back if it fails; then this process goes on as it is.
    let _ = again.args(arguments).env(PURGE_DELAY, "-1").exec();
}

/// Elsewhere the allocator stays as it is.
#[cfg(not(unix))]
pub(crate) fn keep_memory() {}
