//! The memory that this machine, or a card of it, has left.

use std::fmt;
use std::fs;
use std::process::Command;
use std::str::FromStr;

use candle_core::Device;
use candle_vision::train::{memory_in_use, peak_memory};

/// A number of bytes, as the command line takes and prints it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Bytes(pub(crate) usize);

const UNITS: [(&str, f64); 10] = [
    ("KiB", 1024.0),
    ("MiB", 1024.0 * 1024.0),
    ("GiB", 1024.0 * 1024.0 * 1024.0),
    ("kB", 1e3),
    ("MB", 1e6),
    ("GB", 1e9),
    ("K", 1024.0),
    ("M", 1024.0 * 1024.0),
    ("G", 1024.0 * 1024.0 * 1024.0),
    ("B", 1.0),
];

impl FromStr for Bytes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let unit = UNITS.iter().find_map(|&(unit, size)| Some((text.strip_suffix(unit)?, size)));
        let (number, size) = unit.unwrap_or((text, 1.0));
        match number.trim().parse::<f64>() {
            Ok(number) if number > 0.0 && number.is_finite() => Ok(Self((number * size) as usize)),
            _ => Err("a size such as 8GiB, 500MB or a number of bytes".to_owned()),
        }
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.0 as f64;
        match self.0 {
            0 => f.pad("0"),
            1..1024 => f.pad(&format!("{} B", self.0)),
            1024..0x10_0000 => f.pad(&format!("{:.0} KiB", bytes / 1024.0)),
            0x10_0000..0xA0_0000 => f.pad(&format!("{:.1} MiB", bytes / f64::from(1 << 20))),
            0xA0_0000..0x4000_0000 => f.pad(&format!("{:.0} MiB", bytes / f64::from(1 << 20))),
            _ => f.pad(&format!("{:.1} GiB", bytes / f64::from(1 << 30))),
        }
    }
}

/// The memory that this process takes now. 0 where the system does not say.
pub(crate) fn resident() -> usize {
    memory_in_use(&Device::Cpu).map_or(0, |bytes| bytes as usize)
}

/// The most memory that this process has taken so far. 0 where the system does not say.
pub(crate) fn peak() -> usize {
    peak_memory(&Device::Cpu).map_or(0, |bytes| bytes as usize)
}

/// The memory that this process may have in all: what it has already, and what the machine has left for it. `None` where
/// the system does not say.
pub(crate) fn for_this_process() -> Option<usize> {
    for_each(1)
}

/// The same for each of so many processes of about the same size, which share what the machine has left.
pub(crate) fn for_each(processes: usize) -> Option<usize> {
    let left = kib(&fs::read_to_string("/proc/meminfo").ok()?, "MemAvailable:")?;
    let left = group_left().map_or(left, |of_group| of_group.min(left));
    Some(left / processes.max(1) + resident())
}

/// The free memory of CUDA card `ordinal`, as the driver's own tool tells it. `None` if there is no such tool or card.
pub(crate) fn of_card(ordinal: usize) -> Option<usize> {
    let query = ["--query-gpu=memory.free", "--format=csv,noheader,nounits", "-i"];
    let output = Command::new("nvidia-smi").args(query).arg(ordinal.to_string()).output().ok()?;
    let mebibytes = String::from_utf8(output.stdout).ok()?.trim().parse::<usize>().ok()?;
    output.status.success().then_some(mebibytes << 20)
}

/// The bytes of a line such as `MemAvailable:   16304 kB`.
fn kib(text: &str, name: &str) -> Option<usize> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let number: usize = line.split_whitespace().next()?.parse().ok()?;
    Some(number * 1024)
}

/// What the control group of this process, such as a container, has left. `None` if it has no limit.
fn group_left() -> Option<usize> {
    let version_2 = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"];
    let version_1 = [
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        "/sys/fs/cgroup/memory/memory.usage_in_bytes",
    ];
    let number =
        |path: &str| -> Option<usize> { fs::read_to_string(path).ok()?.trim().parse().ok() };
    let [limit, used] = [version_2, version_1]
        .into_iter()
        .find_map(|[limit, used]| Some([number(limit)?, number(used)?]))?;
    // Pages of files that were read count as used, but the system gives them up first.
    let statistics = ["/sys/fs/cgroup/memory.stat", "/sys/fs/cgroup/memory/memory.stat"];
    let statistics = statistics.into_iter().find_map(|path| fs::read_to_string(path).ok());
    let given_up = statistics.as_deref().and_then(inactive_files).unwrap_or(0);
    Some(limit.saturating_sub(used.saturating_sub(given_up)))
}

fn inactive_files(statistics: &str) -> Option<usize> {
    let line = statistics.lines().find_map(|line| {
        line.strip_prefix("inactive_file ").or_else(|| line.strip_prefix("total_inactive_file "))
    })?;
    line.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_and_shown() {
        let of = |text: &str| text.parse::<Bytes>().map(|bytes| bytes.0);
        assert_eq!(of("64MiB"), Ok(64 << 20));
        assert_eq!(of("1.5 GiB"), Ok(3 << 29));
        assert_eq!(of("2GB"), Ok(2_000_000_000));
        assert_eq!((of("8G"), of("12"), of("3B")), (Ok(8 << 30), Ok(12), Ok(3)));
        for text in ["", "GiB", "-1", "0", "many", "1TiBB", "nan", "inf"] {
            assert!(of(text).is_err(), "{text}");
        }
        let shown =
            [0, 500, 2048, 3 << 19, 64 << 20, 3 << 29].map(|bytes| Bytes(bytes).to_string());
        assert_eq!(shown, ["0", "500 B", "2 KiB", "1.5 MiB", "64 MiB", "1.5 GiB"]);
    }

    #[test]
    fn lines_of_the_system_are_understood() {
        let text = "MemTotal:  200 kB\nMemAvailable:     123 kB\n";
        assert_eq!((kib(text, "MemAvailable:"), kib(text, "VmRSS:")), (Some(123 * 1024), None));
        assert_eq!(inactive_files("anon 5\ninactive_file 4096\n"), Some(4096));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_takes_something_and_may_have_more() {
        let resident = resident();
        assert!(resident > 1 << 20 && peak() >= resident);
        assert!(for_this_process().is_some_and(|bytes| bytes > resident));
    }
}
