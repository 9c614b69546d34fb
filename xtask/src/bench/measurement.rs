//! The figures of one process, and the summary of several processes.

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// The line of JSON that a job prints at its end, on either side.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged)]
pub(super) enum Line {
    Measured(Measurement),
    Skipped { skipped: String },
}

/// The figures of one process. Each job defines what a step is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Measurement {
    pub(super) threads: usize,
    pub(super) median_ms: f64,
    pub(super) min_ms: f64,
    pub(super) steps: u64,
    pub(super) images_per_s: f64,
    /// Peak memory in MiB. `None` if the system does not report it.
    pub(super) peak_mib: Option<f64>,
    pub(super) minor_faults_per_step: Option<f64>,
    /// Of steps that several ranks took together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) shared: Option<Shared>,
}

/// What ranks cost each other.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Shared {
    /// Share of the steps' time in which sums went on that no computation hid.
    pub(super) waiting: f64,
    /// Bytes of gradients that a rank handed over in a step.
    pub(super) bytes_per_step: f64,
    /// Time of the sum of one value over all ranks, while nothing is computed.
    pub(super) all_reduce_one_us: f64,
    /// Time of the sum of a bucket of `bucket_bytes`, likewise.
    pub(super) all_reduce_bucket_ms: f64,
    pub(super) bucket_bytes: u64,
}

impl Shared {
    /// The median of each figure. `None` if no run has them.
    pub(super) fn medians(runs: &[Measurement]) -> Option<Self> {
        let of = |figure: fn(&Self) -> f64| {
            median(runs.iter().filter_map(|run| run.shared.as_ref()).map(figure))
        };
        Some(Self {
            waiting: of(|shared| shared.waiting)?,
            bytes_per_step: of(|shared| shared.bytes_per_step)?,
            all_reduce_one_us: of(|shared| shared.all_reduce_one_us)?,
            all_reduce_bucket_ms: of(|shared| shared.all_reduce_bucket_ms)?,
            bucket_bytes: runs.iter().find_map(|run| run.shared.as_ref())?.bucket_bytes,
        })
    }
}

/// The figures of several processes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Summary {
    /// The median of the runs' medians, in milliseconds.
    pub(super) median_ms: f64,
    /// The fastest step of all runs, in milliseconds.
    pub(super) min_ms: f64,
    /// The median of the runs' images per second.
    pub(super) images_per_s: f64,
    pub(super) peak_mib: Option<f64>,
    pub(super) minor_faults_per_step: Option<f64>,
}

impl Line {
    /// Parses the last line that a process printed, because libraries may have printed something before it.
    pub(super) fn parse(stdout: &str) -> Result<Self> {
        let last = stdout.lines().rfind(|line| !line.trim().is_empty());
        let last = last.context("the job printed nothing")?;
        serde_json::from_str(last).with_context(|| format!("the job printed `{last}`"))
    }
}

impl Summary {
    /// The summary. `None` if there are no runs.
    pub(super) fn of(runs: &[Measurement]) -> Option<Self> {
        let some = |figure: fn(&Measurement) -> Option<f64>| runs.iter().filter_map(figure);
        Some(Self {
            median_ms: median(runs.iter().map(|run| run.median_ms))?,
            min_ms: runs.iter().map(|run| run.min_ms).reduce(f64::min)?,
            images_per_s: median(runs.iter().map(|run| run.images_per_s))?,
            peak_mib: some(|run| run.peak_mib).reduce(f64::max),
            minor_faults_per_step: median(some(|run| run.minor_faults_per_step)),
        })
    }
}

/// The middle value, or the mean of the two middle values. `None` if there are no values.
pub(super) fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = *values.get(middle)?;
    Some(if values.len() % 2 == 1 { upper } else { f64::midpoint(values[middle - 1], upper) })
}

#[cfg(test)]
pub(super) fn measured(median_ms: f64) -> Measurement {
    Measurement {
        threads: 1,
        median_ms,
        min_ms: median_ms - 1.0,
        steps: 10,
        images_per_s: 16e3 / median_ms,
        peak_mib: Some(10.0 * median_ms),
        minor_faults_per_step: Some(0.5),
        shared: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_counts() {
        let line = r#"{"job":"a","mode":"eager","threads":2,"median_ms":10.5,"min_ms":9,"steps":3,"images_per_s":1523.8,"peak_mib":812.5,"minor_faults_per_step":null}"#;
        let expected = Measurement {
            threads: 2,
            median_ms: 10.5,
            min_ms: 9.0,
            steps: 3,
            images_per_s: 1523.8,
            peak_mib: Some(812.5),
            minor_faults_per_step: None,
            shared: None,
        };
        let parsed = Line::parse(&format!("a library says hello\n{line}\n\n")).unwrap();
        assert_eq!(parsed, Line::Measured(expected));
    }

    #[test]
    fn both_sides_print_every_figure() {
        let measured = serde_json::to_value(measured(10.0)).unwrap();
        for side in [
            include_str!("../../../crates/cli/benches/jobs/main.rs"),
            include_str!("../../bench/torch_jobs.py"),
        ] {
            for figure in measured.as_object().unwrap().keys() {
                assert!(side.contains(&format!("\"{figure}\": ")), "{figure}");
            }
        }
    }

    #[test]
    fn both_sides_print_what_ranks_cost() {
        let line = r#"{"threads":1,"median_ms":2,"min_ms":1,"steps":3,"images_per_s":4,"peak_mib":null,"minor_faults_per_step":null,"shared":{"waiting":0.5,"bytes_per_step":8,"all_reduce_one_us":2,"all_reduce_bucket_ms":3,"bucket_bytes":4}}"#;
        let Line::Measured(measured) = Line::parse(line).unwrap() else { panic!("{line}") };
        let shared = serde_json::to_value(Shared::medians(&[measured]).unwrap()).unwrap();
        assert_eq!(shared["all_reduce_bucket_ms"], 3.0);
        for side in [
            include_str!("../../../crates/cli/benches/jobs/main.rs"),
            include_str!("../../bench/torch_ranks.py"),
        ] {
            for figure in shared.as_object().unwrap().keys() {
                assert!(side.contains(&format!("\"{figure}\": ")), "{figure}");
            }
        }
        assert_eq!(Shared::medians(&[super::measured(1.0)]), None);
    }

    #[test]
    fn a_job_may_have_nothing_to_measure() {
        let parsed = Line::parse(r#"{"job":"a","threads":1,"skipped":"no data"}"#).unwrap();
        assert_eq!(parsed, Line::Skipped { skipped: "no data".to_owned() });
    }

    #[test]
    fn other_output_is_shown_in_the_error() {
        for output in ["", " \n", "Segmentation fault", r#"{"job":"a","median_ms":1}"#, "[]"] {
            let error = format!("{:#}", Line::parse(output).unwrap_err());
            assert!(error.contains(output.trim()), "{error}");
        }
    }

    #[test]
    fn runs_are_summed_up_by_their_medians() {
        let runs = [30.0, 10.0, 20.0].map(measured);
        let summary = Summary::of(&runs).unwrap();
        assert_eq!((summary.median_ms, summary.min_ms), (20.0, 9.0));
        assert_eq!(summary.images_per_s, 800.0);
        assert_eq!((summary.peak_mib, summary.minor_faults_per_step), (Some(300.0), Some(0.5)));
        assert_eq!(Summary::of(&runs[..2]).unwrap().median_ms, 20.0);
        assert_eq!(Summary::of(&[]), None);
    }
}
