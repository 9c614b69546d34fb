//! The results of `bench scale` as text and as JSON. `candle-vision scale-plan` reads the JSON.

use anyhow::{Context, Result};
use serde::Serialize;

use super::super::environment::Environment;
use super::super::measurement::{Measurement, Shared, Summary, median};
use super::super::rounds::{Ended, Entry};
use super::super::table::Table;
use super::{Job, Side};

/// All results of a call.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) environment: Environment,
    /// Threads of each rank.
    pub(super) threads: u16,
    pub(super) seconds: f64,
    pub(super) runs: u16,
    pub(super) jobs: Vec<JobReport>,
}

/// The results of all sides for one job.
#[derive(Debug, Serialize)]
pub(super) struct JobReport {
    job: &'static str,
    what: &'static str,
    sides: Vec<SideReport>,
}

#[derive(Debug, Serialize)]
struct SideReport {
    side: &'static str,
    ranks: u16,
    /// `None` if there are no figures.
    images_per_s: Option<f64>,
    /// Images a second over those of as many single ranks, with the range over the rounds. `None` of one rank.
    efficiency: Option<Rounds>,
    /// Images a second of this project over those of this side with as many ranks.
    ours_over_side: Option<Rounds>,
    /// The medians of what the ranks cost each other.
    shared: Option<Shared>,
    runs: Vec<Measurement>,
    #[serde(skip_serializing_if = "Option::is_none")]
    skipped: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failed: Option<String>,
}

/// A ratio of runs of the same round.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Rounds {
    median: f64,
    least: f64,
    most: f64,
}

impl Rounds {
    /// The ratio of the images a second. `None` without a round that has both.
    fn of(above: &[Measurement], below: &[Measurement], times: f64) -> Option<Self> {
        let ratio =
            |(a, b): (&Measurement, &Measurement)| a.images_per_s / (times * b.images_per_s);
        let ratios: Vec<f64> = above.iter().zip(below).map(ratio).collect();
        Some(Self {
            median: median(ratios.iter().copied())?,
            least: ratios.iter().copied().reduce(f64::min)?,
            most: ratios.iter().copied().reduce(f64::max)?,
        })
    }

    fn text(&self) -> String {
        format!("{:.2} ({:.2}-{:.2})", self.median, self.least, self.most)
    }
}

impl JobReport {
    pub(super) fn new(job: &Job, entries: Vec<Entry<Side>>) -> Self {
        let runs_of = |mode: Option<&str>, ranks: u16| {
            let entry = entries.iter().find(|entry| {
                let side = entry.contestant;
                side.mode == mode && side.ranks == ranks
            });
            entry.map_or(&[][..], |entry| &entry.runs)
        };
        let side = |entry: &Entry<Side>| {
            let Entry { contestant: side, runs, ended } = entry;
            let (skipped, failed) = match ended {
                None => (None, None),
                Some(Ended::Skipped(reason)) => (Some(reason.clone()), None),
                Some(Ended::Failed(reason)) => (None, Some(reason.clone())),
            };
            let (alone, ours) = (runs_of(side.mode, 1), runs_of(None, side.ranks));
            let efficiency = Rounds::of(runs, alone, side.ranks.into());
            SideReport {
                side: side.maker(),
                ranks: side.ranks,
                images_per_s: Summary::of(runs).map(|summary| summary.images_per_s),
                efficiency: efficiency.filter(|_| side.ranks > 1),
                ours_over_side: side.mode.and_then(|_| Rounds::of(ours, runs, 1.0)),
                shared: Shared::medians(runs),
                runs: runs.clone(),
                skipped,
                failed,
            }
        };
        Self { job: job.name, what: job.what, sides: entries.iter().map(side).collect() }
    }

    fn rows(&self) -> impl Iterator<Item = Vec<String>> {
        let dash = || "-".to_owned();
        let ratio = move |rounds: &Option<Rounds>| rounds.as_ref().map_or_else(dash, Rounds::text);
        self.sides.iter().filter_map(move |side| {
            let shared = side.shared.as_ref();
            Some(vec![
                self.job.to_owned(),
                side.side.to_owned(),
                side.ranks.to_string(),
                format!("{:.0}", side.images_per_s?),
                ratio(&side.efficiency),
                shared.map_or_else(dash, |shared| format!("{:.1} %", 100.0 * shared.waiting)),
                shared.map_or_else(dash, |shared| format!("{:.1}", shared.bytes_per_step / 1e6)),
                ratio(&side.ours_over_side),
            ])
        })
    }

    fn missing(&self) -> impl Iterator<Item = String> {
        self.sides.iter().filter_map(|side| {
            let why = match (&side.skipped, &side.failed) {
                (Some(reason), _) => format!("skipped: {reason}"),
                (None, Some(reason)) => format!("FAILED: {reason}"),
                (None, None) => return None,
            };
            Some(format!("{}, {} with {} ranks: {why}\n", self.job, side.side, side.ranks))
        })
    }
}

