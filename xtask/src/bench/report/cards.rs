//! The table of jobs for cards. It has a line for each side, because every mode of PyTorch is of interest.

use super::super::jobs;
use super::super::table::Table;
use super::{JobReport, Side, compare, dash, milliseconds};

pub(super) fn table(jobs: &[JobReport]) -> Table {
    let head = ["job", "side", "ms", "images/s", "side/ours", "pairs", "waiting"];
    Table::new(&head, jobs.iter().flat_map(rows))
}

/// The rows of the sides that have figures.
fn rows(job: &JobReport) -> Vec<Vec<String>> {
    let row = |side: &Side| {
        let summary = side.summary.as_ref()?;
        let comparison = compare(&job.ours, side);
        let ratio = comparison.as_ref().map(|comparison| format!("{:.2}", comparison.ratio));
        Some(vec![
            job.job.to_owned(),
            side.name().to_owned(),
            milliseconds(summary.median_ms),
            format!("{:.0}", summary.images_per_s),
            ratio.unwrap_or_else(dash),
            comparison.map_or_else(dash, |comparison| comparison.range()),
            side.waiting.map_or_else(dash, |share| format!("{:.1} %", 100.0 * share)),
        ])
    };
    job.sides().filter_map(row).collect()
}

/// Fills in how much longer a job with a loader takes than the same job without one, as a fraction.
pub(super) fn note_waiting(jobs: &mut [JobReport]) {
    for index in 0..jobs.len() {
        let Some(name) = jobs::without_loader(jobs[index].job) else { continue };
        let Some(without) = jobs.iter().find(|job| job.job == name) else { continue };
        let times: Vec<Option<f64>> =
            jobs[index].sides().map(|side| time_of(without, side.mode)).collect();
        for (side, without) in jobs[index].sides_mut().zip(times) {
            let with = side.summary.as_ref().map(|summary| summary.median_ms);
            // Without any waiting the difference may come out slightly negative.
            side.waiting = with.zip(without).map(|(with, without)| (1.0 - without / with).max(0.0));
        }
    }
}

fn time_of(job: &JobReport, mode: Option<&str>) -> Option<f64> {
    let side = job.sides().find(|side| side.mode == mode)?;
    Some(side.summary.as_ref()?.median_ms)
}
