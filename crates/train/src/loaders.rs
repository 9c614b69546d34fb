//! Checks of a trainer's loaders, and the facts that identify their data.

use std::collections::BTreeMap;

use candle_vision_data::batch_transforms::describe_all;
use candle_vision_data::{Batch, DataLoader, check_labels};
use candle_vision_models::Model;
use candle_vision_registry::Description;

use crate::recorded;
use crate::{Error, Result};

/// Checks that there are training and validation batches, and that classes and labels fit the network.
pub(crate) fn check_loaders(model: &dyn Model, train: &DataLoader, val: &DataLoader) -> Result<()> {
    for (loader, split) in [(train, "training"), (val, "validation")] {
        if loader.batches_of_all() == 0 {
            return Err(Error::NoBatches { split });
        }
        let (outputs, classes) = (model.spec().num_classes, loader.dataset().classes().len());
        if outputs != classes {
            return Err(Error::ClassCount { outputs, classes });
        }
        if !loader.batch_transforms().is_empty() && loader.config().batch_size < 2 {
            let expected = "at least 2 with batch transforms, which mix the images of a batch";
            return Err(Error::setting("batch_size", loader.config().batch_size, expected));
        }
        // A device does not check labels. A label that is too large would make it train on garbage.
        check_labels(loader.dataset().as_ref())?;
    }
    check_unmixed(val)?;
    let (found, expected) = (val.dataset().classes(), train.dataset().classes());
    if found == expected {
        return Ok(());
    }
    let expected = format!("those of the training data, {expected:?}, in that order");
    Err(Error::setting("classes of the validation data", format!("{found:?}"), expected))
}

/// Checks that a loader to evaluate on gives images as they are.
pub(crate) fn check_unmixed(loader: &DataLoader) -> Result<()> {
    if loader.batch_transforms().is_empty() {
        return Ok(());
    }
    let found = describe_all(loader.batch_transforms());
    let found: Vec<&str> = found.steps().iter().map(|step| step.name.as_str()).collect();
    let expected = "none where images are evaluated, because mixed ones belong to no class";
    Err(Error::setting("batch_transforms", found.join(", "), expected))
}

/// The fact that says which samples an epoch shows. It is recorded only if there is an unusual sampler.
pub(crate) const SAMPLER: &str = "sampler";

/// The fact that says how whole batches are changed. It is recorded only if they are.
pub(crate) const BATCH_TRANSFORMS: &str = "batch_transforms";

/// The fact that says how many processes have files of their own. It is recorded only if they do, and matters only within an
/// epoch.
pub(crate) const FILES_OF_RANKS: &str = "ranks that read files of their own";

/// The facts that determine the batches and the meaning of the numbers measured on them.
pub(crate) fn data_facts(train: &DataLoader, val: &DataLoader) -> BTreeMap<String, String> {
    let mut facts = BTreeMap::new();
    for (name, loader) in [("training", train), ("validation", val)] {
        let config = loader.config();
        let mut fact =
            |what: &str, value: String| facts.insert(format!("{what} of the {name} data"), value);
        fact("fingerprint", loader.fingerprint().to_owned());
        fact("transforms", recorded::transforms(loader.transform()));
        // Of all processes together: with other numbers of them the steps stay the same.
        fact("batch_size", loader.batch_size_of_all().to_string());
        fact("drop_last", config.drop_last.to_string());
        fact("shuffle", config.shuffle.to_string());
        fact("seed", config.seed.to_string());
        if loader.shares_files() {
            fact(FILES_OF_RANKS, loader.shared().ranks().1.to_string());
        }
        // `shuffle` says the usual ones, and older checkpoints know nothing else.
        let sampler = loader.sampler().describe();
        let usual = if config.shuffle { "shuffled" } else { "sequential" };
        if sampler != Description::named(usual) {
            let text = serde_json::to_string(&sampler);
            fact(SAMPLER, text.unwrap_or_else(|_| sampler.name.clone()));
        }
        if !loader.batch_transforms().is_empty() {
            let described = describe_all(loader.batch_transforms());
            let text = serde_json::to_string(&described);
            fact(BATCH_TRANSFORMS, text.unwrap_or_else(|_| format!("{described:?}")));
        }
    }
    facts
}

/// The numbers of an epoch's batches. They are not the count of batches seen, because a batch whose images are all broken
/// never comes.
pub(crate) struct BatchNumbers<'a> {
    order: Vec<usize>,
    loader: &'a DataLoader,
    /// The first batch that can come next.
    next: usize,
}

impl<'a> BatchNumbers<'a> {
    /// The numbers of the batches from `first` on.
    pub(crate) fn new(loader: &'a DataLoader, epoch: usize, first: usize) -> Self {
        Self { order: loader.order(epoch), loader, next: first }
    }

    /// The number of the batch that came after those before. A sampler may show a sample several times, so the place of a
    /// sample alone does not tell.
    pub(crate) fn of(&mut self, batch: &Batch) -> usize {
        let first = batch.indices.first();
        let has_first = |number: &usize| {
            let place = self.loader.places(*number);
            let end = place.end.min(self.order.len());
            let picks = self.order.get(place.start..end).unwrap_or_default();
            first.is_some_and(|index| picks.contains(index))
        };
        let number = (self.next..self.loader.batches_per_epoch()).find(has_first);
        let number = number.unwrap_or(self.next);
        self.next = number + 1;
        number
    }
}
