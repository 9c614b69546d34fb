//! From what a table calls a class to the label of the class.

use std::collections::HashMap;
use std::path::Path;

use serde_json::Value;

use super::{ClassList, TableOptions, invalid};
use crate::datasets::labelled_files::text_of;
use crate::error::Result;

/// More classes than any network has. A larger number is an identifier and no label.
pub(in crate::datasets) const MOST_CLASSES: usize = 1_000_000;

/// The most classes of `labels` labels that are numbers without names: as many as there are labels, but 65,536 of a few and a
/// million of many. Each number up to the largest is a class then, so an identifier in place of a label would make as many
/// names as it is large.
pub(in crate::datasets) fn most_classes(labels: usize) -> usize {
    labels.clamp(1 << 16, MOST_CLASSES)
}

/// What a table calls a class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::datasets) enum Label {
    Number(u64),
    Name(String),
}

impl Label {
    /// A label of a format that has only texts.
    pub(in crate::datasets) fn of_text(text: &str) -> Self {
        // `007` is a name.
        let number = text.parse::<u64>().ok().filter(|number| number.to_string() == text);
        number.map_or_else(|| Self::Name(text.to_owned()), Self::Number)
    }

    /// A label of JSON.
    pub(in crate::datasets) fn of_json(value: &Value) -> Option<Self> {
        match value {
            Value::String(text) if !text.is_empty() => Some(Self::Name(text.clone())),
            Value::Number(number) => number.as_u64().map(Self::Number),
            _ => None,
        }
    }
}

impl std::fmt::Display for Label {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Name(name) => f.write_str(name),
        }
    }
}

/// The classes of a table.
pub(in crate::datasets) struct Labelling {
    classes: Vec<String>,
    by_name: HashMap<String, u32>,
    is_multi_label: bool,
}

impl Labelling {
    /// The classes that `options` name, or else those that occur in the training rows.
    pub(super) fn new<'a>(
        path: &Path,
        options: &TableOptions,
        rows: impl Iterator<Item = &'a Option<Vec<Label>>> + Clone,
    ) -> Result<Self> {
        let named = match &options.classes {
            None => None,
            Some(ClassList::Names(names)) => Some(names.clone()),
            Some(ClassList::File(file)) => Some(names_of(file)?),
        };
        let classes = match named {
            Some(classes) => classes,
            None => occurring(path, rows.flatten().flatten())?,
        };
        if classes.is_empty() {
            let remedy = "add labels, or name all classes with `classes`";
            return Err(invalid(path, "has no label in any row to train on", remedy));
        }
        let labelling = Self::of_classes(classes);
        if labelling.by_name.len() == labelling.classes.len() {
            return Ok(labelling);
        }
        Err(invalid(path, "has classes of which two have the same name", "rename one of them"))
    }

    /// These classes.
    pub(in crate::datasets) fn of_classes(classes: Vec<String>) -> Self {
        let by_name =
            classes.iter().enumerate().map(|(i, name)| (name.clone(), i as u32)).collect();
        Self { classes, by_name, is_multi_label: false }
    }

    pub(super) fn multi_label(self, is_multi_label: bool) -> Self {
        Self { is_multi_label, ..self }
    }

    pub(super) fn is_multi_label(&self) -> bool {
        self.is_multi_label
    }

    pub(in crate::datasets) fn classes(&self) -> &[String] {
        &self.classes
    }

    /// The labels of a row.
    pub(super) fn labels(
        &self,
        path: &Path,
        line: usize,
        labels: &Option<Vec<Label>>,
    ) -> Result<Vec<u32>> {
        let label = |label: &Label| {
            self.label(label).map_err(|problem| {
                let remedy = "correct the label, or name all classes with `classes`";
                invalid(path, format!("line {line} {problem}"), remedy)
            })
        };
        labels.iter().flatten().map(label).collect()
    }

    /// The label that is meant, or what is wrong.
    pub(in crate::datasets) fn label(&self, label: &Label) -> Result<u32, String> {
        let by_name = |name: &str| self.by_name.get(name).copied();
        let found = match label {
            Label::Name(name) => by_name(name),
            // A class may be called `7`, and a number may be a label.
            Label::Number(number) => by_name(&number.to_string())
                .or_else(|| u32::try_from(*number).ok())
                .filter(|label| (*label as usize) < self.classes.len()),
        };
        found.ok_or_else(|| match label {
            Label::Name(name) => format!(
                "has the label `{name}`, which is the name of none of {} classes",
                self.classes.len()
            ),
            Label::Number(number) => {
                format!(
                    "has label {number}, but there are {} classes, labelled from 0",
                    self.classes.len()
                )
            }
        })
    }
}

/// The names in a file, one in each line.
pub(in crate::datasets) fn names_of(file: &Path) -> Result<Vec<String>> {
    names_in_text(file, &text_of(file)?)
}

/// The names in the text of a file, one in each line.
pub(in crate::datasets) fn names_in_text(file: &Path, text: &str) -> Result<Vec<String>> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let names: Vec<String> = lines.map(str::to_owned).collect();
    if names.is_empty() {
        return Err(invalid(file, "names no classes", "write one name in each line"));
    }
    Ok(names)
}

/// The classes of labels that occur.
pub(in crate::datasets) fn occurring<'a>(
    path: &Path,
    labels: impl Iterator<Item = &'a Label> + Clone,
) -> Result<Vec<String>> {
    let number = |label: &Label| match label {
        Label::Number(number) => Some(*number),
        Label::Name(_) => None,
    };
    // If all are numbers, they are the labels. Sorted as texts, 10 would come before 2.
    if let Some(numbers) = labels.clone().map(number).collect::<Option<Vec<u64>>>() {
        let most_classes = most_classes(numbers.len());
        let most = numbers.into_iter().max();
        return match most {
            Some(most) if most >= most_classes as u64 => Err(invalid(
                path,
                format!("has label {most}, more than {most_classes} classes"),
                "label classes by numbers from 0, or name all classes with `classes`",
            )),
            most => Ok((0..most.map_or(0, |most| most + 1)).map(|n| n.to_string()).collect()),
        };
    }
    let mut names: Vec<String> = labels.map(ToString::to_string).collect();
    names.sort();
    names.dedup();
    Ok(names)
}
