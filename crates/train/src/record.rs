//! What a run leaves behind in numbers.

use serde::{Deserialize, Serialize};

/// The result of one epoch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EpochRecord {
    /// Epoch, from 1.
    pub epoch: usize,
    /// Mean loss over the training images, while the network was learning from them.
    pub train_loss: f64,
    /// Fraction of the training images that were classified right, likewise.
    pub train_accuracy: f64,
    /// Mean loss over the validation images, in evaluation mode after the epoch.
    pub val_loss: f64,
    /// Fraction of the validation images that were classified right, likewise.
    pub val_accuracy: f64,
    /// Learning rate of the epoch; of its last step, where each step has its own.
    pub lr: f64,
    /// Wall time of the epoch, validation included.
    pub seconds: f64,
    /// Training images a second, validation not counted.
    pub images_per_second: f64,
}

/// The result of one training batch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BatchRecord {
    /// Step over the whole run, from 1.
    pub step: usize,
    /// Epoch, from 1.
    pub epoch: usize,
    /// Mean loss of the batch before the step.
    pub loss: f64,
    /// Learning rate of the step.
    pub lr: f64,
}

/// Everything a run has measured so far.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct History {
    /// Every finished epoch, in order.
    pub epochs: Vec<EpochRecord>,
    /// Every training batch, in order.
    pub batches: Vec<BatchRecord>,
}

impl History {
    /// The epoch with the highest validation accuracy; of equals the earliest, which has been
    /// trained least on its way there.
    pub fn best(&self) -> Option<&EpochRecord> {
        self.epochs.iter().reduce(
            |best, epoch| {
                if epoch.val_accuracy > best.val_accuracy { epoch } else { best }
            },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(accuracies: &[f64]) -> History {
        let record = |(i, &val_accuracy): (usize, &f64)| EpochRecord {
            epoch: i + 1,
            train_loss: 1.0,
            train_accuracy: 0.5,
            val_loss: 1.0,
            val_accuracy,
            lr: 0.1,
            seconds: 1.0,
            images_per_second: 1.0,
        };
        History { epochs: accuracies.iter().enumerate().map(record).collect(), batches: Vec::new() }
    }

    #[test]
    fn the_earliest_of_equal_epochs_is_best() {
        let best = |accuracies| history(accuracies).best().map(|record| record.epoch);
        assert_eq!(best(&[]), None);
        assert_eq!(best(&[0.0]), Some(1));
        assert_eq!(best(&[0.5, 0.9, 0.7, 0.9]), Some(2));
    }
}
