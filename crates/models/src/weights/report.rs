//! The report of how a weight file fitted a network.

use std::fmt::{Display, Formatter, Result};

/// How a weight file fitted a network, and what was changed to make it fit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LoadReport {
    /// Names of the parameters that got a tensor.
    pub matched: Vec<String>,
    /// Names of parameters of the head that the file has for another number of classes, or not at all. The network keeps
    /// its new ones.
    pub new_head: Vec<String>,
    /// The same of auxiliary classifiers ([`Model::auxiliary_heads`](crate::Model::auxiliary_heads)).
    pub new_auxiliary: Vec<String>,
    /// The kernel of the first layer, if it was fitted to another number of channels.
    pub stem: Option<String>,
    /// Names that the network has and the file does not.
    pub missing: Vec<String>,
    /// Names that the file has and the network does not.
    pub unexpected: Vec<String>,
    /// Parameters whose shapes differ: name, shape in the network, shape in the file.
    pub wrong_shape: Vec<(String, Vec<usize>, Vec<usize>)>,
    /// The dictionary of the file that held the weights, such as `state_dict`.
    pub dictionary: Option<String>,
    /// Other dictionaries of the file with tensors that were left out.
    pub other_dictionaries: Vec<String>,
    /// The prefix that was removed from the file's names, such as `module.`.
    pub prefix: Option<String>,
    /// The head's name in the file, if it differs from the network's.
    pub head_in_file: Option<String>,
    /// Names in the file that are those of an older version of the network, see
    /// [`Model::rename_weight`](crate::Model::rename_weight).
    pub older_names: Vec<String>,
    /// Names in the file that are timm's, see [`Model::timm_names`](crate::Model::timm_names).
    pub timm_names: Vec<String>,
    /// Names of tensors of the file that are no part of the network: an optimizer's state, averaged weights, or
    /// other parts of a larger network.
    pub left_out: Vec<String>,
    /// Number types in the file that were converted to the network's, such as `F16`.
    pub converted: Vec<String>,
}

impl LoadReport {
    /// Whether every name, except those of a new head and of new auxiliary classifiers, has its tensor.
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
        if !self.older_names.is_empty() {
            write!(f, ", {} of them under an older name", self.older_names.len())?;
        }
        if !self.timm_names.is_empty() {
            write!(f, ", {} of them under timm's names", self.timm_names.len())?;
        }
        if !self.converted.is_empty() {
            write!(f, ", converted from {}", self.converted.join(" and "))?;
        }
        if let Some(stem) = &self.stem {
            write!(f, ", `{stem}` fitted to the images' channels")?;
        }
        if !self.new_head.is_empty() {
            write!(f, ", new head ({})", self.new_head.join(", "))?;
        }
        list(f, "of auxiliary classifiers not from the file", &self.new_auxiliary)?;
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

/// Writes the count and the first few names, because a wrong file differs in hundreds.
fn list(f: &mut Formatter<'_>, what: &str, names: &[String]) -> Result {
    if names.is_empty() {
        return Ok(());
    }
    let shown = names[..names.len().min(3)].join(", ");
    let more = if names.len() > 3 { ", ..." } else { "" };
    write!(f, ", {} {what} ({shown}{more})", names.len())
}
