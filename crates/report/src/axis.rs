//! Axes: their ranges, ticks and labels.

/// A range of values with its ticks.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Axis {
    low: f64,
    high: f64,
    ticks: Vec<f64>,
    log: bool,
}

impl Axis {
    /// Epochs from 0 (the start) to `last`. Ticks are whole numbers.
    pub(crate) fn epochs(last: usize, most_ticks: usize) -> Self {
        let last = last.max(1);
        let step = (1..).map(nice_integer).find(|step| last / step <= most_ticks).unwrap_or(last);
        let ticks = (0..=last).step_by(step).map(|epoch| epoch as f64).collect();
        // A margin, so that the marks at the end are not cut off.
        let room = 0.025 * last as f64;
        Self { low: -room, high: last as f64 + room, ticks, log: false }
    }

    /// A range that contains `low..=high` and ends at round numbers. It never exceeds `limits`.
    pub(crate) fn linear(low: f64, high: f64, limits: (f64, f64)) -> Self {
        let (low, high) = widened(low, high, limits);
        let step = nice_step((high - low) / 7.0);
        let first = (low / step).floor();
        let last = (high / step).ceil();
        // Multiplying the count keeps rounding errors from adding up.
        let ticks = (0..=(last - first) as usize).map(|i| (first + i as f64) * step);
        let ticks: Vec<f64> =
            ticks.filter(|tick| *tick >= limits.0 - 1e-9 && *tick <= limits.1 + 1e-9).collect();
        Self {
            low: (first * step).max(limits.0),
            high: (last * step).min(limits.1),
            ticks,
            log: false,
        }
    }

    /// A logarithmic range around `low..=high`. Both must be positive.
    pub(crate) fn log(low: f64, high: f64) -> Self {
        let (low, high) = (low / 1.5, high * 1.5);
        let decades = (low.log10().floor() as i32)..=(high.log10().ceil() as i32);
        let within = |tick: &f64| (low..=high).contains(tick);
        // Parsed from text, because 10f64.powi(-4) is not 1e-4.
        let ticks = |factors: &[u8]| -> Vec<f64> {
            let of_decade = |decade: i32| {
                factors.iter().filter_map(move |factor| format!("{factor}e{decade}").parse().ok())
            };
            decades.clone().flat_map(of_decade).filter(within).collect()
        };
        let tens = ticks(&[1]);
        let ticks = if tens.len() > 3 { tens } else { ticks(&[1, 2, 5]) };
        Self { low, high, ticks, log: true }
    }

    pub(crate) fn ticks(&self) -> &[f64] {
        &self.ticks
    }

    /// Position of `value` on the axis: 0 at the low end, 1 at the high end.
    pub(crate) fn position(&self, value: f64) -> f64 {
        if self.log {
            (value / self.low).ln() / (self.high / self.low).ln()
        } else {
            (value - self.low) / (self.high - self.low)
        }
    }

    /// The text at a tick. It has as many digits as the step between ticks needs.
    pub(crate) fn label(&self, tick: f64) -> String {
        let largest = self.ticks.iter().fold(0f64, |largest, tick| largest.max(tick.abs()));
        if tick == 0.0 {
            return "0".to_owned();
        }
        if self.log || !(0.01..1e5).contains(&largest) {
            return scientific(tick);
        }
        let step = match self.ticks.as_slice() {
            [first, second, ..] => second - first,
            _ => 1.0,
        };
        let decimals = (-step.log10() - 1e-9).ceil().clamp(0.0, 6.0) as usize;
        format!("{tick:.decimals$}")
    }
}

