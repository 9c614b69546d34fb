//! The error function without branches or calls, so that loops over it become vectors.

use super::exp::exp;

/// From here on the second polynomial is used.
pub(super) const CUT: f32 = 0.93;

/// From here on the result is 1.
pub(super) const END: f32 = 3.95;

/// The coefficients of `erf(x) / x - 1` in `x * x` up to [`CUT`], the highest power first.
pub(super) const NEAR: [f32; 6] = [
    -5.953_657e-4,
    4.985_924_3e-3,
    -2.676_170_9e-2,
    1.128_168_26e-1,
    -3.761_248e-1,
    1.283_791_5e-1,
];

/// The coefficients of `ln(1 - erf(x))` in `x` between [`CUT`] and [`END`].
pub(super) const FAR: [f32; 8] = [
    -2.115_700_4e-5,
    4.351_792e-4,
    -4.174_536_6e-3,
    2.512_857_9e-2,
    -1.082_942_5e-1,
    -6.333_34e-1,
    -1.129_521_3,
    1.760_110_9e-4,
];

/// `2 / sqrt(pi)` times the integral of `exp(-t * t)` from 0 to `x`, accurate to 2 units in the last place.
///
/// Both polynomials were fitted for the smallest largest error, relative to the result.
#[inline(always)]
pub(super) fn erf(x: f32) -> f32 {
    let (size, square) = (x.abs(), x * x);
    // Written out, because the compiler leaves a loop in here when the caller is long, and then the caller's
    // loop does not become vectors.
    let [a, b, c, d, e, f] = NEAR;
    let near = ((((a * square + b) * square + c) * square + d) * square + e) * square + f;
    let near = x + x * near;
    // A NaN fails the comparison and so stays NaN.
    let t = if size > END { END } else { size };
    let [a, b, c, d, e, f, g, h] = FAR;
    let far = ((((((a * t + b) * t + c) * t + d) * t + e) * t + f) * t + g) * t + h;
    let far = (1.0 - exp(far)).copysign(x);
    if size < CUT { near } else { far }
}

#[cfg(test)]
mod tests {
    use super::erf;

    #[test]
    fn is_near_the_exact_value_everywhere() {
        let mut worst = 0f64;
        for i in -60_000..=60_000 {
            let x = i as f32 * 1e-4;
            let exact = libm::erf(f64::from(x));
            let size = exact.abs() as f32;
            let unit = f64::from(size.next_up() - size);
            worst = worst.max((f64::from(erf(x)) - exact).abs() / unit);
        }
        assert!(worst < 2.0, "{worst} units in the last place");
    }

    #[test]
    fn ends_as_it_should() {
        assert_eq!([erf(f32::INFINITY), erf(f32::NEG_INFINITY)], [1.0, -1.0]);
        assert_eq!([erf(100.0), erf(-100.0)], [1.0, -1.0]);
        assert!(erf(f32::NAN).is_nan());
        assert!(erf(0.0) == 0.0 && erf(-0.0).is_sign_negative());
    }
}
