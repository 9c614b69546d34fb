//! Confidence interval of a fraction.

/// The number of standard deviations around the mean that hold 95 % of a normal distribution.
const Z: f64 = 1.959_963_984_540_054;

/// The 95 % interval of a fraction that was measured as `right` of `total`, after Wilson (1927). Its ends
/// are in `0.0..=1.0` even if all or none are right, unlike those of the textbook's `p ± 1.96 s`.
///
/// Without data nothing is known: `total = 0` gives `(0.0, 1.0)`.
///
/// ```
/// let (low, high) = candle_vision_train::metrics::wilson_interval(145, 153);
/// assert!((low - 0.9002).abs() < 1e-4 && (high - 0.9733).abs() < 1e-4);
/// ```
pub fn wilson_interval(right: usize, total: usize) -> (f64, f64) {
    if total == 0 {
        return (0.0, 1.0);
    }
    let n = total as f64;
    let share = right as f64 / n;
    let spread = Z * Z / n;
    let center = share + spread / 2.0;
    let half = (spread * (share * (1.0 - share) + spread / 4.0)).sqrt();
    let end = |value: f64| (value / (1.0 + spread)).clamp(0.0, 1.0);
    (end(center - half), end(center + half))
}

#[cfg(test)]
mod tests {
    use super::*;

    // Of 10, none and all are the well-known 0..0.2775 and 0.7225..1.
    #[test]
    fn ends_stay_within_0_and_1() {
        for (right, total, low, high) in [
            (5, 10, 0.236_593_090_5, 0.763_406_909_5),
            (0, 10, 0.0, 0.277_532_799_9),
            (10, 10, 0.722_467_200_1, 1.0),
            (1, 1, 0.206_549_314_4, 1.0),
        ] {
            let found = wilson_interval(right, total);
            assert!((found.0 - low).abs() < 1e-9, "{right} of {total}: {found:?}");
            assert!((found.1 - high).abs() < 1e-9, "{right} of {total}: {found:?}");
        }
        assert_eq!(wilson_interval(0, 0), (0.0, 1.0));
    }
}
