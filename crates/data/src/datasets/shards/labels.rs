//! The labels of shards, and the names of their classes.

use std::path::Path;

use super::opened::OpenShards;
use super::{CLASSES, Placed, Shard, ShardOptions, names_of, pattern};
use crate::datasets::image_table::labelling::{Label, Labelling, MOST_CLASSES, most_classes};
use crate::error::{Error, Result};

/// The labels of all shards.
pub(super) struct Labels {
    known: Option<Labelling>,
}

impl Labels {
    /// Of these classes, or else of those that occur.
    pub(super) fn new(known: Option<Labelling>) -> Self {
        Self { known }
    }

    /// Checks the labels of an index.
    pub(super) fn check(&self, shard: &str, placed: &Placed) -> Result<()> {
        let classes = self.known.as_ref().map_or(MOST_CLASSES, |known| known.classes().len());
        Self::check_below(classes, shard, placed)
    }

    fn check_below(classes: usize, shard: &str, placed: &Placed) -> Result<()> {
        let is_wrong = |label: &&u32| **label as usize >= classes;
        let wrong = |sample| Some((sample, placed.labels_of(sample).iter().find(is_wrong)?));
        match (0..placed.places.len()).find_map(wrong) {
            None => Ok(()),
            Some((sample, &label)) => Err(Error::Label {
                index: sample,
                name: format!("{shard}[{sample}]"),
                label,
                classes,
            }),
        }
    }

    /// The label of a scanned sample, or what is wrong with it.
    pub(super) fn label(&mut self, label: Label) -> Result<u32, String> {
        match (&self.known, &label) {
            (Some(known), _) => known.label(&label),
            (None, Label::Number(number)) if *number < MOST_CLASSES as u64 => Ok(*number as u32),
            (None, Label::Number(number)) => {
                Err(format!("has label {number}, more than any class"))
            }
            (None, Label::Name(name)) => Err(format!(
                "has the label `{name}`, which is no number; name the classes in `{CLASSES}` or with `options.classes`"
            )),
        }
    }

    pub(super) fn finish(self, shards: &[Shard]) -> Result<Vec<String>> {
        if let Some(known) = self.known {
            return Ok(known.classes().to_vec());
        }
        let most =
            shards.iter().filter_map(|shard| shard.placed.largest_label()).max().unwrap_or(0);
        // Damage to a single label would make a class of each number below it.
        let classes = most_classes(shards.iter().map(|shard| shard.placed.places.len()).sum());
        if most as usize >= classes {
            for shard in shards {
                Self::check_below(classes, &shard.name, &shard.placed)?;
            }
        }
        Ok((0..=most).map(|label| label.to_string()).collect())
    }
}

/// The classes that the options or a file beside the first shard name.
pub(super) fn classes_beside(
    names: &[String],
    options: &ShardOptions,
    files: &OpenShards,
) -> Result<Option<Labelling>> {
    if let Some(classes) = &options.classes {
        return Ok(Some(Labelling::of_classes(classes.clone())));
    }
    let Some(first) = names.first() else { return Ok(None) };
    if pattern::is_url(first) {
        return files.classes_beside(first).map(|names| names.map(Labelling::of_classes));
    }
    let file = Path::new(first).parent().map(|folder| folder.join(CLASSES));
    match file.filter(|file| file.is_file()) {
        Some(file) => Ok(Some(Labelling::of_classes(names_of(&file)?))),
        None => Ok(None),
    }
}
