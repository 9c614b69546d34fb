//! Blocks at a half, a quarter or an eighth of their size. This is `jidctred.c` of libjpeg 6b: an even number of the outputs
//! of the whole transform, from the coefficients that they need. Sums wrap, which happens only in damaged files.

use std::num::Wrapping as W;

use super::Inverse;

/// The coefficients in units of samples.
#[inline(always)]
fn scaled(block: &[i16; 64], table: &[u16; 64]) -> [i32; 64] {
    std::array::from_fn(|i| i32::from(block[i]).wrapping_mul(i32::from(table[i])))
}

/// A sample from a value around 0.
#[inline(always)]
fn sample(value: i32) -> u8 {
    value.saturating_add(128).clamp(0, 255) as u8
}

/// Divides by `2^SHIFT`, and rounds halves up.
#[inline(always)]
fn divided<const SHIFT: u32>(value: W<i32>) -> i32 {
    (value + W(1 << (SHIFT - 1))).0 >> SHIFT
}

/// Four samples of eight coefficients. The fifth has no part in them.
#[inline(always)]
fn four_of<const SHIFT: u32>(input: impl Fn(usize) -> i32) -> [i32; 4] {
    let input = |i: usize| W(input(i));
    let mean = input(0) << 14;
    let even = input(2) * W(15137) + input(6) * W(-6270);
    let [a, b, c, d] = [input(7), input(5), input(3), input(1)];
    let inner = a * W(-1730) + b * W(11893) + c * W(-17799) + d * W(8697);
    let outer = a * W(-4176) + b * W(-4926) + c * W(7373) + d * W(20995);
    let (first, second) = (mean + even, mean - even);
    [first + outer, second + inner, second - inner, first - outer].map(divided::<SHIFT>)
}

/// A block at half its size.
pub(super) struct Four;

impl Inverse<16> for Four {
    #[inline(always)]
    fn samples(block: &[i16; 64], table: &[u16; 64]) -> [u8; 16] {
        let values = scaled(block, table);
        let mut columns = [[0; 8]; 4];
        for x in [0, 1, 2, 3, 5, 6, 7] {
            let column = four_of::<12>(|y| values[8 * y + x]);
            columns.iter_mut().zip(column).for_each(|(row, value)| row[x] = value);
        }
        let mut samples = [0; 16];
        for (row, samples) in columns.iter().zip(samples.as_chunks_mut::<4>().0) {
            *samples = four_of::<19>(|x| row[x]).map(sample);
        }
        samples
    }
}

/// Two samples of the first and the odd ones of eight coefficients.
#[inline(always)]
fn two_of<const SHIFT: u32>(input: impl Fn(usize) -> i32) -> [i32; 2] {
    let input = |i: usize| W(input(i));
    let mean = input(0) << 15;
    let odd = input(7) * W(-5906) + input(5) * W(6967) + input(3) * W(-10426) + input(1) * W(29692);
    [mean + odd, mean - odd].map(divided::<SHIFT>)
}

/// A block at a quarter of its size.
pub(super) struct Two;

impl Inverse<4> for Two {
    #[inline(always)]
    fn samples(block: &[i16; 64], table: &[u16; 64]) -> [u8; 4] {
        let values = scaled(block, table);
        let mut columns = [[0; 8]; 2];
        for x in [0, 1, 3, 5, 7] {
            let column = two_of::<13>(|y| values[8 * y + x]);
            columns.iter_mut().zip(column).for_each(|(row, value)| row[x] = value);
        }
        let [upper, lower] = columns.map(|row| two_of::<20>(|x| row[x]).map(sample));
        [upper[0], upper[1], lower[0], lower[1]]
    }
}

/// A block at an eighth of its size: its mean.
pub(super) struct One;

impl Inverse<1> for One {
    #[inline(always)]
    fn samples(block: &[i16; 64], table: &[u16; 64]) -> [u8; 1] {
        let mean = i32::from(block[0]).wrapping_mul(i32::from(table[0]));
        [sample(divided::<3>(W(mean)))]
    }
}
