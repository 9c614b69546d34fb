//! Mirrors rows of RGB pixels.
//!
//! A compiler exchanges pixels of three bytes one by one. Here the bytes of eight pixels are turned round in three words, and then
//! red and blue change places. Several such groups are done at once.

/// Groups of [`GROUP`] pixels that are turned at once. As many fill a row of 224 pixels without a rest.
const GROUPS: usize = 4;
/// Words of eight bytes that hold a whole number of pixels.
const WORDS: usize = 3;
const GROUP: usize = WORDS * 8;

/// The words of one group.
type Group = [[u8; 8]; WORDS];

/// Mirrors each row of `row` pixels from left to right.
pub(super) fn mirror_rgb(pixels: &mut [[u8; 3]], row: usize) {
    pulp::Arch::new().dispatch(Rows { pixels, row });
}

struct Rows<'a> {
    pixels: &'a mut [[u8; 3]],
    row: usize,
}

impl pulp::WithSimd for Rows<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) {
        let mut before = vec![[0; 3]; self.row];
        for row in self.pixels.chunks_exact_mut(self.row) {
            before.copy_from_slice(row);
            mirror_row(&before, row);
        }
    }
}

#[inline(always)]
fn mirror_row(before: &[[u8; 3]], row: &mut [[u8; 3]]) {
    let (blocks, rest) = before.as_flattened().as_chunks::<{ GROUP * GROUPS }>();
    // What is left over at the end of the row comes first.
    let (first, blocks_after) = row.as_flattened_mut().split_at_mut(rest.len());
    first.copy_from_slice(rest);
    first.as_chunks_mut::<3>().0.reverse();
    let (blocks_after, _) = blocks_after.as_chunks_mut::<{ GROUP * GROUPS }>();
    for (block, after) in blocks.iter().rev().zip(blocks_after) {
        let (words, _) = block.as_chunks::<8>();
        let (groups, _) = words.as_chunks::<WORDS>();
        let Some(groups) = groups.first_chunk::<GROUPS>() else { continue };
        let (words, _) = after.as_chunks_mut::<8>();
        let (groups_after, _) = words.as_chunks_mut::<WORDS>();
        for (after, group) in groups_after.iter_mut().zip(mirrored(groups)) {
            *after = group;
        }
    }
}

#[inline(always)]
fn mirrored(groups: &[Group; GROUPS]) -> [Group; GROUPS] {
    // The bytes of all groups from the last to the first: blue, green and red of each pixel.
    let mut words = [[0; GROUPS]; WORDS];
    for (i, words) in words.iter_mut().enumerate() {
        *words = std::array::from_fn(|group| {
            u64::from_be_bytes(groups[GROUPS - 1 - group][WORDS - 1 - i])
        });
    }
    let mut mirrored = [[[0; 8]; WORDS]; GROUPS];
    for (group, mirrored) in mirrored.iter_mut().enumerate() {
        let [x, y, z] = [0, 1, 2].map(|i| words[i][group]);
        // The same bytes, two places nearer to the start and two nearer to the end.
        let nearer = [(x >> 16) | (y << 48), (y >> 16) | (z << 48), z >> 16];
        let farther = [x << 16, (y << 16) | (x >> 48), (z << 16) | (y >> 48)];
        for (i, word) in [x, y, z].into_iter().enumerate() {
            let [first, second, third] = [0, 1, 2].map(|channel| mask(i, channel));
            mirrored[i] =
                ((nearer[i] & first) | (word & second) | (farther[i] & third)).to_le_bytes();
        }
    }
    mirrored
}

/// The bytes of a channel in one of the words of a group.
const fn mask(word: usize, channel: usize) -> u64 {
    let (mut mask, mut byte) = (0, 0);
    while byte < 8 {
        if (8 * word + byte) % 3 == channel {
            mask |= 0xff << (8 * byte);
        }
        byte += 1;
    }
    mask
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_any_length_are_mirrored() {
        for (row, rows) in (1..=100).map(|row| (row, 3)).chain([(224, 2), (1000, 1)]) {
            let pixel = |i: usize| [i % 251, i * 7 % 253, i * 31 % 255].map(|value| value as u8);
            let pixels: Vec<[u8; 3]> = (0..row * rows).map(pixel).collect();
            let mut mirrored = pixels.clone();
            mirror_rgb(&mut mirrored, row);
            let mut expected = pixels;
            expected.chunks_exact_mut(row).for_each(|row| row.reverse());
            assert_eq!(mirrored, expected, "rows of {row}");
        }
    }
}
