//! The scores of each method over all images.

use std::fmt::Write;

use candle_vision::explain::Method;
use candle_vision::explain::faithfulness::Score;
use comfy_table::{CellAlignment, Table};

use crate::table::table;

/// The name of the baseline.
pub(super) const RANDOM: &str = "random map";

/// The scores of each method and of the baseline.
pub(super) struct Tally {
    rows: Vec<(String, Vec<Score>)>,
    /// The fraction of each image that its subject covers, without and with its margin.
    subjects: Vec<[f64; 2]>,
}

/// Means over the images. The first three need masks.
struct Means {
    pointing: Option<f64>,
    pointing_near: Option<f64>,
    energy: Option<f64>,
    deletion: f64,
    insertion: f64,
    road: f64,
}

impl Tally {
    pub(super) fn new(methods: &[&Method]) -> Self {
        let names = methods.iter().map(|method| method.name()).chain([RANDOM]);
        Self { rows: names.map(|name| (name.to_owned(), Vec::new())).collect(), subjects: vec![] }
    }

    pub(super) fn add(&mut self, name: &str, score: Score) {
        if let Some((_, scores)) = self.rows.iter_mut().find(|(row, _)| row == name) {
            scores.push(score);
        }
    }

    pub(super) fn add_subject(&mut self, mask: &[bool], with_margin: &[bool]) {
        let share = |mask: &[bool]| {
            mask.iter().filter(|inside| **inside).count() as f64 / mask.len().max(1) as f64
        };
        self.subjects.push([share(mask), share(with_margin)]);
    }

    /// A table for users, with an explanation of its numbers.
    pub(super) fn table(&self) -> String {
        let mut table = table();
        let header =
            ["map", "pointing game", "exactly", "energy in mask", "deletion", "insertion", "ROAD"];
        table.set_header(header);
        for (name, scores) in &self.rows {
            let means = means(scores);
            let shown = [
                percent(means.pointing_near),
                percent(means.pointing),
                percent(means.energy),
                format!("{:.3}", means.deletion),
                format!("{:.3}", means.insertion),
                format!("{:.3}", means.road),
            ];
            table.add_row(std::iter::once(name.clone()).chain(shown));
        }
        for column in 1..header.len() {
            align_right(&mut table, column);
        }
        let images = self.rows.first().map_or(0, |(_, scores)| scores.len());
        let mut text = format!("{table}\n{images} images, their true class explained");
        let share = |which: usize| mean(self.subjects.iter().map(|shares| 100.0 * shares[which]));
        if let (Some(exact), Some(near)) = (share(0), share(1)) {
            let _ = write!(
                text,
                ";\nthe subject covers {exact:.1} % of an image, with the pointing game's margin \
                 {near:.1} %"
            );
        }
        text.push_str("\nlow deletion is good; of all else, high");
        text
    }

    /// The same means as CSV, with all digits.
    pub(super) fn csv(&self) -> String {
        let mut text =
            "map,images,pointing_game,pointing_exactly,energy_in_mask,deletion,insertion,road\n"
                .to_owned();
        for (name, scores) in &self.rows {
            let Means { pointing, pointing_near, energy, deletion, insertion, road } =
                means(scores);
            let known = [pointing_near, pointing, energy];
            let known = known.map(|mean| mean.map_or(String::new(), |mean| mean.to_string()));
            let (count, known) = (scores.len(), known.join(","));
            let _ = writeln!(text, "{name},{count},{known},{deletion},{insertion},{road}");
        }
        text
    }
}

fn means(scores: &[Score]) -> Means {
    let of = |value: fn(&Score) -> f64| mean(scores.iter().map(value)).unwrap_or(0.0);
    let hits = |hit: fn(&Score) -> Option<bool>| {
        mean(scores.iter().filter_map(hit).map(|hit| f64::from(u8::from(hit))))
    };
    Means {
        pointing: hits(|score| score.pointing),
        pointing_near: hits(|score| score.pointing_near),
        energy: mean(scores.iter().filter_map(|s| s.energy)),
        deletion: of(|score| score.deletion),
        insertion: of(|score| score.insertion),
        road: of(|score| score.road),
    }
}

/// The mean. `None` if there are no values.
fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let values: Vec<f64> = values.collect();
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

fn percent(share: Option<f64>) -> String {
    share.map_or_else(|| "no masks".to_owned(), |share| format!("{:.1} %", 100.0 * share))
}

fn align_right(table: &mut Table, column: usize) {
    if let Some(column) = table.column_mut(column) {
        column.set_cell_alignment(CellAlignment::Right);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn score(pointing: Option<bool>) -> Score {
        Score {
            deletion: 0.25,
            insertion: 0.5,
            road: 0.125,
            pointing,
            pointing_near: Some(true),
            energy: None,
        }
    }

    #[test]
    fn means_are_over_the_images() {
        let mut tally = Tally::new(&[&Method::GRAD_CAM]);
        for hit in [true, true, false, true] {
            tally.add("gradcam", score(Some(hit)));
        }
        tally.add(RANDOM, score(None));
        tally.add_subject(&[true, false], &[true, true]);
        let csv = tally.csv();
        let lines: Vec<&str> = csv.lines().skip(1).collect();
        assert_eq!(lines, ["gradcam,4,1,0.75,,0.25,0.5,0.125", "random map,1,1,,,0.25,0.5,0.125"]);
        let table = tally.table();
        for part in ["75.0 %", "no masks", "4 images", "covers 50.0 %", "margin 100.0 %"] {
            assert!(table.contains(part), "{part}: {table}");
        }
    }
}
