//! The results as text and as JSON.

mod cards;

use anyhow::{Context, Result};
use serde::Serialize;

use super::contestant::Limits;
use super::environment::Environment;
use super::jobs::Job;
use super::measurement::{Measurement, Summary, median};
use super::rounds::{Ended, Entry};
use super::table::Table;

/// All results of a call of the bench.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) environment: Environment,
    #[serde(flatten)]
    pub(super) limits: Limits,
    pub(super) runs: u16,
    pub(super) jobs: Vec<JobReport>,
}

/// The results of all sides for one job.
#[derive(Debug, Serialize)]
pub(super) struct JobReport {
    job: &'static str,
    what: &'static str,
    ours: Side,
    /// This project in other modes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ours_otherwise: Vec<Side>,
    /// One result per mode.
    pytorch: Vec<Side>,
    /// This project compared with PyTorch's fastest mode. `None` if either has no figures.
    comparison: Option<Comparison>,
}

/// The figures of one side, or the reason why there are none.
#[derive(Debug, Serialize)]
struct Side {
    #[serde(skip_serializing_if = "Option::is_none")]
    mode: Option<&'static str>,
    summary: Option<Summary>,
    runs: Vec<Measurement>,
    #[serde(skip_serializing_if = "Option::is_none")]
    skipped: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failed: Option<String>,
    /// Fraction of the time spent waiting for data, for a job with a loader.
    #[serde(skip_serializing_if = "Option::is_none")]
    waiting: Option<f64>,
}

/// PyTorch's time divided by ours. Above 1 means that this project is faster. The mode is PyTorch's fastest
/// unless the caller chose another.
#[derive(Debug, PartialEq, Serialize)]
struct Comparison {
    #[serde(rename = "best_mode")]
    mode: &'static str,
    /// Ratio of the medians.
    ratio: f64,
    /// Ratio of each pair of runs that followed each other.
    pair_ratios: Vec<f64>,
    pair_ratios_median: f64,
}

impl Report {
    pub(super) fn new(
        environment: Environment,
        limits: Limits,
        runs: u16,
        mut jobs: Vec<JobReport>,
    ) -> Self {
        cards::note_waiting(&mut jobs);
        Self { environment, limits, runs, jobs }
    }

    pub(super) fn to_json(&self) -> Result<String> {
        let mut text = serde_json::to_string_pretty(self).context("cannot write JSON")?;
        text.push('\n');
        Ok(text)
    }

    pub(super) fn any_failed(&self) -> bool {
        self.jobs.iter().flat_map(JobReport::sides).any(|side| side.failed.is_some())
    }

    /// The report: first the environment, then the table, then what could not be measured.
    pub(super) fn text(&self) -> String {
        let Limits { threads, seconds, device, tiny } = &self.limits;
        let counted = |count: u16, thing: &str| {
            format!("{count} {thing}{}", if count == 1 { "" } else { "s" })
        };
        let (threads, runs) = (counted(*threads, "thread"), counted(self.runs, "run"));
        let place = if device == "cpu" { String::new() } else { format!(", on {device}") };
        let tiny = if *tiny { ", made tiny: the figures mean nothing" } else { "" };
        let environment = self.environment.text();
        let heading = format!("{environment}\n{threads}, {runs} of {seconds} s{place}{tiny}\n\n");
        let missing: String = self.jobs.iter().flat_map(JobReport::missing).collect();
        let gap = if missing.is_empty() { "" } else { "\n" };
        format!("{heading}{}{gap}{missing}", self.table())
    }

    fn table(&self) -> Table {
        if self.limits.device != "cpu" || self.limits.tiny {
            return cards::table(&self.jobs);
        }
        if self.jobs.iter().all(|job| job.pytorch.is_empty()) {
            let rows = self.jobs.iter().filter_map(JobReport::row_of_ours);
            return Table::new(&["job", "ms", "fastest", "MiB", "faults/step"], rows);
        }
        let head =
            ["job", "ms", "PyTorch ms", "mode", "PyTorch/ours", "pairs", "MiB", "PyTorch MiB"];
        Table::new(&head, self.jobs.iter().filter_map(JobReport::row_of_both))
    }
}

impl JobReport {
    pub(super) fn new(job: &Job, entries: Vec<Entry>) -> Self {
        let (ours, pytorch): (Vec<_>, Vec<_>) =
            entries.into_iter().partition(|entry| entry.contestant.is_ours());
        let mut ours = ours.into_iter().map(Side::new);
        let pytorch: Vec<Side> = pytorch.into_iter().map(Side::new).collect();
        let first = ours.next().expect("this project is always one of the sides");
        let comparison = best(&pytorch).and_then(|best| compare(&first, best));
        let ours_otherwise = ours.collect();
        Self { job: job.name, what: job.what, ours: first, ours_otherwise, pytorch, comparison }
    }

