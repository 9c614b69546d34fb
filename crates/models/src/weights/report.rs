//! What a weight file and a network had in common.

use std::fmt::{Display, Formatter, Result};

/// What a weight file and a network had in common, and what was done to make it fit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LoadReport {
    /// Names whose tensors were taken.
    pub matched: Vec<String>,
    /// Names under the head that the file has for another number of classes (or not at all): the
    /// network keeps its new head.
    pub new_head: Vec<String>,
    /// Names the network has and the file lacks.
    pub missing: Vec<String>,
    /// Names the file has and the network lacks.
    pub unexpected: Vec<String>,
    /// Names whose shapes differ: name, shape in the network, shape in the file.
    pub wrong_shape: Vec<(String, Vec<usize>, Vec<usize>)>,
    /// The dictionary of the file that held the weights, such as `state_dict`.
    pub dictionary: Option<String>,
    /// Other dictionaries of the file with tensors, which were left out.
    pub other_dictionaries: Vec<String>,
    /// What was left off the file's names, such as `module.`.
    pub prefix: Option<String>,
    /// What the file calls the head, if it is not the network's name for it.
    pub head_in_file: Option<String>,
    /// Tensors of the file that are no part of the network: an optimizer's state, averages of the
    /// weights, what stands beside the network in a larger one.
    pub left_out: Vec<String>,
    /// Number types of the file that were converted to the network's, such as `F16`.
    pub converted: Vec<String>,
}

impl LoadReport {
    /// Whether every name but those of a new head found its tensor.
    pub fn is_complete(&self) -> bool {
        self.missing.is_empty() && self.unexpected.is_empty() && self.wrong_shape.is_empty()
    }
}

impl Display for LoadReport {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        write!(f, "{} tensors matched", self.matched.len())?;
        if let Some(dictionary) = &self.dictionary {
            write!(f, ", found under `{dictionary}`")?;
        }
        if let Some(prefix) = &self.prefix {
            write!(f, ", `{prefix}` left off their names")?;
        }
        if let Some(head) = &self.head_in_file {
            write!(f, ", head called `{head}` in the file")?;
        }
        if !self.converted.is_empty() {
            write!(f, ", converted from {}", self.converted.join(" and "))?;
        }
        if !self.new_head.is_empty() {
            write!(f, ", new head ({})", self.new_head.join(", "))?;
        }
        list(f, "missing", &self.missing)?;
        list(f, "unexpected", &self.unexpected)?;
        let shapes: Vec<String> = self
            .wrong_shape
            .iter()
            .map(|(name, ours, theirs)| format!("{name} ({theirs:?}, expected {ours:?})"))
            .collect();
        list(f, "of another shape", &shapes)?;
        list(f, "left out", &self.left_out)?;
        match self.other_dictionaries.as_slice() {
            [] => Ok(()),
            others => write!(f, ", beside {}", others.join(", ")),
        }
    }
}

/// The count and the first few names: a wrong file differs in hundreds.
fn list(f: &mut Formatter<'_>, what: &str, names: &[String]) -> Result {
    if names.is_empty() {
        return Ok(());
    }
    let shown = names[..names.len().min(3)].join(", ");
    let more = if names.len() > 3 { ", ..." } else { "" };
    write!(f, ", {} {what} ({shown}{more})", names.len())
}
