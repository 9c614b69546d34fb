//! The exponential function without branches or calls, so that loops over it become vectors.

/// `ln 2` in two parts. The product of the first one with an integer below 2^15 is exact.
pub(super) const LN_2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];

/// The coefficients `c` of `e^r = 1 + r + r^2 (c[0] r^5 + .. + c[5])` for `|r| <= ln 2 / 2`.
pub(super) const TAIL: [f32; 6] =
    [1.987_569_1e-4, 1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 5e-1];

/// The ends of the arguments whose results are neither infinite nor 0, with some room.
pub(super) const ARGUMENTS: [f32; 2] = [-104.5, 89.0];

/// `e^x`, accurate to 2 units in the last place if the result is a normal number. It is infinite above
/// about 88.73, 0 below about -103.98, and NaN for NaN.
///
/// The argument is split as `x = n * ln 2 + r` with an integer `n`. Then `e^x = 2^n * e^r` with
/// `|r| <= ln 2 / 2`. In this range a polynomial of degree 7 is as accurate as `f32` allows. Its
/// coefficients and the two parts of `ln 2` are those of Cephes (Moshier 1992,
/// <https://www.netlib.org/cephes/>).
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    /// Adding it leaves the rounded integer in the lowest bits.
    const ROUND: f32 = 12_582_912.0;
    // A NaN fails both comparisons and so stays NaN.
    let [least, most] = ARGUMENTS;
    let x = if x > most { most } else { x };
    let x = if x < least { least } else { x };
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = x - n * LN_2[0] - n * LN_2[1];
    // Written out, because the compiler leaves a loop in here when the caller is long, and then the caller's
    // loop does not become vectors.
    let [a, b, c, d, e, f] = TAIL;
    let tail = ((((a * r + b) * r + c) * r + d) * r + e) * r + f;
    let e_r = tail * r * r + r + 1.0;
    // At both ends 2^n is outside the range of exponents, but 2^(n/2) is inside it.
    let n = shifted.to_bits().wrapping_sub(ROUND.to_bits()) as i32;
    let half = n >> 1;
    e_r * power_of_two(half) * power_of_two(n - half)
}

/// `2^n` for `n` in `-126..=127`. For other `n` the result is unspecified.
#[inline(always)]
fn power_of_two(n: i32) -> f32 {
    f32::from_bits((n.wrapping_add(127) as u32) << 23)
}

#[cfg(test)]
mod tests {
    use super::exp;

    #[test]
    fn is_near_the_exact_value_everywhere() {
        let mut worst = 0f64;
        for i in -880_000..=887_200 {
            let x = i as f32 * 1e-4;
            let exact = f64::from(x).exp();
            let unit = f64::from((exact as f32).next_up() - exact as f32);
            worst = worst.max((f64::from(exp(x)) - exact).abs() / unit);
        }
        assert!(worst < 2.0, "{worst} units in the last place");
    }

    #[test]
    fn ends_as_it_should() {
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(-0.0), 1.0);
        assert_eq!(exp(88.8), f32::INFINITY);
        assert_eq!(exp(f32::INFINITY), f32::INFINITY);
        assert_eq!(exp(-104.1), 0.0);
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert!(exp(f32::NAN).is_nan());
        // Subnormal results, of which fewer bits are left.
        for x in [-87.5f32, -95.0, -103.0] {
            let exact = f64::from(x).exp();
            assert!((f64::from(exp(x)) - exact).abs() < 3e-45, "{x}");
        }
    }
}
