//! Evaluation by several processes: in each round, each of them shows the network one batch.

use candle_core::{Device, Tensor};
use candle_vision_distributed::Communicator;

use super::Shown;
use crate::ranks::{from_bytes, to_bytes};
use crate::{Error, Result};

const LOGITS: &str = "logits";
const LABELS: &str = "labels";
const INDICES: &str = "indices";

pub(super) struct Round<'a> {
    pub(super) ranks: &'a dyn Communicator,
    /// Number of batches of all processes together.
    pub(super) batches: usize,
    /// Number of batches in the rounds so far.
    pub(super) done: usize,
    /// Where the network is.
    pub(super) device: Device,
}

impl Round<'_> {
    /// Number of the batches that this process shows the network, of so many of all.
    pub(super) fn batches_of(ranks: Option<&dyn Communicator>, batches: usize) -> usize {
        ranks.map_or(batches, |ranks| batches.saturating_sub(ranks.rank()).div_ceil(ranks.size()))
    }

    pub(super) fn is_over(&self) -> bool {
        self.done >= self.batches
    }

    /// Ends a round. Returns the answers of all processes in the order of the batches.
    pub(super) fn meet(&mut self, own: Option<Shown>) -> Result<Vec<Shown>> {
        let left = self.batches - self.done;
        self.done += left.min(self.ranks.size());
        let bytes = own.as_ref().map_or(Ok(Vec::new()), written)?;
        let all = self.ranks.all_gather(&bytes)?;
        let given = all.iter().filter(|bytes| !bytes.is_empty());
        given.map(|bytes| read(bytes, &self.device)).collect()
    }
}

fn written(shown: &Shown) -> Result<Vec<u8>> {
    let indices: Vec<i64> = shown.indices.iter().map(|&index| index as i64).collect();
    let indices = Tensor::new(indices, &Device::Cpu)?;
    let (logits, labels) = (shown.logits.clone(), shown.labels.clone());
    Ok(to_bytes([(LOGITS, logits), (LABELS, labels), (INDICES, indices)])?)
}

fn read(bytes: &[u8], device: &Device) -> Result<Shown> {
    let mut found = from_bytes(bytes, device)?;
    let mut take = |name| {
        let missing =
            || Error::callback("evaluating with other processes", "an answer is not whole");
        found.remove(name).ok_or_else(missing)
    };
    let (logits, labels) = (take(LOGITS)?, take(LABELS)?);
    let indices = take(INDICES)?.to_vec1::<i64>()?;
    Ok(Shown { logits, labels, indices: indices.into_iter().map(|index| index as usize).collect() })
}
