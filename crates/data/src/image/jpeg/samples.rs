//! Converts coefficients to samples with libjpeg's accurate integer transform, bit by bit.

use super::Reason;
use super::headers::Component;
use super::scans::{Plane, ZIGZAG};

/// The samples of one component.
pub(super) struct Samples {
    pub(super) width: usize,
    pub(super) height: usize,
    /// Number of samples from one row to the next, including padding.
    stride: usize,
    values: Vec<u8>,
}

impl Samples {
    /// Transforms the blocks of a component.
    pub(super) fn new(component: &Component, plane: &Plane) -> Result<Self, Reason> {
        let table = plane.table.ok_or("a quantisation table of it is missing")?;
        let stride = component.columns * 8;
        let mut values = vec![0; stride * component.rows * 8];
        let rows = values.chunks_exact_mut(stride * 8);
        for (blocks, rows) in plane.blocks.chunks_exact(component.columns).zip(rows) {
            for (column, block) in blocks.iter().enumerate() {
                let samples = inverse_dct(block, &table);
                for (row, samples) in rows.chunks_exact_mut(stride).zip(samples.as_chunks::<8>().0)
                {
                    row[column * 8..][..8].copy_from_slice(samples);
                }
            }
        }
        Ok(Self { width: component.width, height: component.height, stride, values })
    }

    /// Row `y` without its padding. Below the last row, the last row.
    pub(super) fn row(&self, y: usize) -> &[u8] {
        &self.values[y.min(self.height - 1) * self.stride..][..self.width]
    }
}

/// Converts a block to samples, row by row. This is `jidctint.c` of libjpeg 6b: the algorithm of Loeffler,
/// Ligtenberg and Moschytz with 13 fractional bits. Sums wrap, which happens only in damaged files.
fn inverse_dct(block: &[i16; 64], table: &[u16; 64]) -> [u8; 64] {
    let mut values = [0_i32; 64];
    for ((&place, &coefficient), &step) in ZIGZAG.iter().zip(block).zip(table) {
        values[place] = i32::from(coefficient).wrapping_mul(i32::from(step));
    }
    for x in 0..8 {
        let column: [i32; 8] = std::array::from_fn(|y| values[8 * y + x]);
        // Most columns of most blocks have only a mean, and some not even that.
        let scaled = if column[1..].iter().all(|&value| value == 0) {
            [column[0].wrapping_shl(2); 8]
        } else {
            one_dimension(column, 13 - 2)
        };
        for (y, value) in scaled.into_iter().enumerate() {
            values[8 * y + x] = value;
        }
    }
    let mut samples = [0; 64];
    for (row, samples) in values.as_chunks::<8>().0.iter().zip(samples.as_chunks_mut::<8>().0) {
        let scaled = one_dimension(*row, 13 + 2 + 3);
        *samples = scaled.map(|value| value.saturating_add(128).clamp(0, 255) as u8);
    }
    samples
}

/// One pass. The result is divided by `2^shift`, and halves are rounded up.
#[inline]
fn one_dimension(input: [i32; 8], shift: u32) -> [i32; 8] {
    use std::num::Wrapping as W;

    let input = input.map(W);
    let z1 = (input[2] + input[6]) * W(4433);
    let (t2, t3) = (z1 - input[6] * W(15137), z1 + input[2] * W(6270));
    let (t0, t1) = ((input[0] + input[4]) << 13, (input[0] - input[4]) << 13);
    let even = [t0 + t3, t1 + t2, t1 - t2, t0 - t3];

    let [t0, t1, t2, t3] = [input[7], input[5], input[3], input[1]];
    let z5 = (t0 + t2 + t1 + t3) * W(9633);
    let (z1, z2) = ((t0 + t3) * W(-7373), (t1 + t2) * W(-20995));
    let (z3, z4) = ((t0 + t2) * W(-16069) + z5, (t1 + t3) * W(-3196) + z5);
    let odd = [
        t3 * W(12299) + z1 + z4,
        t2 * W(25172) + z2 + z3,
        t1 * W(16819) + z2 + z4,
        t0 * W(2446) + z1 + z3,
    ];
    let round = W(1 << (shift - 1));
    std::array::from_fn(|i| {
        let value = if i < 4 { even[i] + odd[i] } else { even[7 - i] - odd[7 - i] };
        (value + round).0 >> shift
    })
}
