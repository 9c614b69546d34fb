//! Evaluation by several processes: in each round, each of them shows the network one batch.

use candle_core::{DType, Device, Tensor};

use candle_vision_distributed::Communicator;

use super::Shown;
use crate::{Error, Result};

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

/// Number types of logits, by the numbers that stand for them between processes.
const TYPES: [DType; 4] = [DType::F32, DType::F64, DType::F16, DType::BF16];

/// Number of images and of classes, type of the logits; labels; indices; logits.
fn written(shown: &Shown) -> Result<Vec<u8>> {
    let (images, classes) = shown.logits.dims2()?;
    let mut bytes = Vec::new();
    let dtype = TYPES.iter().position(|dtype| *dtype == shown.logits.dtype()).unwrap_or(0);
    bytes.extend([images, classes, dtype].map(|n| (n as u64).to_le_bytes()).concat());
    for label in shown.labels.to_vec1::<u32>()? {
        bytes.extend(label.to_le_bytes());
    }
    for &index in &shown.indices {
        bytes.extend((index as u64).to_le_bytes());
    }
    for logit in shown.logits.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>()? {
        bytes.extend(logit.to_le_bytes());
    }
    Ok(bytes)
}

fn read(bytes: &[u8], device: &Device) -> Result<Shown> {
    let cut = || Error::callback("evaluating with other processes", "an answer was cut short");
    let (head, rest) = bytes.split_at_checked(24).ok_or_else(cut)?;
    let [images, classes, dtype] = [0, 1, 2].map(|i| number(&head[8 * i..]) as usize);
    let lens = [4 * images, 8 * images, 8 * images * classes];
    if rest.len() != lens.iter().sum::<usize>() {
        return Err(cut());
    }
    let (labels, rest) = rest.split_at(lens[0]);
    let (indices, logits) = rest.split_at(lens[1]);
    let labels: Vec<u32> = labels.as_chunks().0.iter().map(|b| u32::from_le_bytes(*b)).collect();
    let indices = indices.as_chunks().0.iter().map(|b| u64::from_le_bytes(*b) as usize).collect();
    let logits: Vec<f64> = logits.as_chunks().0.iter().map(|b| f64::from_le_bytes(*b)).collect();
    Ok(Shown {
        // Back to the numbers that they were: a wider type holds them exactly.
        logits: Tensor::from_vec(logits, (images, classes), device)?
            .to_dtype(TYPES.get(dtype).copied().unwrap_or(DType::F32))?,
        labels: Tensor::from_vec(labels, images, device)?,
        indices,
    })
}

fn number(bytes: &[u8]) -> u64 {
    bytes.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}
