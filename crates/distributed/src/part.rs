//! How things are shared out among ranks.

use std::ops::Range;

/// The part that `rank` of `ranks` gets of `count` things in a row. Parts are contiguous, in the order of ranks, and
/// their sizes differ by at most one, the larger first.
///
/// # Panics
/// If `rank` is not below `ranks`.
///
/// ```
/// use candle_vision_distributed::even_part;
///
/// assert_eq!([0, 1, 2].map(|rank| even_part(8, rank, 3)), [0..3, 3..6, 6..8]);
/// ```
pub fn even_part(count: usize, rank: usize, ranks: usize) -> Range<usize> {
    assert!(rank < ranks, "rank {rank} of {ranks}");
    let (size, larger) = (count / ranks, count % ranks);
    let start = rank * size + rank.min(larger);
    start..start + size + usize::from(rank < larger)
}

#[cfg(test)]
mod tests {
    use super::even_part;

    #[test]
    fn parts_follow_each_other_and_miss_nothing() {
        for count in 0..20 {
            for ranks in 1..7 {
                let parts: Vec<_> = (0..ranks).map(|rank| even_part(count, rank, ranks)).collect();
                let all: Vec<usize> = parts.iter().cloned().flatten().collect();
                assert_eq!(all, (0..count).collect::<Vec<_>>());
                let sizes = parts.iter().map(|part| part.len());
                assert!(sizes.clone().max().unwrap_or(0) - sizes.min().unwrap_or(0) <= 1);
            }
        }
    }
}
