//! Converts coefficients to samples with libjpeg's accurate integer transform, bit by bit.

mod reduced;

use super::headers::Component;

/// The samples of one component.
pub(super) struct Samples {
    pub(super) width: usize,
    pub(super) height: usize,
    /// Number of samples in a row of a block.
    side: usize,
    /// Number of samples from one row to the next, including padding.
    stride: usize,
    values: Vec<u8>,
}

impl Samples {
    /// The samples of a component, before its blocks are there.
    pub(super) fn new(component: &Component) -> Self {
        let Component { side, width, height, columns, rows, .. } = *component;
        let stride = columns * side;
        Self { width, height, side, stride, values: vec![0; stride * rows * side] }
    }

    /// Transforms the blocks of a row, whose quantisation table is `table`.
    pub(super) fn put_row(&mut self, row: usize, blocks: &[[i16; 64]], table: &[u16; 64]) {
        let (stride, side) = (self.stride, self.side);
        let values = &mut self.values[row * side * stride..][..side * stride];
        pulp::Arch::new().dispatch(Blocks { blocks, table, side, stride, values });
    }

    /// Row `y` without its padding. Below the last row, the last row.
    pub(super) fn row(&self, y: usize) -> &[u8] {
        &self.values[y.min(self.height - 1) * self.stride..][..self.width]
    }
}

/// A transform of a block to `AREA` samples, row by row.
///
/// It is no function that is passed on, because a call of such a function may be compiled without the instructions of the
/// machine.
trait Inverse<const AREA: usize> {
    fn samples(block: &[i16; 64], table: &[u16; 64]) -> [u8; AREA];
}

/// A block in its full size.
struct Eight;

impl Inverse<64> for Eight {
    #[inline(always)]
    fn samples(block: &[i16; 64], table: &[u16; 64]) -> [u8; 64] {
        inverse_dct(block, table)
    }
}

/// The transform of a row of blocks, compiled for the instructions of the machine.
struct Blocks<'a> {
    blocks: &'a [[i16; 64]],
    table: &'a [u16; 64],
    /// Samples in a row of a block.
    side: usize,
    /// Samples in a row of all blocks.
    stride: usize,
    values: &'a mut [u8],
}

impl pulp::WithSimd for Blocks<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) {
        match self.side {
            4 => self.write::<reduced::Four, 4, 16>(),
            2 => self.write::<reduced::Two, 2, 4>(),
            1 => self.write::<reduced::One, 1, 1>(),
            _ => self.write::<Eight, 8, 64>(),
        }
    }
}

impl Blocks<'_> {
    /// Transforms each block to `SIDE` rows of `SIDE` samples, `AREA` in all.
    #[inline(always)]
    fn write<T: Inverse<AREA>, const SIDE: usize, const AREA: usize>(self) {
        for (column, block) in self.blocks.iter().enumerate() {
            let samples = T::samples(block, self.table);
            let samples = samples.as_chunks::<SIDE>().0;
            for (row, samples) in self.values.chunks_exact_mut(self.stride).zip(samples) {
                row[column * SIDE..][..SIDE].copy_from_slice(samples);
            }
        }
    }
}

/// Converts a block to samples, row by row. This is `jidctint.c` of libjpeg 6b: the algorithm of Loeffler,
/// Ligtenberg and Moschytz with 13 fractional bits. Sums wrap, which happens only in damaged files.
#[inline(always)]
fn inverse_dct(block: &[i16; 64], table: &[u16; 64]) -> [u8; 64] {
    if block[1..].iter().all(|&coefficient| coefficient == 0) {
        let mean = i32::from(block[0]).wrapping_mul(i32::from(table[0])).wrapping_shl(2);
        let value = (mean.wrapping_shl(13).wrapping_add(1 << 17)) >> 18;
        return [value.saturating_add(128).clamp(0, 255) as u8; 64];
    }
    let mut values = [0_i32; 64];
    for ((value, &coefficient), &step) in values.iter_mut().zip(block).zip(table) {
        *value = i32::from(coefficient).wrapping_mul(i32::from(step));
    }
    // Each pass computes eight columns, or eight rows, at once.
    let columns = transposed(&one_dimension::<11>(&values));
    let rows = one_dimension::<18>(&columns);
    transposed(&rows.map(|value| value.saturating_add(128).clamp(0, 255) as u8))
}

#[inline(always)]
fn transposed<T: Copy + Default>(values: &[T; 64]) -> [T; 64] {
    let mut transposed = [T::default(); 64];
    for y in 0..8 {
        for x in 0..8 {
            transposed[8 * x + y] = values[8 * y + x];
        }
    }
    transposed
}

/// One pass over eight columns. The result is divided by `2^SHIFT`, and halves are rounded up.
#[inline(always)]
fn one_dimension<const SHIFT: u32>(values: &[i32; 64]) -> [i32; 64] {
    use std::num::Wrapping as W;
    let mut result = [0; 64];
    for x in 0..8 {
        let input = |y: usize| W(values[8 * y + x]);
        let z1 = (input(2) + input(6)) * W(4433);
        let (t2, t3) = (z1 - input(6) * W(15137), z1 + input(2) * W(6270));
        let (t0, t1) = ((input(0) + input(4)) << 13, (input(0) - input(4)) << 13);
        let even = [t0 + t3, t1 + t2, t1 - t2, t0 - t3];

        let [t0, t1, t2, t3] = [input(7), input(5), input(3), input(1)];
        let z5 = (t0 + t2 + t1 + t3) * W(9633);
        let (z1, z2) = ((t0 + t3) * W(-7373), (t1 + t2) * W(-20995));
        let (z3, z4) = ((t0 + t2) * W(-16069) + z5, (t1 + t3) * W(-3196) + z5);
        let odd = [
            t3 * W(12299) + z1 + z4,
            t2 * W(25172) + z2 + z3,
            t1 * W(16819) + z2 + z4,
            t0 * W(2446) + z1 + z3,
        ];
        let round = W(1 << (SHIFT - 1));
        for i in 0..4 {
            result[8 * i + x] = (even[i] + odd[i] + round).0 >> SHIFT;
            result[8 * (7 - i) + x] = (even[i] - odd[i] + round).0 >> SHIFT;
        }
    }
    result
}