/// Scientific notation such as `2.5e-4`: at most three digits, no trailing zeros.
pub(crate) fn scientific(value: f64) -> String {
    let text = format!("{value:.2e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let digits = digits.trim_end_matches('0').trim_end_matches('.');
    format!("{digits}e{exponent}")
}

/// The range with a margin, as far as the limits allow one. It always has an extent above 0.
fn widened(low: f64, high: f64, limits: (f64, f64)) -> (f64, f64) {
    let extent = high - low;
    // A flat curve needs an axis too. With a smaller range the labels would need too many digits.
    let room = if extent > 1e-3 * high.abs() { 0.04 * extent } else { 0.1 * high.abs().max(1e-6) };
    let within = |value: f64| value.clamp(limits.0, limits.1);
    match (within(low - room), within(high + room)) {
        (low, high) if low < high => (low, high),
        // Values beyond their limits are the caller's mistake, but the drawing should not fail for it.
        (end, _) if end + 1.0 <= limits.1 => (end, end + 1.0),
        (end, _) => (end - 1.0, end),
    }
}

/// The smallest number of the form 1, 2 or 5 times a power of ten that is at least `step`.
fn nice_step(step: f64) -> f64 {
    let magnitude = 10f64.powf(step.log10().floor());
    let factor = [1.0, 2.0, 5.0].into_iter().find(|factor| factor * magnitude >= step * 0.999);
    factor.unwrap_or(10.0) * magnitude
}

/// 1, 2, 5, 10, 20, 50, ...
fn nice_integer(count: u32) -> usize {
    let digit = [1, 2, 5][(count as usize - 1) % 3];
    digit * 10usize.saturating_pow((count - 1) / 3)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(axis: &Axis) -> Vec<String> {
        axis.ticks().iter().map(|tick| axis.label(*tick)).collect()
    }

    #[test]
    fn epochs_are_whole_numbers() {
        assert_eq!(labels(&Axis::epochs(1, 10)), ["0", "1"]);
        assert_eq!(labels(&Axis::epochs(5, 10)), ["0", "1", "2", "3", "4", "5"]);
        assert_eq!(labels(&Axis::epochs(25, 10)), ["0", "5", "10", "15", "20", "25"]);
        assert_eq!(labels(&Axis::epochs(0, 10)), ["0", "1"]);
        let many = Axis::epochs(12_345, 10);
        assert!(many.ticks().len() <= 11, "{many:?}");
    }

    #[test]
    fn linear_axes_hold_their_values_and_end_at_round_numbers() {
        let axis = Axis::linear(0.31, 0.78, (0.0, f64::INFINITY));
        assert_eq!(
            labels(&axis),
            ["0.2", "0.3", "0.4", "0.5", "0.6", "0.7", "0.8"].map(String::from)[..].to_vec()
        );
        for value in [0.31, 0.78] {
            assert!((0.0..=1.0).contains(&axis.position(value)));
        }
    }

    #[test]
    fn limits_are_kept() {
        let axis = Axis::linear(62.0, 100.0, (0.0, 100.0));
        assert_eq!(axis.position(100.0), 1.0);
        assert_eq!(labels(&axis).last().map(String::as_str), Some("100"));
    }

    #[test]
    fn a_flat_curve_has_an_axis() {
        for value in [0.0, 0.5, 1.0, 1e-9, 1e30] {
            let axis = Axis::linear(value, value, (0.0, f64::INFINITY));
            let position = axis.position(value);
            assert!((0.0..=1.0).contains(&position), "{value}: {axis:?}");
            assert!(axis.ticks().len() >= 2, "{value}: {axis:?}");
        }
    }

    #[test]
    fn values_beyond_the_limits_still_give_an_axis() {
        for (low, high) in [(-3.0, -2.0), (200.0, 300.0), (-10.0, 1e300)] {
            let axis = Axis::linear(low, high, (0.0, 100.0));
            let finite = axis.ticks().iter().all(|tick| tick.is_finite());
            assert!(finite && !axis.ticks().is_empty(), "{low}..{high}: {axis:?}");
            assert!(axis.position(50.0).is_finite());
        }
    }

    #[test]
    fn logarithmic_ticks_are_1_2_5_or_tens() {
        assert_eq!(labels(&Axis::log(1e-4, 1e-3)), ["1e-4", "2e-4", "5e-4", "1e-3"]);
        assert_eq!(labels(&Axis::log(1e-6, 1e-2)), ["1e-6", "1e-5", "1e-4", "1e-3", "1e-2"]);
        let axis = Axis::log(1e-4, 1e-2);
        assert!((axis.position(1e-3) - 0.5).abs() < 1e-9);
    }

    #[test]
    fn small_numbers_are_scientific() {
        assert_eq!(scientific(2.5e-4), "2.5e-4");
        assert_eq!(scientific(0.000_300_000_000_000_000_03), "3e-4");
        let axis = Axis::linear(0.0, 1e-3, (0.0, f64::INFINITY));
        assert_eq!(labels(&axis)[..2], ["0", "2e-4"]);
    }
}
