//! Splits work into pieces by sizes alone, never by the number of threads. So the same input gives the same
//! bits on any machine.

use std::ops::Range;

/// Number of elements of a piece. It is small enough that recent writes of a task are still in the nearest
/// cache. It is large enough that handing out tasks costs nothing compared with the work.
pub(crate) const PIECE: usize = 4096;

/// Number of rows of `row_len` elements per piece, at least one.
pub(crate) fn rows_per_piece(row_len: usize) -> usize {
    (PIECE / row_len.max(1)).max(1)
}

/// Splits `0..len` into as few ranges of at most `max` elements as possible, as evenly as possible.
pub(crate) fn even_ranges(len: usize, max: usize) -> Vec<Range<usize>> {
    split(len, len.div_ceil(max.max(1)))
}

/// Splits `0..len` into `parts` ranges (fewer if `len` is smaller). Their lengths differ by at most one.
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
