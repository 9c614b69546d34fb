//! F(4x4, 3x3): interpolated at 0, ±A, ±B and infinity. A = 1/√2 and B = √2 replace the usual 1 and 2. That
//! costs nothing with fused multiply-add and halves the rounding error.

use super::{Line, Tiles};
use crate::simd::Simd;

const A: f32 = std::f32::consts::FRAC_1_SQRT_2;
const B: f32 = std::f32::consts::SQRT_2;
const A2: f32 = 0.5;
const B2: f32 = 2.0;
const A3: f32 = A2 * A;
const B3: f32 = B2 * B;

// `A2 * B2 = 1` is used below to save multiplications.

/// `1 / ∏ (A - p)` over the other finite points `p`. It is the same for -A.
const WEIGHT_A: f32 = 1.0 / (2.0 * A2 * (A2 - B2));
const WEIGHT_B: f32 = 1.0 / (2.0 * B2 * (B2 - A2));

/// Four by four outputs from six by six inputs take 36 multiplications instead of 144.
#[derive(Debug, Clone, Copy)]
pub(in crate::winograd) struct F4;

impl Tiles for F4 {
    const OUTPUT: usize = 4;

    #[inline(always)]
    fn input<S: Simd>(s: S, d: Line<S::Vector>) -> Line<S::Vector> {
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

    #[inline(always)]
    fn output<S: Simd>(s: S, m: Line<S::Vector>) -> Line<S::Vector> {
        let (sum_a, difference_a) = (s.add(m[1], m[2]), s.sub(m[1], m[2]));
        let (sum_b, difference_b) = (s.add(m[3], m[4]), s.sub(m[3], m[4]));
        let unused = s.splat(0.0);
        [
            s.add(m[0], s.add(sum_a, sum_b)),
            s.mul_add(s.splat(A), difference_a, s.mul(s.splat(B), difference_b)),
            s.mul_add(s.splat(A2), sum_a, s.mul(s.splat(B2), sum_b)),
            s.mul_add(s.splat(A3), difference_a, s.mul_add(s.splat(B3), difference_b, m[5])),
            unused,
            unused,
        ]
    }

    #[inline(always)]
    fn output_gradient<S: Simd>(s: S, y: Line<S::Vector>) -> Line<S::Vector> {
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

    #[inline(always)]
    fn kernel<S: Simd>(s: S, g: Line<S::Vector>) -> Line<S::Vector> {
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

    #[inline(always)]
    fn kernel_gradient<S: Simd>(s: S, m: Line<S::Vector>) -> Line<S::Vector> {
        let (sum_a, difference_a) = (s.add(m[1], m[2]), s.sub(m[1], m[2]));
        let (sum_b, difference_b) = (s.add(m[3], m[4]), s.sub(m[3], m[4]));
        let unused = s.splat(0.0);
        let odd_b = s.mul(s.splat(WEIGHT_B * B), difference_b);
        [
            s.mul_add(s.splat(WEIGHT_A), sum_a, s.mul_add(s.splat(WEIGHT_B), sum_b, m[0])),
            s.mul_add(s.splat(WEIGHT_A * A), difference_a, odd_b),
            s.mul_add(
                s.splat(WEIGHT_A * A2),
                sum_a,
                s.mul_add(s.splat(WEIGHT_B * B2), sum_b, m[5]),
            ),
            unused,
            unused,
            unused,
        ]
    }
}
