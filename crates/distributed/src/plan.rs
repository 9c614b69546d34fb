//! How long a step of several ranks takes, from measured figures: a plan before there are so many computers.
//!
//! Left out on purpose: stragglers, other traffic on the links, and that a transfer takes time from the computation. So a plan
//! is the best that can be hoped for.

/// The slowest link between neighbours of a ring of ranks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Link {
    /// Bytes that go through in a second, in each direction.
    pub bytes_per_s: f64,
    /// Seconds that each message takes besides.
    pub latency: f64,
}

impl Link {
    /// Seconds that a ring takes to sum `bytes` over all ranks.
    ///
    /// The bytes are cut into a piece for each rank. In `ranks - 1` rounds the pieces are summed, and in as many the sums are
    /// given to all; in each round every rank sends a piece to its neighbour. No other way sends fewer bytes through a link
    /// (Patarasuk & Yuan 2009, "Bandwidth optimal all-reduce algorithms for clusters of workstations").
    ///
    /// ```
    /// use candle_vision_distributed::Link;
    ///
    /// let link = Link { bytes_per_s: 1e9, latency: 0.001 };
    /// // Six rounds of a millisecond and 25 MB.
    /// assert!((link.all_reduce(4, 100e6) - 6.0 * (0.001 + 0.025)).abs() < 1e-12);
    /// assert_eq!(link.all_reduce(1, 100e6), 0.0);
    /// ```
    pub fn all_reduce(&self, ranks: usize, bytes: f64) -> f64 {
        rounds(ranks) * (self.latency + bytes / ranks.max(1) as f64 / self.bytes_per_s)
    }

    /// The link that makes [`all_reduce`](Link::all_reduce) take what was measured: so many seconds for next to nothing, and
    /// so many for `bytes`. `None` of one rank, or if more bytes did not take longer.
    ///
    /// ```
    /// use candle_vision_distributed::Link;
    ///
    /// let link = Link { bytes_per_s: 1e9, latency: 0.001 };
    /// let (little, much) = (link.all_reduce(2, 0.0), link.all_reduce(2, 25e6));
    /// let found = Link::measured(2, little, (25e6, much)).expect("much takes longer");
    /// assert!((found.bytes_per_s / 1e9 - 1.0).abs() < 1e-9 && (found.latency - 0.001).abs() < 1e-12);
    /// ```
    pub fn measured(ranks: usize, little: f64, (bytes, much): (f64, f64)) -> Option<Self> {
        let seconds = (much - little) / rounds(ranks);
        let is_sound = ranks > 1 && seconds > 0.0 && little >= 0.0;
        is_sound.then(|| Self {
            bytes_per_s: bytes / ranks as f64 / seconds,
            latency: little / rounds(ranks),
        })
    }
}

/// Rounds of messages in which a ring sums and shares the sums.
fn rounds(ranks: usize) -> f64 {
    2.0 * ranks.saturating_sub(1) as f64
}

/// The bytes of buckets that hold rows of so many bytes, in the order in which they are pushed. See
/// [`Buckets`](crate::Buckets), where long rows of a few ranks go alone; here they count as part of a bucket.
///
/// ```
/// use candle_vision_distributed::bucket_bytes;
///
/// assert_eq!(bucket_bytes([3.0, 5.0, 1.0, 9.0, 2.0], 6.0), [8.0, 10.0, 2.0]);
/// ```
pub fn bucket_bytes(rows: impl IntoIterator<Item = f64>, full: f64) -> Vec<f64> {
    let (mut buckets, mut bucket) = (Vec::new(), 0.0);
    for bytes in rows {
        bucket += bytes;
        if bucket >= full {
            buckets.push(std::mem::take(&mut bucket));
        }
    }
    buckets.extend((bucket > 0.0).then_some(bucket));
    buckets
}

/// What one rank does in a step.
#[derive(Debug, Clone, PartialEq)]
pub struct StepWork {
    /// Seconds of a step of one rank alone.
    pub compute: f64,
    /// The share of them that the backward pass takes, `0.0..=1.0`.
    pub backward_share: f64,
    /// The bytes of the buckets of gradients, in the order in which the backward pass fills them.
    pub buckets: Vec<f64>,
}

