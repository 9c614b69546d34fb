//! What a trainer asks of its loaders.

use std::collections::BTreeMap;

use candle_vision_data::{Batch, DataLoader, check_labels};
use candle_vision_models::Model;

use crate::recorded;
use crate::{Error, Result};

/// Checks that there is something to train and to validate on, with the network's classes and labels.
pub(crate) fn check_loaders(model: &dyn Model, train: &DataLoader, val: &DataLoader) -> Result<()> {
    for (loader, split) in [(train, "training"), (val, "validation")] {
        if loader.batches_per_epoch() == 0 {
            return Err(Error::NoBatches { split });
        }
        let (outputs, classes) = (model.spec().num_classes, loader.dataset().classes().len());
        if outputs != classes {
            return Err(Error::ClassCount { outputs, classes });
        }
        // A device does not look at labels, and one that is too large would train on garbage there.
        check_labels(loader.dataset().as_ref())?;
    }
    let (found, expected) = (val.dataset().classes(), train.dataset().classes());
    if found == expected {
        return Ok(());
    }
    let expected = format!("those of the training data, {expected:?}, in that order");
    Err(Error::setting("classes of the validation data", format!("{found:?}"), expected))
}

/// What decides which batches come, and what the numbers measured on them mean.
pub(crate) fn data_facts(train: &DataLoader, val: &DataLoader) -> BTreeMap<String, String> {
    let mut facts = BTreeMap::new();
    for (name, loader) in [("training", train), ("validation", val)] {
        let config = loader.config();
        let mut fact =
            |what: &str, value: String| facts.insert(format!("{what} of the {name} data"), value);
        fact("fingerprint", loader.fingerprint().to_owned());
        fact("transforms", recorded::transforms(loader.transform()));
        fact("batch_size", config.batch_size.to_string());
        fact("drop_last", config.drop_last.to_string());
        fact("shuffle", config.shuffle.to_string());
        fact("seed", config.seed.to_string());
    }
    facts
}

/// The number in its epoch of a batch, which is not a count of the batches seen: one whose images
/// are all broken never comes.
pub(crate) struct BatchNumbers {
    place: Vec<usize>,
    batch_size: usize,
}

impl BatchNumbers {
    pub(crate) fn new(loader: &DataLoader, epoch: usize) -> Self {
        let order = loader.order(epoch);
        let mut place = vec![0; order.len()];
        for (i, &index) in order.iter().enumerate() {
            place[index] = i;
        }
        Self { place, batch_size: loader.config().batch_size }
    }

    pub(crate) fn of(&self, batch: &Batch) -> usize {
        batch.indices.first().map_or(0, |&index| self.place[index] / self.batch_size)
    }
}
