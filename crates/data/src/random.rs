//! Reproducible random numbers. Each draw comes from a generator that the caller passes in, never from shared
//! state. So the number of threads cannot change a result.
//!
//! The few distributions that transforms need are implemented here. A new version of `rand` may change its own
//! distributions, and with them published results.

mod gamma;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

pub use gamma::{beta, dirichlet};

/// The generator of the transforms: ChaCha with 8 rounds. It can be seeded and gives the same numbers on every
/// machine. `candle-vision-ops` uses the same generator.
pub type Generator = ChaCha8Rng;

/// The generator for this seed.
pub fn generator(seed: u64) -> Generator {
    Generator::seed_from_u64(seed)
}

/// The purpose of a stream. Equal seeds give unrelated numbers for different purposes.
#[derive(Clone, Copy)]
#[repr(u64)]
pub(crate) enum Purpose {
    Shuffle = 0x5348_5546_464C_4521,
    Augment = 0x4155_474D_454E_5421,
    Split = 0x5350_4C49_5420_2121,
    Draw = 0x4452_4157_2021_2121,
    Position = 0x504F_5349_5449_4F4E,
    Sample = 0x5341_4D50_4C45_2121,
    Batch = 0x4241_5443_4821_2121,
}

/// The generator of stream `number` for this seed and purpose.
pub(crate) fn stream(seed: u64, purpose: Purpose, number: u64) -> Generator {
    let mut rng = Generator::seed_from_u64(seed ^ purpose as u64);
    rng.set_stream(number);
    rng
}

/// The generator for the order of an epoch's samples.
pub fn of_epoch(seed: u64, epoch: usize) -> Generator {
    stream(seed, Purpose::Shuffle, epoch as u64)
}

/// The generator for the transforms of a sample in an epoch. `repeat` counts how often the sample came before in the
/// epoch.
pub(crate) fn of_sample(seed: u64, epoch: usize, index: usize, repeat: u32) -> Generator {
    // Each repeat has its own key. The stream's number stays that of the sample, because transforms read the epoch
    // from it. An odd factor gives different repeats different keys.
    let seed = seed ^ u64::from(repeat).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    stream(seed, Purpose::Augment, pair(epoch, index))
}

/// The generator for the batch transform at `position` of a list, for batch number `batch` of an epoch.
pub(crate) fn of_batch(seed: u64, epoch: usize, batch: usize, position: usize) -> Generator {
    at_position(&stream(seed, Purpose::Batch, pair(epoch, batch)), position)
}

/// One number of a stream for two small numbers.
pub(crate) fn pair(high: usize, low: usize) -> u64 {
    ((high as u64) << 32) | (low as u64 & INDEX)
}

/// The bits of a stream's number that hold the sample's index. Those above hold the epoch.
const INDEX: u64 = 0xFFFF_FFFF;

/// The epoch, from 0, whose sample this generator of a transform belongs to. It is 0 for a generator that
/// [`generator`] made.
pub fn epoch(rng: &Generator) -> usize {
    (rng.get_stream() >> 32) as usize
}

/// The generator that takes the place of `rng` in epoch 0. A transform draws from it what a sample keeps in
/// all epochs.
///
/// `rng` must be a transform's own generator ([`Stream::Position`](crate::transforms::Stream::Position)), from
/// which nothing has been drawn yet. The state of a shared one depends on the draws of other transforms.
pub fn in_first_epoch(rng: &Generator) -> Generator {
    let mut first = rng.clone();
    first.set_stream(rng.get_stream() & INDEX);
    first
}

/// The generator of the transform at `position` of a list, for a sample with the generator `rng`. It depends on
/// the whole state of `rng`. Its numbers are unrelated to those of `rng` and of other positions.
pub(crate) fn at_position(rng: &Generator, position: usize) -> Generator {
    // Each position has its own key. With only another stream number, it would coincide with the stream of
    // another sample.
    let (mut key, place) = (rng.get_seed(), Purpose::Position as u64 ^ position as u64);
    let (low, high) = (rng.get_word_pos() as u64, (rng.get_word_pos() >> 64) as u64);
    for (bytes, mixed) in key.as_chunks_mut::<8>().0.iter_mut().zip([place, low, high]) {
        *bytes = (u64::from_le_bytes(*bytes) ^ mixed).to_le_bytes();
    }
    let mut own = Generator::from_seed(key);
    own.set_stream(rng.get_stream());
    own
}

