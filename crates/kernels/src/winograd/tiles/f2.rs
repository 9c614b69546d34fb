//! F(2x2, 3x3): interpolated at 0, 1, -1 and infinity. The only multiplication is by one half.

use super::{Line, Tiles};
use crate::simd::Simd;

/// Two by two outputs from four by four inputs take 16 multiplications instead of 36.
#[derive(Debug, Clone, Copy)]
pub(in crate::winograd) struct F2;

impl Tiles for F2 {
    const OUTPUT: usize = 2;

    #[inline(always)]
    fn input<S: Simd>(s: S, d: Line<S::Vector>) -> Line<S::Vector> {
        let first = [s.sub(d[0], d[2]), s.add(d[1], d[2]), s.sub(d[2], d[1]), s.sub(d[1], d[3])];
        line(s, first)
    }

    #[inline(always)]
    fn output<S: Simd>(s: S, m: Line<S::Vector>) -> Line<S::Vector> {
        line(s, [s.add(m[0], s.add(m[1], m[2])), s.sub(s.sub(m[1], m[2]), m[3])])
    }

    #[inline(always)]
    fn output_gradient<S: Simd>(s: S, y: Line<S::Vector>) -> Line<S::Vector> {
        line(s, [y[0], s.add(y[0], y[1]), s.sub(y[0], y[1]), s.sub(s.splat(0.0), y[1])])
    }

    #[inline(always)]
    fn kernel<S: Simd>(s: S, g: Line<S::Vector>) -> Line<S::Vector> {
        let even = s.mul(s.splat(0.5), s.add(g[0], g[2]));
        let plus = s.mul_add(s.splat(0.5), g[1], even);
        let minus = s.mul_add(s.splat(-0.5), g[1], even);
        line(s, [g[0], plus, minus, g[2]])
    }

    #[inline(always)]
    fn kernel_gradient<S: Simd>(s: S, m: Line<S::Vector>) -> Line<S::Vector> {
        let half = s.splat(0.5);
        let (sum, difference) = (s.add(m[1], m[2]), s.sub(m[1], m[2]));
        line(s, [s.mul_add(half, sum, m[0]), s.mul(half, difference), s.mul_add(half, sum, m[3])])
    }
}

/// The values in use. The rest is never read.
#[inline(always)]
fn line<S: Simd, const N: usize>(s: S, values: [S::Vector; N]) -> Line<S::Vector> {
    let mut line = [s.splat(0.0); super::MAX_INPUT];
    line[..N].copy_from_slice(&values);
    line
}
