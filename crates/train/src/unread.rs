//! What a device is still working out, and when the host reads it.

use std::time::{Duration, Instant};

use candle_core::Device;

/// As many as may be unread at once.
const MOST: usize = 16;
/// How long a progress bar may stand still.
const LONGEST: Duration = Duration::from_millis(250);

/// When the host reads what a device has worked out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reading {
    /// After each step: a CPU is done by then.
    AtOnce,
    /// After some of them, and after the longest time that nothing may be heard. A GPU is given its
    /// work ahead of time and stands still whenever the host waits for a result before it gives more.
    InGroups {
        /// How long.
        longest: Duration,
    },
}

impl Reading {
    /// What suits `device`.
    pub(crate) fn of(device: &Device) -> Self {
        if device.is_cpu() { Self::AtOnce } else { Self::InGroups { longest: LONGEST } }
    }
}

/// Results in the order of their steps, none of them read yet.
#[derive(Debug)]
pub(crate) struct Unread<T> {
    reading: Reading,
    results: Vec<T>,
    last_read: Instant,
}

impl<T> Unread<T> {
    pub(crate) fn new(reading: Reading) -> Self {
        Self { reading, results: Vec::new(), last_read: Instant::now() }
    }

    pub(crate) fn reading(&self) -> Reading {
        self.reading
    }

    pub(crate) fn push(&mut self, result: T) {
        self.results.push(result);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.results.is_empty()
    }

    /// Whether it is time to read.
    pub(crate) fn is_due(&self) -> bool {
        match self.reading {
            Reading::AtOnce => true,
            Reading::InGroups { longest } => {
                self.results.len() >= MOST || self.last_read.elapsed() >= longest
            }
        }
    }

    /// All of them, to be read now.
    pub(crate) fn take(&mut self) -> Vec<T> {
        self.last_read = Instant::now();
        std::mem::take(&mut self.results)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many results lie unread after each of 20 steps.
    fn unread(reading: Reading) -> Vec<usize> {
        let mut unread = Unread::new(reading);
        let after = |step| {
            unread.push(step);
            if unread.is_due() {
                assert_eq!(unread.take().last(), Some(&step));
            }
            unread.results.len()
        };
        (1..=20).map(after).collect()
    }

    #[test]
    fn groups_end_when_they_are_full_or_late() {
        assert_eq!(unread(Reading::AtOnce), [0; 20]);
        assert_eq!(unread(Reading::InGroups { longest: Duration::ZERO }), [0; 20]);
        let full = unread(Reading::InGroups { longest: Duration::MAX });
        assert_eq!(full[..15], (1..=15).collect::<Vec<_>>());
        assert_eq!(full[15..], [0, 1, 2, 3, 4]);
    }
}
