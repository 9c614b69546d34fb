//! The order in which the sides run. They take turns, so that a temporary slowdown of the machine affects
//! all of them.

use std::fmt;

use anyhow::Result;

use super::contestant::Contestant;
use super::measurement::{Line, Measurement};

/// One side's runs of a job.
#[derive(Debug)]
pub(super) struct Entry<C = Contestant> {
    pub(super) contestant: C,
    pub(super) runs: Vec<Measurement>,
    /// Why there are no further runs.
    pub(super) ended: Option<Ended>,
}

/// Why a side did not complete its runs.
#[derive(Debug, PartialEq)]
pub(super) enum Ended {
    /// The side reported that it has nothing to measure here.
    Skipped(String),
    Failed(String),
}

/// Runs `rounds` rounds. In each round every side runs once. A side that skips or fails is not run again,
/// and the others go on.
pub(super) fn take_turns<C: fmt::Display>(
    contestants: Vec<C>,
    rounds: usize,
    run: &mut dyn FnMut(&C) -> Result<Line>,
) -> Vec<Entry<C>> {
    let entry = |contestant| Entry { contestant, runs: Vec::new(), ended: None };
    let mut entries: Vec<Entry<C>> = contestants.into_iter().map(entry).collect();
    for round in 1..=rounds {
        for entry in entries.iter_mut().filter(|entry| entry.ended.is_none()) {
            let line = run(&entry.contestant);
            let said = entry.note(line);
            eprintln!("bench: run {round} of {rounds}, {}: {said}", entry.contestant);
        }
    }
    entries
}

impl<C> Entry<C> {
    /// Stores the result of a run and describes it in words.
    fn note(&mut self, line: Result<Line>) -> String {
        match line {
            Ok(Line::Measured(measurement)) => {
                let said = format!("{:.2} ms, {} steps", measurement.median_ms, measurement.steps);
                self.runs.push(measurement);
                said
            }
            Ok(Line::Skipped { skipped }) => {
                let said = format!("skipped: {skipped}");
                self.ended = Some(Ended::Skipped(skipped));
                said
            }
            Err(error) => {
                let said = format!("failed: {error:#}");
                self.ended = Some(Ended::Failed(format!("{error:#}")));
                said
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::contestant::Program;
    use super::super::measurement::measured;
    use super::*;
    use crate::cuda;

    fn contestant(mode: Option<&'static str>) -> Contestant {
        Contestant { mode, program: Program::Jobs(cuda::Program::plain("jobs".into())) }
    }

    #[test]
    fn sides_take_turns() {
        let mut order = Vec::new();
        let sides = [None, Some("eager"), Some("channels_last")].map(contestant).to_vec();
        let entries = take_turns(sides, 2, &mut |contestant| {
            order.push(contestant.name());
            Ok(Line::Measured(measured(order.len() as f64)))
        });
        let round = ["ours", "eager", "channels_last"];
        assert_eq!(order, [round, round].concat());
        let of_eager: Vec<f64> = entries[1].runs.iter().map(|run| run.median_ms).collect();
        assert_eq!(of_eager, [2.0, 5.0]);
    }

    #[test]
    fn who_skips_or_fails_is_not_asked_again() {
        let mut asked = Vec::new();
        let sides = [None, Some("skips"), Some("fails")].map(contestant).to_vec();
        let entries = take_turns(sides, 3, &mut |contestant| {
            asked.push(contestant.name());
            match contestant.name() {
                "skips" => Ok(Line::Skipped { skipped: "no data".to_owned() }),
                "fails" => Err(anyhow::anyhow!("cause").context("what")),
                _ => Ok(Line::Measured(measured(1.0))),
            }
        });
        assert_eq!(asked, ["ours", "skips", "fails", "ours", "ours"]);
        assert_eq!((entries[0].runs.len(), &entries[0].ended), (3, &None));
        assert_eq!(entries[1].ended, Some(Ended::Skipped("no data".to_owned())));
        assert_eq!(entries[2].ended, Some(Ended::Failed("what: cause".to_owned())));
    }
}
