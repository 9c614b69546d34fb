//! One cycle: up to the highest rate and down to nearly zero, step by step.

use std::f64::consts::PI;

use candle_vision_registry::Description;
use serde::{Deserialize, Serialize};

use super::{EpochEnd, Memory, RunLength, Schedule};
use crate::Result;
use crate::error::require;
use crate::parts::described;

/// Raises the rate from `lr / div_factor` to the optimizer's `lr`, then lowers it to the initial rate
/// divided by `final_div_factor`. This is one cycle over the whole run, and every training step has its own
/// rate (Smith and Topin 2017, <https://arxiv.org/abs/1708.07120>). The momentum does not change. It equals
/// PyTorch's `OneCycleLR` with `max_lr = lr` and `cycle_momentum = False`.
///
/// In a recipe: `schedule = { name = "one_cycle_lr" }`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OneCycleLr {
    #[serde(default = "default_pct_start")]
    pct_start: f64,
    #[serde(default)]
    anneal_strategy: Anneal,
    #[serde(default = "default_div_factor")]
    div_factor: f64,
    #[serde(default = "default_final_div_factor")]
    final_div_factor: f64,
}

/// How the rate goes from one value to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Anneal {
    /// Along half a cosine.
    #[default]
    Cos,
    /// Along a straight line.
    Linear,
}

fn default_pct_start() -> f64 {
    0.3
}

fn default_div_factor() -> f64 {
    25.0
}

fn default_final_div_factor() -> f64 {
    1e4
}

impl Default for OneCycleLr {
    fn default() -> Self {
        Self::new()
    }
}

impl OneCycleLr {
    /// PyTorch's defaults.
    pub fn new() -> Self {
        Self {
            pct_start: default_pct_start(),
            anneal_strategy: Anneal::Cos,
            div_factor: default_div_factor(),
            final_div_factor: default_final_div_factor(),
        }
    }

    /// Share of the run in which the rate rises, in `0.0..=1.0`. 0.3 by default.
    pub fn pct_start(self, pct_start: f64) -> Self {
        Self { pct_start, ..self }
    }

    /// The form of rise and fall. Half a cosine by default.
    pub fn anneal_strategy(self, anneal_strategy: Anneal) -> Self {
        Self { anneal_strategy, ..self }
    }

    /// The highest rate divided by the first. 25 by default.
    pub fn div_factor(self, div_factor: f64) -> Self {
        Self { div_factor, ..self }
    }

    /// The first rate divided by the last. 10000 by default.
    pub fn final_div_factor(self, final_div_factor: f64) -> Self {
        Self { final_div_factor, ..self }
    }

    /// The rate of a step of the run, from 0. After the run's end it stays at the lowest rate.
    fn lr(&self, max_lr: f64, step: usize, total_steps: usize) -> f64 {
        let first = max_lr / self.div_factor;
        let last = first / self.final_div_factor;
        let end = total_steps as f64 - 1.0;
        // PyTorch's peak is one step before the end of the rising share of the run.
        let peak = (self.pct_start * total_steps as f64 - 1.0).max(0.0);
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

impl Schedule for OneCycleLr {
    fn next(&self, end: &EpochEnd<'_>, _: &mut Memory) -> Result<f64> {
        Ok(end.lr)
    }

    fn describe(&self) -> Option<Description> {
        Some(self.clone().into())
    }

    fn lr_of_step(&self, base_lr: f64, step: usize, run: RunLength) -> Option<f64> {
        Some(self.lr(base_lr, step, run.epochs.saturating_mul(run.steps_per_epoch)))
    }

    fn depends_on_length(&self) -> bool {
        true
    }

    fn validate(&self, _: f64) -> Result<()> {
        let share = (0.0..=1.0).contains(&self.pct_start);
        require(share, "schedule.pct_start", self.pct_start, "in 0..=1")?;
        for (name, factor) in [
            ("schedule.div_factor", self.div_factor),
            ("schedule.final_div_factor", self.final_div_factor),
        ] {
            require(factor >= 1.0 && factor.is_finite(), name, factor, "at least 1")?;
        }
        Ok(())
    }
}

impl From<OneCycleLr> for Description {
    fn from(schedule: OneCycleLr) -> Self {
        described("one_cycle_lr", &schedule)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINEAR: OneCycleLr = OneCycleLr {
        pct_start: 0.5,
        anneal_strategy: Anneal::Linear,
        div_factor: 4.0,
        final_div_factor: 1.0,
    };

    #[track_caller]
    fn assert_rates(cycle: &OneCycleLr, total_steps: usize, expected: &[f64]) {
        for (step, expected) in expected.iter().enumerate() {
            let lr = cycle.lr(1.0, step, total_steps);
            assert!((lr - expected).abs() < 1e-12, "step {step}: {lr}, expected {expected}");
        }
    }

    #[test]
    fn a_straight_cycle_has_two_straight_sides() {
        let up = [0.25, 0.4375, 0.625, 0.8125, 1.0];
        let down = [0.85, 0.7, 0.55, 0.4, 0.25, 0.25];
        assert_rates(&LINEAR, 10, &[&up[..], &down].concat());
    }

    #[test]
    fn a_run_too_short_for_a_climb_begins_at_the_peak() {
        assert_rates(&LINEAR, 2, &[1.0, 0.25]);
        assert_rates(&LINEAR, 1, &[0.25]);
        assert_rates(&LINEAR.pct_start(0.0), 3, &[1.0, 0.625, 0.25]);
    }
}
