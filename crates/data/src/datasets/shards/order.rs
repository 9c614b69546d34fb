//! The order of an epoch over shards: shards in random order, and samples in random order within a window.

use std::ops::Range;

use crate::random::{self, Purpose};

/// A random order of the samples of `blocks` that reads almost sequentially.
///
/// The blocks are shuffled. Their samples, one block after the other, go through a window of `window` places: each
/// sample takes a random place, and the sample that was there is next. So a reader meets at most the blocks of one window
/// at a time. The order depends only on the arguments.
pub(in crate::datasets) fn windowed(
    blocks: &[Range<usize>],
    window: usize,
    seed: u64,
    epoch: usize,
) -> Vec<usize> {
    windowed_of_ranks(blocks, window, seed, epoch, 1).pop().unwrap_or_default()
}

/// Such an order for each of `ranks` processes. Each gets blocks of its own, other ones in every epoch; only the block
/// at the border between two ranks may be shared, so that their numbers of samples differ by at most one.
pub(in crate::datasets) fn windowed_of_ranks(
    blocks: &[Range<usize>],
    window: usize,
    seed: u64,
    epoch: usize,
    ranks: usize,
) -> Vec<Vec<usize>> {
    let rng = &mut random::stream(seed, Purpose::Shuffle, epoch as u64);
    let mut blocks: Vec<Range<usize>> = blocks.to_vec();
    random::shuffle(rng, &mut blocks);
    let count: usize = blocks.iter().map(ExactSizeIterator::len).sum();
    let mut samples = blocks.into_iter().flatten();
    let order = |rank: usize| {
        let own = count / ranks + usize::from(rank < count % ranks);
        through_window(samples.by_ref().take(own), window, rng)
    };
    (0..ranks).map(order).collect()
}

fn through_window(
    samples: impl Iterator<Item = usize>,
    window: usize,
    rng: &mut random::Generator,
) -> Vec<usize> {
    let (mut order, mut places) = (Vec::with_capacity(samples.size_hint().0), Vec::new());
    for index in samples {
        if places.len() < window.max(1) {
            places.push(index);
            continue;
        }
        let place = random::below(rng, places.len());
        order.push(std::mem::replace(&mut places[place], index));
    }
    random::shuffle(rng, &mut places);
    order.append(&mut places);
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_sample_comes_once_and_near_its_block() {
        let blocks: Vec<Range<usize>> =
            (0..10).map(|block| block * 100..(block + 1) * 100).collect();
        let order = windowed(&blocks, 50, 7, 3);
        let mut sorted = order.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..1000).collect::<Vec<_>>());
        assert_eq!(order, windowed(&blocks, 50, 7, 3));
        assert_ne!(order, windowed(&blocks, 50, 7, 4));
        assert_ne!(order, windowed(&blocks, 50, 8, 3));
        // A stretch of 100 samples has few blocks, where a full shuffle would have all ten.
        for stretch in order.chunks(100) {
            let mut blocks: Vec<usize> = stretch.iter().map(|index| index / 100).collect();
            blocks.sort_unstable();
            blocks.dedup();
            assert!(blocks.len() <= 8, "{blocks:?}");
        }
        assert!(order.windows(2).any(|pair| pair[0].abs_diff(pair[1]) > 50));
    }

    #[test]
    fn ranks_have_blocks_of_their_own() {
        let blocks: Vec<Range<usize>> =
            (0..10).map(|block| block * 101..(block + 1) * 101).collect();
        let orders = windowed_of_ranks(&blocks, 50, 7, 3, 4);
        let lengths: Vec<usize> = orders.iter().map(Vec::len).collect();
        assert_eq!(lengths, [253, 253, 252, 252]);
        let mut all = orders.concat();
        all.sort_unstable();
        assert_eq!(all, (0..1010).collect::<Vec<_>>());
        let blocks_of = |order: &Vec<usize>| -> Vec<usize> {
            let mut blocks: Vec<usize> = order.iter().map(|index| index / 101).collect();
            blocks.sort_unstable();
            blocks.dedup();
            blocks
        };
        let shared: usize = orders.iter().map(|order| blocks_of(order).len()).sum();
        // A border between two ranks lies within a block each time.
        assert_eq!(shared, 10 + 3);
        let later = windowed_of_ranks(&blocks, 50, 7, 4, 4);
        assert_ne!(blocks_of(&orders[0]), blocks_of(&later[0]));
        assert_eq!(windowed_of_ranks(&blocks, 50, 7, 3, 1), [windowed(&blocks, 50, 7, 3)]);
    }

    #[test]
    fn empty_and_single_blocks_have_orders() {
        assert!(windowed(&[], 5, 0, 0).is_empty());
        assert_eq!(windowed(std::slice::from_ref(&(3..4)), 0, 0, 0), [3]);
        assert_eq!(windowed(&[0..0, 0..2], 1, 0, 0).len(), 2);
    }
}
