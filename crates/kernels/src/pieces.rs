//! Splitting of work into pieces that depend on sizes alone, never on how many threads there are, so
//! that the same input gives the same bits on any machine.

use std::ops::Range;

/// Elements of a piece: small enough that what a task wrote a moment ago is still in the nearest
/// cache, large enough that handing out tasks costs nothing beside the work.
pub(crate) const PIECE: usize = 4096;

/// How many rows of `row_len` elements make a piece; at least one.
pub(crate) fn rows_per_piece(row_len: usize) -> usize {
    (PIECE / row_len.max(1)).max(1)
}

/// Splits `0..len` into the fewest ranges of at most `max` elements, as even as they can be.
pub(crate) fn even_ranges(len: usize, max: usize) -> Vec<Range<usize>> {
    split(len, len.div_ceil(max.max(1)))
}

/// Splits `0..len` into `parts` ranges (fewer if `len` is smaller) whose lengths differ by one at most.
pub(crate) fn split(len: usize, parts: usize) -> Vec<Range<usize>> {
    let parts = parts.min(len);
    (0..parts).map(|part| part * len / parts..(part + 1) * len / parts).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_cover_everything_once_and_are_even() {
        for len in [0, 1, 2, 7, 64, 100] {
            for max in [1, 3, 64, 1000] {
                let ranges = even_ranges(len, max);
                let mut next = 0;
                for range in &ranges {
                    assert_eq!(range.start, next);
                    assert!(range.len() <= max);
                    next = range.end;
                }
                assert_eq!(next, len);
                let lengths = || ranges.iter().map(Range::len);
                let spread = lengths().max().unwrap_or(0) - lengths().min().unwrap_or(0);
                assert!(spread <= 1, "{len} by {max}: {ranges:?}");
            }
        }
    }
}
