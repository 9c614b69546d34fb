//! New vectors that are filled by all threads, without clearing the memory first.

use std::mem::MaybeUninit;

use rayon::prelude::*;

use super::float::Float;
use super::parallel::for_each_of;

/// A new vector of `len` elements made in pieces of `piece` over all threads.
///
/// `fill(i, piece)` gets the zeroed elements that begin at `i * piece`. Each piece is zeroed by the thread
/// that fills it, while it is in that core's cache. Clearing the whole vector first would send it through
/// memory twice, on one thread.
pub(crate) fn build<T, F>(len: usize, piece: usize, fill: F) -> Vec<T>
where
    T: Copy + Default + Send,
    F: Fn(usize, &mut [T]) + Sync,
{
    build_from(len, len, piece, fill)
}

/// As [`build`], for an input of `elements` elements in total.
pub(crate) fn build_from<T, F>(elements: usize, len: usize, piece: usize, fill: F) -> Vec<T>
where
    T: Copy + Default + Send,
    F: Fn(usize, &mut [T]) + Sync,
{
    let mut vector = Vec::with_capacity(len);
    if len > 0 {
        let pieces = vector.spare_capacity_mut()[..len].par_chunks_mut(piece);
        for_each_of(elements.max(len), pieces.enumerate(), |(i, piece)| fill(i, zeroed(piece)));
    }
    // SAFETY: the pieces cover `0..len`, and `zeroed` has written every element of each.
    unsafe { vector.set_len(len) };
    vector
}

/// As [`build`], with two vectors of equal length.
pub(crate) fn build_pair<A, B, F>(len: usize, piece: usize, fill: F) -> (Vec<A>, Vec<B>)
where
    A: Copy + Default + Send,
    B: Copy + Default + Send,
    F: Fn(usize, &mut [A], &mut [B]) + Sync,
{
    let (mut first, mut second) = (Vec::with_capacity(len), Vec::with_capacity(len));
    if len > 0 {
        let firsts = first.spare_capacity_mut()[..len].par_chunks_mut(piece);
        let seconds = second.spare_capacity_mut()[..len].par_chunks_mut(piece);
        let pairs = firsts.zip(seconds).enumerate();
        for_each_of(len, pairs, |(i, (first, second))| fill(i, zeroed(first), zeroed(second)));
    }
    // SAFETY: both vectors are cut alike, so the pairs of pieces cover `0..len` of each, and
    // `zeroed` has written every element of each piece.
    unsafe {
        first.set_len(len);
        second.set_len(len);
    }
    (first, second)
}

/// As [`build`], for a vector of `block`s. No piece crosses the border of a block.
///
/// `fill(i, j, piece)` gets the elements of block `i` that begin at `j * piece`.
pub(crate) fn build_blocks<T, F>(len: usize, block: usize, piece: usize, fill: F) -> Vec<T>
where
    T: Copy + Default + Send,
    F: Fn(usize, usize, &mut [T]) + Sync,
{
    let mut vector = Vec::with_capacity(len);
    if len > 0 {
        let blocks = vector.spare_capacity_mut()[..len].par_chunks_mut(block);
        for_each_of(len, blocks.enumerate(), |(i, block)| {
            let pieces = block.par_chunks_mut(piece).enumerate();
            for_each_of(len, pieces, |(j, piece)| fill(i, j, zeroed(piece)));
        });
    }
    // SAFETY: the pieces cover `0..len`, and `zeroed` has written every element of each.
    unsafe { vector.set_len(len) };
    vector
}

/// A vector of `len` elements that `write` fills. They are not cleared first.
///
/// # Safety
/// `write` must set every element and read none before it has set it.
pub(crate) unsafe fn filled_by<T: Float>(len: usize, write: impl FnOnce(&mut [T])) -> Vec<T> {
    let mut output = Vec::with_capacity(len);
    // SAFETY: the capacity is `len`, any bits are a `T`, and the caller promises that `write` sets
    // each element before anything reads it.
    #[allow(clippy::uninit_vec, reason = "the caller promises to fill it")]
    unsafe {
        output.set_len(len);
    }
    if cfg!(debug_assertions) {
        // An element that a kernel forgets then shows up in every test.
        output.fill(T::narrow(f64::NAN));
    }
    write(&mut output);
    output
}

/// As [`filled_by`], in pieces of `piece` elements over all threads. `write(i, piece)` gets the elements
/// that begin at `i * piece`.
///
/// # Safety
/// `write` must set every element of its piece and read none before it has set it.
pub(crate) unsafe fn filled_in_pieces<T, F>(len: usize, piece: usize, write: F) -> Vec<T>
where
    T: Float,
    F: Fn(usize, &mut [T]) + Sync,
{
    // SAFETY: the pieces cover the vector, and the caller promises the same of each piece.
    unsafe {
        filled_by(len, |output| {
            let pieces = output.par_chunks_mut(piece).enumerate();
            for_each_of(len, pieces, |(i, piece)| write(i, piece));
        })
    }
}

fn zeroed<T: Copy + Default>(piece: &mut [MaybeUninit<T>]) -> &mut [T] {
    piece.fill(MaybeUninit::new(T::default()));
    // SAFETY: every element was written by the line above, and `MaybeUninit<T>` has `T`'s layout.
    unsafe { &mut *(std::ptr::from_mut(piece) as *mut [T]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_cover_the_vector_once_and_in_place() {
        for (len, piece) in [(0, 3), (1, 3), (3, 3), (10, 3), (12, 3)] {
            let built = build(len, piece, |i, out: &mut [u32]| {
                for (k, out) in out.iter_mut().enumerate() {
                    *out += (i * piece + k) as u32;
                }
            });
            assert_eq!(built, (0..len as u32).collect::<Vec<_>>(), "{len} in pieces of {piece}");
        }
    }

    #[test]
    fn pieces_that_are_not_cleared_lie_in_place_too() {
        let write = |i: usize, piece: &mut [f32]| piece.fill(i as f32);
        // SAFETY: `fill` sets every element.
        let filled = unsafe { filled_in_pieces(5, 2, write) };
        assert_eq!(filled, [0.0, 0.0, 1.0, 1.0, 2.0]);
    }

    #[test]
    fn blocks_start_a_new_piece() {
        let built = build_blocks(10, 5, 2, |i, j, out| out.fill(10 * i + j));
        assert_eq!(built, [0, 0, 1, 1, 2, 10, 10, 11, 11, 12]);
    }

    #[test]
    fn pairs_walk_in_step() {
        let (a, b) = build_pair(5, 2, |i, a: &mut [u8], b: &mut [u16]| {
            a.fill(i as u8);
            b.fill(i as u16 * 10);
        });
        assert_eq!(a, [0, 0, 1, 1, 2]);
        assert_eq!(b, [0, 0, 10, 10, 20]);
    }
}
