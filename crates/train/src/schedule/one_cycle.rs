//! One cycle: up to the highest rate and down to nearly nothing, step by step.

use std::f64::consts::PI;

use super::Anneal;

/// A checked [`ScheduleKind::OneCycleLr`](super::ScheduleKind::OneCycleLr) with nothing left open.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct OneCycle {
    pub(super) pct_start: f64,
    pub(super) anneal_strategy: Anneal,
    pub(super) div_factor: f64,
    pub(super) final_div_factor: f64,
    /// Steps of the whole run.
    pub(super) total_steps: usize,
}

impl OneCycle {
    /// The rate of a step of the run, from 0. Past the run's end it stays at its lowest.
    pub(super) fn lr(&self, max_lr: f64, step: usize) -> f64 {
        let first = max_lr / self.div_factor;
        let last = first / self.final_div_factor;
        let end = self.total_steps as f64 - 1.0;
        // PyTorch's peak is one step before the share of the run that is spent on the climb.
        let peak = (self.pct_start * self.total_steps as f64 - 1.0).max(0.0);
        let step = step as f64;
        if step < peak {
            self.between(first, max_lr, step / peak)
        } else if step < end {
            self.between(max_lr, last, (step - peak) / (end - peak))
        } else {
            last
        }
    }

    fn between(&self, from: f64, to: f64, share: f64) -> f64 {
        match self.anneal_strategy {
            Anneal::Cos => to + (from - to) / 2.0 * (1.0 + (PI * share).cos()),
            Anneal::Linear => from + (to - from) * share,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINEAR: OneCycle = OneCycle {
        pct_start: 0.5,
        anneal_strategy: Anneal::Linear,
        div_factor: 4.0,
        final_div_factor: 1.0,
        total_steps: 10,
    };

    #[track_caller]
    fn assert_rates(cycle: &OneCycle, expected: &[f64]) {
        for (step, expected) in expected.iter().enumerate() {
            let lr = cycle.lr(1.0, step);
            assert!((lr - expected).abs() < 1e-12, "step {step}: {lr}, expected {expected}");
        }
    }

    #[test]
    fn a_straight_cycle_has_two_straight_sides() {
        let up = [0.25, 0.4375, 0.625, 0.8125, 1.0];
        let down = [0.85, 0.7, 0.55, 0.4, 0.25, 0.25];
        assert_rates(&LINEAR, &[&up[..], &down].concat());
    }

    #[test]
    fn a_run_too_short_for_a_climb_begins_at_the_peak() {
        assert_rates(&OneCycle { total_steps: 2, ..LINEAR }, &[1.0, 0.25]);
        assert_rates(&OneCycle { total_steps: 1, ..LINEAR }, &[0.25]);
        assert_rates(&OneCycle { pct_start: 0.0, total_steps: 3, ..LINEAR }, &[1.0, 0.625, 0.25]);
    }
}