/// A uniform number in `[0, 1)`, with 53 bits.
pub fn unit(rng: &mut Generator) -> f64 {
    (rng.next_u64() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
}

/// A uniform number in `[low, high)`.
pub fn between(rng: &mut Generator, low: f64, high: f64) -> f64 {
    low + (high - low) * unit(rng)
}

/// A uniform number in `0..count`, or 0 if `count` is 0. The bias of the multiplication is below `count /
/// 2^64`.
pub fn below(rng: &mut Generator, count: usize) -> usize {
    ((u128::from(rng.next_u64()) * count as u128) >> 64) as usize
}

/// A normally distributed number with mean 0 and standard deviation 1, by the method of Box and Muller.
pub fn normal(rng: &mut Generator) -> f64 {
    // 1 minus the first number is above 0, so the logarithm is finite.
    let (radius, angle) = (1.0 - unit(rng), unit(rng));
    (-2.0 * radius.ln()).sqrt() * (std::f64::consts::TAU * angle).cos()
}

/// The place of one of these weights, which are not negative, with a probability in proportion to it. `None` if none is above
/// 0.
pub(crate) fn weighted(rng: &mut Generator, weights: &[f64]) -> Option<usize> {
    let mut at = unit(rng) * weights.iter().sum::<f64>();
    let drawn = weights.iter().position(|weight| {
        at -= weight;
        at < 0.0
    });
    // Rounding may put a draw at the very end.
    drawn.or_else(|| weights.iter().rposition(|weight| *weight > 0.0))
}

/// `true` with probability `p`.
pub fn chance(rng: &mut Generator, p: f64) -> bool {
    unit(rng) < p
}

/// Shuffles `items` in place by the Fisher-Yates algorithm.
pub fn shuffle<T>(rng: &mut Generator, items: &mut [T]) {
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
    fn positions_have_numbers_of_their_own() {
        let sample = stream(7, Purpose::Augment, 3);
        let first = |rng: &Generator, position| at_position(rng, position).next_u64();
        // As for the streams, results depend on this number.
        assert_eq!(first(&sample, 0), 14_874_767_772_668_149_114);
        let mut moved = sample.clone();
        unit(&mut moved);
        let other = stream(7, Purpose::Augment, 4);
        let mut numbers: Vec<u64> = [&sample, &moved, &other]
            .into_iter()
            .flat_map(|rng| [first(rng, 0), first(rng, 1), rng.clone().next_u64()])
            .collect();
        assert_eq!(first(&sample, 1), first(&sample, 1));
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), 9);
    }

    #[test]
    fn a_sample_keeps_the_numbers_of_its_first_epoch() {
        let own = |epoch, index| at_position(&of_sample(7, epoch, index, 0), 2);
        let kept = |epoch, index| in_first_epoch(&own(epoch, index)).next_u64();
        for at in [0, 1, 40] {
            assert_eq!(epoch(&own(at, 3)), at);
            assert_eq!(kept(at, 3), own(0, 3).next_u64());
            assert_ne!(kept(at, 3), kept(at, 4));
        }
        assert_ne!(own(0, 3).next_u64(), own(1, 3).next_u64());
        assert_eq!(epoch(&generator(5)), 0);
    }

    #[test]
    fn a_repeated_sample_has_other_numbers_in_the_same_epoch() {
        let draw = |repeat| of_sample(7, 2, 3, repeat).next_u64();
        assert_eq!(draw(0), stream(7, Purpose::Augment, (2 << 32) | 3).next_u64());
        assert!(draw(0) != draw(1) && draw(1) != draw(2));
        assert_eq!(epoch(&of_sample(7, 2, 3, 5)), 2);
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
