//! Random numbers that are values: each draw comes from a stream named by (seed, purpose, number),
//! never from shared state, so threads and their number cannot change a result. The few
//! distributions needed are written out here, because a new version of `rand` may change its own.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// What a stream is for; equal seeds give unrelated numbers for different purposes.
#[derive(Clone, Copy)]
#[repr(u64)]
pub(crate) enum Purpose {
    Shuffle = 0x5348_5546_464C_4521,
    Augment = 0x4155_474D_454E_5421,
    Split = 0x5350_4C49_5420_2121,
    Draw = 0x4452_4157_2021_2121,
}

/// The generator of stream `number` for one seed and purpose.
pub(crate) fn stream(seed: u64, purpose: Purpose, number: u64) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed ^ purpose as u64);
    rng.set_stream(number);
    rng
}

/// Uniform in `[0, 1)`, with 53 bits.
pub(crate) fn unit(rng: &mut ChaCha8Rng) -> f64 {
    (rng.next_u64() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
}

/// Uniform in `[low, high)`.
pub(crate) fn between(rng: &mut ChaCha8Rng, low: f64, high: f64) -> f64 {
    low + (high - low) * unit(rng)
}

/// Uniform in `0..count`; the bias of the multiplication is below `count / 2^64`.
pub(crate) fn below(rng: &mut ChaCha8Rng, count: usize) -> usize {
    ((u128::from(rng.next_u64()) * count as u128) >> 64) as usize
}

/// True with probability `p`.
pub(crate) fn chance(rng: &mut ChaCha8Rng, p: f64) -> bool {
    unit(rng) < p
}

/// Shuffles in place (Fisher-Yates).
pub(crate) fn shuffle<T>(rng: &mut ChaCha8Rng, items: &mut [T]) {
    for last in (1..items.len()).rev() {
        items.swap(last, below(rng, last + 1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checkpoints and published results lean on these numbers: they must never change.
    #[test]
    fn streams_are_pinned() {
        assert_eq!(stream(7, Purpose::Augment, 3).next_u64(), 9_824_338_155_800_914_773);
        let mut order = [0, 1, 2, 3, 4, 5, 6, 7];
        shuffle(&mut stream(7, Purpose::Shuffle, 3), &mut order);
        assert_eq!(order, [5, 2, 4, 1, 7, 0, 6, 3]);
    }

    #[test]
    fn streams_differ() {
        let first = |purpose, number| stream(7, purpose, number).next_u64();
        assert_ne!(first(Purpose::Augment, 3), first(Purpose::Augment, 4));
        assert_ne!(first(Purpose::Augment, 3), first(Purpose::Shuffle, 3));
    }

    #[test]
    fn shuffle_keeps_all_items_and_is_uniform_enough() {
        let mut rng = stream(0, Purpose::Shuffle, 0);
        let mut first_place = [0; 4];
        for _ in 0..4000 {
            let mut items = [0, 1, 2, 3];
            shuffle(&mut rng, &mut items);
            first_place[items[0]] += 1;
            items.sort_unstable();
            assert_eq!(items, [0, 1, 2, 3]);
        }
        // Expected 1000 each with a deviation of 27.
        assert!(first_place.iter().all(|count| (880..1120).contains(count)), "{first_place:?}");
    }

    #[test]
    fn draws_stay_in_their_ranges() {
        let mut rng = stream(1, Purpose::Draw, 0);
        for _ in 0..1000 {
            assert!((-2.0..3.0).contains(&between(&mut rng, -2.0, 3.0)));
            assert!(below(&mut rng, 5) < 5);
        }
        assert_eq!(below(&mut rng, 1), 0);
        assert!(!chance(&mut rng, 0.0) && chance(&mut rng, 1.0));
    }
}
