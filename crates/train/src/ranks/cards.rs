//! Gradients that are summed from card to card, without the memory of the hosts.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Tensor};
use candle_vision_distributed::Communicator;
use candle_vision_ops::{AcrossRanks, CardRanks, backward_each};
use candle_vision_registry::as_reason;

use crate::Result;
use crate::accumulation::{Accumulated, in_order};
use crate::config::{Collectives, DistributedConfig, GradientType};

/// The cards of all ranks, and in which form gradients go between them.
#[derive(Debug)]
pub(super) struct Cards {
    ranks: Arc<CardRanks>,
    dtype: DType,
    /// Number of values from which a bucket is full.
    full: usize,
    /// Bytes that were handed over so far.
    bytes: AtomicU64,
}

/// How gradients travel, and why not from card to card if a card would have liked that.
#[derive(Debug)]
pub(super) enum Found {
    Cards(Cards),
    /// No rank has a card that would be used.
    NoCard,
    Not(String),
}

const NO_CARD: &str = "its device is no card";
const THROUGH_HOST: &str = "its settings ask for the memory of the hosts";

impl Cards {
    /// Connects the cards of all ranks. All of them call this and get the same answer, also if their settings differ, which is
    /// told later.
    pub(super) fn connect(
        communicator: &dyn Communicator,
        config: &DistributedConfig,
        device: &Device,
    ) -> Result<Found> {
        let (rank, ranks) = (communicator.rank(), communicator.size());
        let own = match config.collectives {
            Collectives::Host => error(THROUGH_HOST),
            _ if !device.is_cuda() => error(NO_CARD),
            _ => CardRanks::find_library(),
        };
        let found = reasons(communicator, &own)?;
        if found.iter().all(|reason| reason == NO_CARD || reason == THROUGH_HOST) {
            return Ok(Found::NoCard);
        }
        if let Some(reason) = first(&found) {
            return Ok(Found::Not(reason));
        }
        let id = if rank == 0 { CardRanks::new_id() } else { Ok(Vec::new()) };
        let mut bytes = id.as_ref().cloned().unwrap_or_default();
        communicator.broadcast(&mut bytes, 0)?;
        // Without an id nobody waits for others here, and the first rank has the reason.
        let joined = id.and_then(|_| match bytes.as_slice() {
            [] => error("the first rank made no id for NCCL"),
            id => CardRanks::join(device, id, rank, ranks),
        });
        let found = reasons(communicator, &joined)?;
        Ok(match (first(&found), joined) {
            (None, Ok(ranks)) => Found::Cards(Self::new(ranks, config)),
            (reason, _) => Found::Not(reason.unwrap_or_default()),
        })
    }

    fn new(ranks: CardRanks, config: &DistributedConfig) -> Self {
        let dtype = match config.gradients {
            GradientType::F32 => DType::F32,
            GradientType::Bf16 => DType::BF16,
        };
        let full = config.values_of_bucket().max(1);
        Self { ranks: Arc::new(ranks), dtype, full, bytes: AtomicU64::new(0) }
    }

    /// The cards, as batch norm sees them.
    pub(super) fn batch_norm(&self) -> Arc<dyn AcrossRanks> {
        Arc::clone(&self.ranks) as Arc<dyn AcrossRanks>
    }

    /// Bytes of gradients that this card handed over so far.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Why sums between the cards cannot be a part of a CUDA graph, if so.
    pub(super) fn obstacle_to_capture(&self) -> Option<String> {
        self.ranks.check_capturable().err().map(|error| error.to_string())
    }

    /// Notes that so many bytes were handed over.
    pub(super) fn count_bytes(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// The sums over all ranks of the gradients of `loss * seed` and of what each accumulated before. The card makes those of later layers while it still
    /// computes those of earlier ones, and the host does not wait for it.
    pub(super) fn backward(
        &self,
        loss: &Tensor,
        seed: &Tensor,
        mut accumulated: Accumulated,
        communicator: &dyn Communicator,
    ) -> Result<GradStore> {
        let push_each = |buckets: &mut Buckets<'_>| {
            let found = backward_each(loss, seed, |variable, gradient| {
                buckets.push(variable, &accumulated.added_to(variable, gradient)?)
            })?;
            for (variable, gradient) in accumulated.rest()? {
                buckets.push(&variable, &gradient)?;
            }
            Ok(found)
        };
        let (sums, bytes) = self.sums_of(push_each, Some(communicator))?;
        self.count_bytes(bytes);
        Ok(sums)
    }

