//! Checks of a trainer's loaders, and the facts that identify their data.

use std::collections::BTreeMap;

use candle_vision_data::{Batch, DataLoader, check_labels};
use candle_vision_models::Model;

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
        // A device does not check labels. A label that is too large would make it train on garbage.
        check_labels(loader.dataset().as_ref())?;
    }
    let (found, expected) = (val.dataset().classes(), train.dataset().classes());
    if found == expected {
        return Ok(());
    }
    let expected = format!("those of the training data, {expected:?}, in that order");
    Err(Error::setting("classes of the validation data", format!("{found:?}"), expected))
}

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
    }
    facts
}

/// The number of a batch in its epoch. It is not the count of batches seen, because a batch whose images
/// are all broken never comes.
pub(crate) struct BatchNumbers<'a> {
    place: Vec<usize>,
    loader: &'a DataLoader,
}

impl<'a> BatchNumbers<'a> {
    pub(crate) fn new(loader: &'a DataLoader, epoch: usize) -> Self {
        let order = loader.order(epoch);
        let mut place = vec![0; order.len()];
        for (i, &index) in order.iter().enumerate() {
            place[index] = i;
        }
        Self { place, loader }
    }

    pub(crate) fn of(&self, batch: &Batch) -> usize {
        batch.indices.first().map_or(0, |&index| self.loader.batch_at(self.place[index]))
    }
}
