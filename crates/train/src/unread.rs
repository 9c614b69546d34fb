//! Results that a device is still computing, and when the host reads them.

use std::time::{Duration, Instant};

use candle_core::Device;

/// Largest number of unread results.
const MOST: usize = 16;
/// Longest time that a progress bar may stand still.
const LONGEST: Duration = Duration::from_millis(250);

/// When the host reads the results of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reading {
    /// After each step. A CPU is done by then.
    AtOnce,
    /// In groups of as many results as take `longest`, up to a limit. A GPU gets its work ahead of time. It
    /// would stand still if the host waited for a result before giving it more.
    InGroups {
        /// Time per group.
        longest: Duration,
    },
}

impl Reading {
    /// The way of reading that suits `device`.
    pub(crate) fn of(device: &Device) -> Self {
        if device.is_cpu() { Self::AtOnce } else { Self::InGroups { longest: LONGEST } }
    }
}

/// Unread results in the order of their steps.
#[derive(Debug)]
pub(crate) struct Unread<T> {
    reading: Reading,
    results: Vec<T>,
    /// When the first result of this group came, and how many results the last group had. The device's
    /// progress is not visible from here until a group is read.
    began: Instant,
    last_group: usize,
    /// Number of results in a group.
    group: usize,
}

impl<T> Unread<T> {
    pub(crate) fn new(reading: Reading) -> Self {
        Self { reading, results: Vec::new(), began: Instant::now(), last_group: 0, group: 1 }
    }

    pub(crate) fn reading(&self) -> Reading {
        self.reading
    }

    pub(crate) fn push(&mut self, result: T) {
        if self.results.is_empty() {
            if let (Reading::InGroups { longest }, 1..) = (self.reading, self.last_group) {
                self.group = group(longest, self.began.elapsed(), self.last_group);
            }
            self.began = Instant::now();
        }
        self.results.push(result);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.results.is_empty()
    }

    /// Whether the results should be read now.
    pub(crate) fn is_due(&self) -> bool {
        match self.reading {
            Reading::AtOnce => true,
            Reading::InGroups { longest } => {
                self.results.len() >= self.group || self.began.elapsed() >= longest
            }
        }
    }

    /// Takes out all results, to be read now.
    pub(crate) fn take(&mut self) -> Vec<T> {
        self.last_group = self.results.len();
        std::mem::take(&mut self.results)
    }
}

/// Number of steps that fit into `longest`, if `steps` steps took `took`.
fn group(longest: Duration, took: Duration, steps: usize) -> usize {
    let fit = longest.as_secs_f64() * steps as f64 / took.as_secs_f64();
    // A duration of zero makes it infinite.
    (fit as usize).clamp(1, MOST)
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
        // The first is read by itself, since no one knows yet how long a step takes.
        assert_eq!(full[0], 0);
        assert_eq!(full[1..16], (1..=15).collect::<Vec<_>>());
        assert_eq!(full[16..], [0, 1, 2, 3]);
    }

    #[test]
    fn a_group_is_as_many_as_fit_into_its_time() {
        let ms = Duration::from_millis;
        let check = |took, steps, expected| assert_eq!(group(ms(250), ms(took), steps), expected);
        check(100, 1, 2);
        check(1600, 16, 2);
        check(4000, 1, 1);
        check(25, 2, 16);
        check(0, 1, 16);
        check(40, 1, 6);
    }
}