    /// The sums over all ranks of the gradients of `loss * seed` in a graph, where the hosts do not meet, and how many bytes a
    /// launch hands over.
    pub(super) fn captured_backward(
        &self,
        loss: &Tensor,
        seed: &Tensor,
    ) -> Result<(GradStore, u64)> {
        let push_each = |buckets: &mut Buckets<'_>| {
            backward_each(loss, seed, |variable, gradient| buckets.push(variable, gradient))
        };
        self.sums_of(push_each, None)
    }

    /// The same of gradients that were added up before.
    pub(super) fn captured_sums(&self, gradients: &[(Tensor, Tensor)]) -> Result<(GradStore, u64)> {
        let push_each = |buckets: &mut Buckets<'_>| {
            let mut each = gradients.iter();
            each.try_for_each(|(variable, gradient)| buckets.push(variable, gradient))?;
            Ok(GradStore::default())
        };
        self.sums_of(push_each, None)
    }

    /// The sums over all ranks of the gradients that `push_each` pushes, put into what it returns, and their bytes. The hosts
    /// meet if there is a `communicator`.
    fn sums_of(
        &self,
        push_each: impl FnOnce(&mut Buckets<'_>) -> candle_core::Result<GradStore>,
        communicator: Option<&dyn Communicator>,
    ) -> Result<(GradStore, u64)> {
        let mut buckets = Buckets::new(self);
        let found = push_each(&mut buckets);
        let found = found.and_then(|found| buckets.send().map(|()| found));
        // After an error too: memory that NCCL still writes must not be given to others.
        self.ranks.wait()?;
        let mut found = found?;
        // A card waits without an end for a rank that does not come. Here the hosts notice it, before they wait for the card.
        communicator.map_or(Ok(()), Communicator::barrier)?;
        for Bucket { variables, sums } in buckets.sent {
            let sums = sums.to_dtype(DType::F32)?;
            let mut start = 0;
            for variable in variables {
                let len = variable.elem_count();
                // In memory of its own, where kernels may read several values at once.
                let sum = sums.narrow(0, start, len)?.force_contiguous()?;
                found.insert(&variable, sum.reshape(variable.dims())?.to_dtype(variable.dtype())?);
                start += len;
            }
        }
        Ok((found, buckets.bytes))
    }
}

/// Gradients on their way to the other cards.
struct Buckets<'a> {
    cards: &'a Cards,
    variables: Vec<Tensor>,
    rows: Vec<Tensor>,
    values: usize,
    sent: Vec<Bucket>,
    bytes: u64,
}

struct Bucket {
    variables: Vec<Tensor>,
    /// Their gradients, one behind the other.
    sums: Tensor,
}

impl<'a> Buckets<'a> {
    fn new(cards: &'a Cards) -> Self {
        Self {
            cards,
            variables: Vec::new(),
            rows: Vec::new(),
            values: 0,
            sent: Vec::new(),
            bytes: 0,
        }
    }

    fn push(&mut self, variable: &Tensor, gradient: &Tensor) -> candle_core::Result<()> {
        let row = in_order(&gradient.detach())?.to_dtype(self.cards.dtype)?.flatten_all()?;
        self.rows.push(row);
        self.variables.push(variable.clone());
        self.values += gradient.elem_count();
        if self.values >= self.cards.full { self.send() } else { Ok(()) }
    }

    fn send(&mut self) -> candle_core::Result<()> {
        let (variables, rows) =
            (std::mem::take(&mut self.variables), std::mem::take(&mut self.rows));
        let values = std::mem::take(&mut self.values);
        // In memory of its own, because a gradient may be that of several variables.
        let sums = match rows.as_slice() {
            [] => return Ok(()),
            [row] => row.force_contiguous()?,
            rows => Tensor::cat(rows, 0)?,
        };
        // It is kept also if the call fails, until the card has come to its end.
        let sent = self.cards.ranks.sum(&sums);
        self.sent.push(Bucket { variables, sums });
        self.bytes += (values * self.cards.dtype.size_in_bytes()) as u64;
        sent
    }
}

fn error<T>(text: &str) -> candle_core::Result<T> {
    Err(candle_core::Error::Msg(text.to_owned()))
}

/// What went wrong on each rank, by rank; empty where nothing did.
fn reasons<T>(
    communicator: &dyn Communicator,
    own: &candle_core::Result<T>,
) -> Result<Vec<String>> {
    let own = own.as_ref().err().map(as_reason).unwrap_or_default();
    let all = communicator.all_gather(own.as_bytes())?;
    Ok(all.iter().map(|bytes| String::from_utf8_lossy(bytes).into_owned()).collect())
}

fn first(reasons: &[String]) -> Option<String> {
    let mut of_ranks = reasons.iter().enumerate();
    let (rank, reason) = of_ranks.find(|(_, reason)| !reason.is_empty())?;
    Some(format!("rank {rank}: {reason}"))
}
