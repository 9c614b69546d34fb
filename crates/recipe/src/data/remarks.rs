//! What is to be said about the data that a run opens.

use std::collections::BTreeMap;
use std::path::PathBuf;

use candle_vision::data::{LeftOut, Opened};

/// What is to be said about the data that are opened, each thing once.
#[derive(Debug, Default)]
pub struct Remarks {
    first: Vec<String>,
    /// By folder: two splits may come from one.
    left_out: BTreeMap<PathBuf, LeftOut>,
    lines: Vec<String>,
}

impl Remarks {
    /// Takes in what a data set has to say.
    pub fn note(&mut self, opened: &Opened) {
        if let Some((folder, left_out)) = &opened.left_out {
            self.left_out.insert(folder.clone(), left_out.clone());
        }
        for line in &opened.remarks {
            if !self.lines.contains(line) {
                self.lines.push(line.clone());
            }
        }
    }

    /// Takes in a line.
    pub(crate) fn add(&mut self, line: String) {
        self.lines.push(line);
    }

    /// Takes in a line that comes before all others.
    pub(crate) fn say(&mut self, line: String) {
        self.first.push(line);
    }

    /// All of it, what was left out in a single line.
    pub fn into_notes(self) -> Vec<String> {
        let mut left_out = LeftOut::default();
        self.left_out.values().for_each(|of_one| left_out.add(of_one));
        let mut notes = self.first;
        if !left_out.is_empty() {
            notes.push(format!("not used: {left_out}"));
        }
        notes.extend(self.lines);
        notes
    }
}