    fn sides(&self) -> impl Iterator<Item = &Side> {
        std::iter::once(&self.ours).chain(&self.ours_otherwise).chain(&self.pytorch)
    }

    fn sides_mut(&mut self) -> impl Iterator<Item = &mut Side> {
        std::iter::once(&mut self.ours).chain(&mut self.ours_otherwise).chain(&mut self.pytorch)
    }

    fn row_of_ours(&self) -> Option<Vec<String>> {
        let Summary { median_ms, min_ms, peak_mib, minor_faults_per_step, .. } =
            self.ours.summary.as_ref()?;
        Some(vec![
            self.job.to_owned(),
            milliseconds(*median_ms),
            milliseconds(*min_ms),
            whole(*peak_mib),
            minor_faults_per_step.map_or_else(dash, |faults| format!("{faults:.1}")),
        ])
    }

    fn row_of_both(&self) -> Option<Vec<String>> {
        let ours = self.ours.summary.as_ref()?;
        let mut row = vec![self.job.to_owned(), milliseconds(ours.median_ms)];
        match &self.comparison {
            None => row.extend([dash(), dash(), dash(), dash(), whole(ours.peak_mib), dash()]),
            Some(comparison) => {
                let best = best(&self.pytorch)?;
                row.extend([
                    milliseconds(best.median_ms()),
                    comparison.mode.to_owned(),
                    format!("{:.2}", comparison.ratio),
                    comparison.range(),
                    whole(ours.peak_mib),
                    whole(best.summary.as_ref().and_then(|summary| summary.peak_mib)),
                ]);
            }
        }
        Some(row)
    }

    /// A line for each side whose figures are missing or incomplete.
    fn missing(&self) -> impl Iterator<Item = String> {
        self.sides().filter_map(|side| {
            let why = match (&side.skipped, &side.failed) {
                (Some(reason), _) => format!("skipped: {reason}"),
                (None, Some(reason)) => format!("FAILED: {reason}"),
                (None, None) => return None,
            };
            Some(format!("{}, {}: {why}\n", self.job, side.name()))
        })
    }
}

impl Side {
    fn new(entry: Entry) -> Self {
        let (skipped, failed) = match entry.ended {
            None => (None, None),
            Some(Ended::Skipped(reason)) => (Some(reason), None),
            Some(Ended::Failed(reason)) => (None, Some(reason)),
        };
        let summary = Summary::of(&entry.runs);
        let mode = entry.contestant.mode;
        Self { mode, summary, runs: entry.runs, skipped, failed, waiting: None }
    }

    fn name(&self) -> &'static str {
        self.mode.unwrap_or("ours")
    }

    /// The median in milliseconds. Infinite if there are no figures.
    fn median_ms(&self) -> f64 {
        self.summary.as_ref().map_or(f64::INFINITY, |summary| summary.median_ms)
    }
}

impl Comparison {
    fn range(&self) -> String {
        let least = self.pair_ratios.iter().copied().fold(f64::INFINITY, f64::min);
        let most = self.pair_ratios.iter().copied().fold(0.0, f64::max);
        format!("{least:.2}-{most:.2}")
    }
}

/// The fastest of PyTorch's modes that have figures.
fn best(pytorch: &[Side]) -> Option<&Side> {
    let measured = pytorch.iter().filter(|side| side.summary.is_some());
    measured.min_by(|a, b| a.median_ms().total_cmp(&b.median_ms()))
}

/// Compares this project with another side.
fn compare(ours: &Side, mode: &Side) -> Option<Comparison> {
    let pairs = ours.runs.iter().zip(&mode.runs);
    let pair_ratios: Vec<f64> =
        pairs.map(|(ours, torch)| torch.median_ms / ours.median_ms).collect();
    Some(Comparison {
        mode: mode.mode?,
        ratio: mode.summary.as_ref()?.median_ms / ours.summary.as_ref()?.median_ms,
        pair_ratios_median: median(pair_ratios.iter().copied())?,
        pair_ratios,
    })
}

/// Milliseconds with three digits or more.
fn milliseconds(value: f64) -> String {
    match value {
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value if value >= 1.0 => format!("{value:.2}"),
        value => format!("{value:.3}"),
    }
}

fn whole(value: Option<f64>) -> String {
    value.map_or_else(dash, |value| format!("{value:.0}"))
}

fn dash() -> String {
    "-".to_owned()
}

#[cfg(test)]
mod tests;