impl Report {
    pub(super) fn to_json(&self) -> Result<String> {
        let mut text = serde_json::to_string_pretty(self).context("cannot write JSON")?;
        text.push('\n');
        Ok(text)
    }

    pub(super) fn any_failed(&self) -> bool {
        self.jobs.iter().flat_map(|job| &job.sides).any(|side| side.failed.is_some())
    }

    pub(super) fn text(&self) -> String {
        let Self { environment, threads, seconds, runs, .. } = self;
        let mut text = environment.text();
        text += &format!("\n{threads} thread(s) a rank, {runs} run(s) of {seconds} s\n");
        let most = self.jobs.iter().flat_map(|job| &job.sides).map(|side| side.ranks).max();
        let needed = usize::from(most.unwrap_or(1)) * usize::from(*threads);
        if needed > environment.cpus {
            let cpus = environment.cpus;
            text += &format!(
                "{needed} threads share {cpus} CPUs, so efficiency says nothing of several machines\n"
            );
        }
        let head =
            ["job", "side", "ranks", "images/s", "efficiency", "waiting", "MB/step", "ours/side"];
        let table = Table::new(&head, self.jobs.iter().flat_map(JobReport::rows));
        let missing: String = self.jobs.iter().flat_map(JobReport::missing).collect();
        let gap = if missing.is_empty() { "" } else { "\n" };
        format!("{text}\n{table}{gap}{missing}")
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::measurement::measured;
    use super::super::JOBS;
    use super::*;

    fn entry(mode: Option<&'static str>, ranks: u16, images_per_s: &[f64]) -> Entry<Side> {
        let shared = Shared {
            waiting: 0.042,
            bytes_per_step: 44.7e6,
            all_reduce_one_us: 10.0,
            all_reduce_bucket_ms: 20.0,
            bucket_bytes: 25 << 20,
        };
        let run = |&images_per_s: &f64| Measurement {
            images_per_s,
            shared: (ranks > 1).then(|| shared.clone()),
            ..measured(1.0)
        };
        let runs = images_per_s.iter().map(run).collect();
        Entry { contestant: Side { mode, ranks }, runs, ended: None }
    }

    fn report() -> Report {
        let failed = Some(Ended::Failed("exit code 1".to_owned()));
        let entries = vec![
            entry(None, 1, &[100.0, 50.0, 100.0]),
            entry(Some("eager"), 1, &[80.0, 80.0, 80.0]),
            entry(None, 2, &[180.0, 95.0, 200.0]),
            entry(Some("eager"), 2, &[120.0, 95.0, 80.0]),
            Entry { ended: failed, ..entry(Some("channels_last"), 2, &[]) },
        ];
        let environment =
            Environment { cpu: "a CPU".to_owned(), cpus: 2, ..Environment::default() };
        let jobs = vec![JobReport::new(&JOBS[0], entries)];
        Report { environment, threads: 1, seconds: 3.0, runs: 3, jobs }
    }

    #[test]
    fn efficiency_is_that_of_runs_of_the_same_round() {
        let report = report();
        let text = report.text();
        let lines: Vec<&str> = text.lines().collect();
        let job = "resnet18_train_b64_32";
        assert_eq!(lines[..3], ["a CPU", "1 thread(s) a rank, 3 run(s) of 3 s", ""], "{text}");
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(words(lines[4]), format!("{job} ours 1 100 - - - -"));
        // 180 of 200, 95 of 100, 200 of 200.
        let ours = format!("{job} ours 2 180 0.95 (0.90-1.00) 4.2 % 44.7 -");
        assert_eq!(words(lines[6]), ours);
        // 180 over 120, 95 over 95, 200 over 80.
        let eager = format!("{job} eager 2 95 0.59 (0.50-0.75) 4.2 % 44.7 1.50 (1.00-2.50)");
        assert_eq!(words(lines[7]), eager);
        assert_eq!(lines[9], format!("{job}, channels_last with 2 ranks: FAILED: exit code 1"));
        assert!(report.any_failed());
    }

    #[test]
    fn cores_that_are_shared_are_told() {
        let mut report = report();
        report.threads = 2;
        assert!(report.text().contains("4 threads share 2 CPUs"), "{}", report.text());
    }

    #[test]
    fn the_json_has_what_a_plan_reads() {
        let json: serde_json::Value = serde_json::from_str(&report().to_json().unwrap()).unwrap();
        let side = &json["jobs"][0]["sides"][2];
        assert_eq!((&side["side"], &side["ranks"]), (&"ours".into(), &2.into()));
        assert_eq!(side["images_per_s"], 180.0);
        assert_eq!(side["shared"]["bucket_bytes"], 25 << 20);
        assert_eq!(side["shared"]["all_reduce_bucket_ms"], 20.0);
    }
}
