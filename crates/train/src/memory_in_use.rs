//! The memory that training takes, as the system tells it.

use candle_core::Device;
use candle_vision_ops::card_memory_in_use;

/// Bytes of memory in use on a device now: what this process has on a CPU (its resident set), and what is taken of a
/// card by all processes. `None` if the system does not say.
///
/// # Example
/// ```
/// use candle_core::Device;
/// use candle_vision_train::{memory_in_use, peak_memory};
///
/// if let (Some(now), Some(peak)) = (memory_in_use(&Device::Cpu), peak_memory(&Device::Cpu)) {
///     assert!(0 < now && now <= peak);
/// }
/// ```
pub fn memory_in_use(device: &Device) -> Option<u64> {
    if device.is_cpu() { of_this_process("VmRSS:") } else { card_memory_in_use(device) }
}

/// Bytes of the most memory that was in use so far: by this process on a CPU since it began, whatever it did. On a card
/// this is what is in use now, because the memory pool of [`cuda_device`](candle_vision_ops::cuda_device) keeps what it
/// once took. `None` if the system does not say.
pub fn peak_memory(device: &Device) -> Option<u64> {
    if device.is_cpu() { of_this_process("VmHWM:") } else { card_memory_in_use(device) }
}

fn of_this_process(name: &str) -> Option<u64> {
    kib(&std::fs::read_to_string("/proc/self/status").ok()?, name)
}

/// The bytes of a line such as `VmHWM:   16304 kB`.
fn kib(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let number: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(number * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_system_are_understood() {
        let text = "VmPeak:  200 kB\nVmHWM:     123 kB\n";
        assert_eq!((kib(text, "VmHWM:"), kib(text, "VmRSS:")), (Some(123 * 1024), None));
        assert_eq!(kib("VmHWM: much kB", "VmHWM:"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn memory_that_was_used_and_freed_counts_for_the_peak() {
        let before = memory_in_use(&Device::Cpu).expect("Linux says it");
        let size = 64 << 20;
        drop(std::hint::black_box(vec![1_u8; size]));
        let peak = peak_memory(&Device::Cpu).expect("Linux says it");
        assert!(before > 1 << 20 && peak >= before, "{before} {peak}");
        assert!(peak >= size as u64, "{peak}");
    }
}
