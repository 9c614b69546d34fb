//! The transforms of F(4x4, 3x3) for one vector of channels.
//!
//! Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks" (2016): a tile of outputs is
//! `Aᵀ [(G g Gᵀ) ⊙ (Bᵀ d B)] A` for a kernel `g` and a tile of inputs `d`. The polynomials are
//! interpolated at 0, ±A, ±B and infinity. Taking A = 1/√2 and B = √2 in place of the usual 1 and 2
//! costs nothing with fused multiply-add and halves the rounding error.

use super::grid::{INPUT, OUTPUT};
use crate::cpu::simd::Simd;

/// Side of the kernel.
pub(super) const KERNEL: usize = 3;

const A: f32 = std::f32::consts::FRAC_1_SQRT_2;
const B: f32 = std::f32::consts::SQRT_2;
const A2: f32 = 0.5;
const B2: f32 = 2.0;
const A3: f32 = A2 * A;
const B3: f32 = B2 * B;

// `A2 * B2 = 1` is used below to leave out multiplications.

/// `1 / ∏ (A - p)` over the other finite points `p`; the same for -A.
const WEIGHT_A: f32 = 1.0 / (2.0 * A2 * (A2 - B2));
const WEIGHT_B: f32 = 1.0 / (2.0 * B2 * (B2 - A2));

/// `Bᵀ d`: inputs.
#[inline(always)]
fn input<S: Simd>(s: S, d: [S::Vector; INPUT]) -> [S::Vector; INPUT] {
    let even_a = s.mul_add(s.splat(-B2), d[2], d[4]);
    let odd_a = s.mul_add(s.splat(-B2), d[1], d[3]);
    let even_b = s.mul_add(s.splat(-A2), d[2], d[4]);
    let odd_b = s.mul_add(s.splat(-A2), d[1], d[3]);
    [
        s.mul_add(s.splat(-(A2 + B2)), d[2], s.add(d[0], d[4])),
        s.mul_add(s.splat(A), odd_a, even_a),
        s.mul_add(s.splat(-A), odd_a, even_a),
        s.mul_add(s.splat(B), odd_b, even_b),
        s.mul_add(s.splat(-B), odd_b, even_b),
        s.mul_add(s.splat(-(A2 + B2)), d[3], s.add(d[1], d[5])),
    ]
}

/// `Aᵀ m`: products to outputs.
#[inline(always)]
fn output<S: Simd>(s: S, m: [S::Vector; INPUT]) -> [S::Vector; OUTPUT] {
    let (sum_a, difference_a) = (s.add(m[1], m[2]), s.sub(m[1], m[2]));
    let (sum_b, difference_b) = (s.add(m[3], m[4]), s.sub(m[3], m[4]));
    [
        s.add(m[0], s.add(sum_a, sum_b)),
        s.mul_add(s.splat(A), difference_a, s.mul(s.splat(B), difference_b)),
        s.mul_add(s.splat(A2), sum_a, s.mul(s.splat(B2), sum_b)),
        s.mul_add(s.splat(A3), difference_a, s.mul_add(s.splat(B3), difference_b, m[5])),
    ]
}

/// `A y`: gradients of outputs to gradients of products.
#[inline(always)]
fn output_gradient<S: Simd>(s: S, y: [S::Vector; OUTPUT]) -> [S::Vector; INPUT] {
    let even_a = s.mul_add(s.splat(A2), y[2], y[0]);
    let odd_a = s.mul_add(s.splat(A2), y[3], y[1]);
    let even_b = s.mul_add(s.splat(B2), y[2], y[0]);
    let odd_b = s.mul_add(s.splat(B2), y[3], y[1]);
    [
        y[0],
        s.mul_add(s.splat(A), odd_a, even_a),
        s.mul_add(s.splat(-A), odd_a, even_a),
        s.mul_add(s.splat(B), odd_b, even_b),
        s.mul_add(s.splat(-B), odd_b, even_b),
        y[3],
    ]
}

/// `G g`: kernels.
#[inline(always)]
fn kernel<S: Simd>(s: S, g: [S::Vector; KERNEL]) -> [S::Vector; INPUT] {
    let even_a = s.mul(s.splat(WEIGHT_A), s.mul_add(s.splat(A2), g[2], g[0]));
    let even_b = s.mul(s.splat(WEIGHT_B), s.mul_add(s.splat(B2), g[2], g[0]));
    [
        g[0],
        s.mul_add(s.splat(WEIGHT_A * A), g[1], even_a),
        s.mul_add(s.splat(-WEIGHT_A * A), g[1], even_a),
        s.mul_add(s.splat(WEIGHT_B * B), g[1], even_b),
        s.mul_add(s.splat(-WEIGHT_B * B), g[1], even_b),
        g[2],
    ]
}

/// `Gᵀ m`: gradients of transformed kernels to gradients of kernels.
#[inline(always)]
fn kernel_gradient<S: Simd>(s: S, m: [S::Vector; INPUT]) -> [S::Vector; KERNEL] {
    let (sum_a, difference_a) = (s.add(m[1], m[2]), s.sub(m[1], m[2]));
    let (sum_b, difference_b) = (s.add(m[3], m[4]), s.sub(m[3], m[4]));
    [
        s.mul_add(s.splat(WEIGHT_A), sum_a, s.mul_add(s.splat(WEIGHT_B), sum_b, m[0])),
        s.mul_add(s.splat(WEIGHT_A * A), difference_a, s.mul(s.splat(WEIGHT_B * B), difference_b)),
        s.mul_add(s.splat(WEIGHT_A * A2), sum_a, s.mul_add(s.splat(WEIGHT_B * B2), sum_b, m[5])),
    ]
}

/// Declares the two-dimensional form of a transform: down the columns, then along the rows.
macro_rules! two_dimensional {
    ($(#[$doc:meta])* $name:ident, $transform:ident, $from:ident => $to:ident) => {
        $(#[$doc])*
        #[inline(always)]
        pub(super) fn $name<S: Simd>(
            simd: S,
            load: impl Fn(usize, usize) -> S::Vector,
            mut store: impl FnMut(usize, usize, S::Vector),
        ) {
            let zero = simd.splat(0.0);
            let mut half = [[zero; $from]; $to];
            for column in 0..$from {
                let mut values = [zero; $from];
                for (row, value) in values.iter_mut().enumerate() {
                    *value = load(row, column);
                }
                let values = $transform(simd, values);
                for row in 0..$to {
                    half[row][column] = values[row];
                }
            }
            for row in 0..$to {
                let values = $transform(simd, half[row]);
                for (column, &value) in values.iter().enumerate() {
                    store(row, column, value);
                }
            }
        }
    };
}

two_dimensional!(
    /// `Bᵀ d B`.
    input_tile, input, INPUT => INPUT
);
two_dimensional!(
    /// `Aᵀ m A`.
    output_tile, output, INPUT => OUTPUT
);
two_dimensional!(
    /// `A y Aᵀ`, the adjoint of [`output_tile`].
    output_gradient_tile, output_gradient, OUTPUT => INPUT
);
two_dimensional!(
    /// `G g Gᵀ`.
    kernel_tile, kernel, KERNEL => INPUT
);
two_dimensional!(
    /// `Gᵀ m G`, the adjoint of [`kernel_tile`].
    kernel_gradient_tile, kernel_gradient, INPUT => KERNEL
);