/// A step of several ranks, as planned.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PlannedStep {
    /// Seconds of the step.
    pub seconds: f64,
    /// Seconds of its backward pass.
    pub backward: f64,
    /// Seconds of all its sums.
    pub all_reduce: f64,
    /// The part of these that no computation hides.
    pub exposed: f64,
}

impl StepWork {
    /// The step on so many ranks.
    ///
    /// The backward pass is taken to fill the buckets at an even pace, byte by byte. Buckets are summed one after the other, each
    /// as soon as it is full, while the pass goes on (Li et al. 2020, "PyTorch Distributed", section 3.2.3). The update begins
    /// when the pass and the last sum are done.
    ///
    /// ```
    /// use candle_vision_distributed::{Link, StepWork};
    ///
    /// let work = StepWork { compute: 0.3, backward_share: 0.5, buckets: vec![1e6; 4] };
    /// let slow = Link { bytes_per_s: 1e6, latency: 0.0 };
    /// let planned = work.on(2, &slow);
    /// assert!(planned.all_reduce > planned.backward && planned.seconds > 0.3);
    /// assert_eq!(work.on(1, &slow).seconds, 0.3);
    /// ```
    pub fn on(&self, ranks: usize, link: &Link) -> PlannedStep {
        let backward = self.compute * self.backward_share;
        let all: f64 = self.buckets.iter().sum();
        // Times count from the begin of the backward pass.
        let (mut filled, mut done, mut all_reduce) = (0.0, 0.0, 0.0);
        for &bytes in &self.buckets {
            filled += bytes;
            let full: f64 = backward * filled / all;
            let seconds = link.all_reduce(ranks, bytes);
            done = full.max(done) + seconds;
            all_reduce += seconds;
        }
        let exposed = if ranks > 1 { (done - backward).max(0.0) } else { 0.0 };
        PlannedStep { seconds: self.compute + exposed, backward, all_reduce, exposed }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-12, "{found} instead of {expected}");
    }

    /// By hand: a step of 300 ms with 200 ms of backward pass fills 100 MB by 100 ms and by 200 ms of it. Four ranks sum
    /// each in six rounds of 1 ms and 25 MB at 1 GB/s: 156 ms. The first is done at 256 ms, so the second begins then and is
    /// done at 412 ms: 212 ms after the pass.
    #[test]
    fn a_step_is_what_a_hand_computes() {
        let work = StepWork { compute: 0.3, backward_share: 2.0 / 3.0, buckets: vec![100e6; 2] };
        let planned = work.on(4, &Link { bytes_per_s: 1e9, latency: 0.001 });
        check(planned.backward, 0.2);
        check(planned.all_reduce, 0.312);
        check(planned.exposed, 0.212);
        check(planned.seconds, 0.512);
    }

    /// As above with ten times the speed: 6 * (1 + 2.5) = 21 ms for each, and only the last is not hidden.
    #[test]
    fn sums_hide_behind_the_backward_pass_but_for_the_last() {
        let work = StepWork { compute: 0.3, backward_share: 2.0 / 3.0, buckets: vec![100e6; 2] };
        let planned = work.on(4, &Link { bytes_per_s: 10e9, latency: 0.001 });
        check(planned.exposed, 0.021);
    }

    #[test]
    fn latency_grows_with_the_ranks_and_the_bytes_of_a_link_do_not() {
        let latency = Link { bytes_per_s: f64::INFINITY, latency: 1e-5 };
        check(latency.all_reduce(1024, 25e6), 2046.0 * 1e-5);
        let speed = Link { bytes_per_s: 1e9, latency: 0.0 };
        let (few, many) = (speed.all_reduce(64, 1e9), speed.all_reduce(1024, 1e9));
        assert!(few < many && many < 2.0, "{few} {many}");
    }

    #[test]
    fn what_was_not_measured_gives_no_link() {
        assert_eq!(Link::measured(1, 0.0, (1.0, 1.0)), None);
        assert_eq!(Link::measured(2, 0.5, (1.0, 0.5)), None);
    }

    #[test]
    fn a_step_without_gradients_takes_its_computation() {
        let work = StepWork { compute: 0.3, backward_share: 0.5, buckets: Vec::new() };
        let link = Link { bytes_per_s: 1.0, latency: 1.0 };
        assert_eq!(work.on(8, &link).seconds, 0.3);
    }
}
