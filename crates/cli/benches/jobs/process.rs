//! What the operating system knows of this process. Read from `/proc`, so that nothing unsafe is
//! called; where there is none, there are no figures.

use std::fs;

/// The most memory that this process has had at one time, in MiB.
pub(crate) fn peak_mib() -> Option<f64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: f64 = peak.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib / 1024.0)
}

/// Pages that this process, all its threads together, was given without a disk being read.
pub(crate) fn minor_faults() -> Option<u64> {
    /// The position of `minflt` after the program's name, see proc_pid_stat(5).
    const AFTER_NAME: usize = 7;
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The name stands in parentheses and may hold spaces and parentheses itself.
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_whitespace().nth(AFTER_NAME)?.parse().ok()
}
