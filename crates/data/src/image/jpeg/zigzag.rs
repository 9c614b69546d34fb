//! The order in which the coefficients of a block are coded.

/// The position in a block, row by row, for each place in the order of coding.
pub(super) const ZIGZAG: [u8; 64] = [
    0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20,
    13, 6, 7, 14, 21, 28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59,
    52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63,
];

/// The position in a block for a place in the order of coding, below 64.
#[inline(always)]
pub(super) fn position(place: usize) -> usize {
    // The mask changes nothing. It shows the compiler that the result is below 64.
    usize::from(ZIGZAG[place] & 63)
}
