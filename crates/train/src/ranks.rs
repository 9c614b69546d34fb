//! A run of several processes ("ranks"), as the trainer sees it.
//!
//! Each rank has its own part of every batch and the same weights. The gradients of all ranks are summed before the
//! optimizer takes its step, so all ranks take the same step.

mod cards;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use candle_core::backprop::GradStore;
use candle_core::{CpuStorage, DType, Device, Storage, Tensor};
use candle_vision_data::{DataLoader, Share};
use candle_vision_distributed::{Buckets, Communicator, Compression, Values, WorksAlone};
use candle_vision_models::Model;
use candle_vision_ops::{AcrossRanks, backward_each};

use crate::accumulation::Accumulated;
use crate::callback::StopReason;
use crate::config::{Collectives, DistributedConfig, GradientType};
use crate::loss::Mean;
use crate::{Error, Result};
use cards::{Cards, Found};

/// The ranks of a run.
#[derive(Debug)]
pub(crate) struct Ranks {
    communicator: Arc<dyn Communicator>,
    /// The sums of gradients, which a thread of their own makes.
    buckets: Mutex<Buckets>,
    /// What sums gradients in their place, where every rank has a card.
    cards: Option<Cards>,
    /// Why it does not, if ranks have cards.
    through_host: Option<String>,
    /// With synchronised batch norm.
    batch_norm: Option<Arc<dyn AcrossRanks>>,
}

/// Why a step cannot be captured.
const THROUGH_HOSTS: &str = "gradients go between the processes through the memory of the hosts";

/// What all ranks together measured in a step.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Together {
    pub(crate) samples: usize,
    /// The mean loss.
    pub(crate) loss: f64,
    /// `None` if that is not known.
    pub(crate) correct: Option<usize>,
    /// Why the run ends, if a rank was asked to end it.
    pub(crate) stop: Option<StopReason>,
    /// The seconds that each rank waited for others so far.
    pub(crate) waited: Vec<f64>,
}

impl Ranks {
    pub(crate) fn new(
        communicator: Arc<dyn Communicator>,
        config: &DistributedConfig,
        device: &Device,
    ) -> Result<Self> {
        let compression = match config.gradients {
            GradientType::F32 => Compression::None,
            GradientType::Bf16 => Compression::Bf16,
        };
        let full = config.values_of_bucket();
        let buckets = Mutex::new(Buckets::new(Arc::clone(&communicator), compression, full)?);
        let found = Cards::connect(communicator.as_ref(), config, device)?;
        let (cards, through_host) = match (found, config.collectives) {
            (Found::Cards(cards), _) => (Some(cards), None),
            (Found::NoCard, Collectives::Nccl) => return Err(no_nccl("no rank has a card")),
            (Found::Not(reason), Collectives::Nccl) => return Err(no_nccl(&reason)),
            (Found::NoCard, _) => (None, None),
            (Found::Not(reason), _) => (None, Some(reason)),
        };
        let batch_norm = config.synchronises_batch_norm().then(|| match &cards {
            Some(cards) => cards.batch_norm(),
            None => Arc::new(OfTensors(Arc::clone(&communicator))),
        });
        Ok(Self { communicator, buckets, cards, through_host, batch_norm })
    }

    pub(crate) fn rank(&self) -> usize {
        self.communicator.rank()
    }

    pub(crate) fn communicator(&self) -> &dyn Communicator {
        self.communicator.as_ref()
    }

    pub(crate) fn batch_norm(&self) -> Option<Arc<dyn AcrossRanks>> {
        self.batch_norm.clone()
    }

    /// Why gradients go through the memory of the hosts although ranks have cards, if they do.
    pub(crate) fn through_host(&self) -> Option<&str> {
        self.through_host.as_deref()
    }

    fn buckets(&self) -> MutexGuard<'_, Buckets> {
        self.buckets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The sums over all ranks of the gradients of `loss * seed` and of what each accumulated before.
    pub(crate) fn backward(
        &self,
        loss: &Tensor,
        seed: &Tensor,
        accumulated: Accumulated,
    ) -> Result<GradStore> {
        match &self.cards {
            Some(cards) => cards.backward(loss, seed, accumulated, self.communicator()),
            None => sums_across_ranks(loss, seed, accumulated, &mut self.buckets()),
        }
    }

    /// The same in a CUDA graph, where the hosts do not meet, and how many bytes the card hands over in each launch.
    pub(crate) fn captured_backward(
        &self,
        loss: &Tensor,
        seed: &Tensor,
    ) -> Result<(GradStore, u64)> {
        self.cards()?.captured_backward(loss, seed)
    }

    /// The sums over all ranks of gradients that this one has added up, in a CUDA graph, with the bytes of a launch.
    pub(crate) fn captured_sums(&self, gradients: &[(Tensor, Tensor)]) -> Result<(GradStore, u64)> {
        self.cards()?.captured_sums(gradients)
    }

    fn cards(&self) -> Result<&Cards> {
        let none = || Error::from(candle_core::Error::msg(THROUGH_HOSTS));
        self.cards.as_ref().ok_or_else(none)
    }

    /// Whether gradients go from card to card. It is so on all ranks or on none.
    pub(crate) fn have_cards(&self) -> bool {
        self.cards.is_some()
    }

    /// Why a step of these ranks cannot be a part of a CUDA graph, if so.
    pub(crate) fn obstacle_to_capture(&self) -> Option<String> {
        match &self.cards {
            None => Some(THROUGH_HOSTS.to_owned()),
            Some(cards) => cards.obstacle_to_capture(),
        }
    }

    /// What each rank says, in the order of ranks: a word and a reason.
    pub(crate) fn said(&self, word: u8, reason: &str) -> Result<Vec<(u8, String)>> {
        let own = [&[word], reason.as_bytes()].concat();
        let of = |bytes: &Vec<u8>| {
            let (word, reason) = bytes.split_first().unwrap_or((&0, &[]));
            (*word, String::from_utf8_lossy(reason).into_owned())
        };
        Ok(self.communicator.all_gather(&own)?.iter().map(of).collect())
    }

    /// After a graph of all ranks was launched, before anybody waits for the card: a card waits without an end for a rank that
    /// does not come, and a host notices it. `bytes` is what this card handed over.
    pub(crate) fn after_launch(&self, bytes: u64) -> Result<()> {
        self.cards()?.count_bytes(bytes);
        Ok(self.communicator.barrier()?)
    }

    /// Puts together what the ranks measured.
    pub(crate) fn together(
        &self,
        samples: usize,
        loss: Mean,
        correct: Option<usize>,
        stop: Option<StopReason>,
    ) -> Result<Together> {
        let waited = self.traffic().0.as_secs_f64();
        let is = |reason| f64::from(stop == Some(reason));
        let (terms, weight) = loss.sums();
        let own = [
            samples as f64,
            terms,
            weight,
            correct.map_or(0.0, |correct| correct as f64),
            f64::from(correct.is_none()),
            is(StopReason::Interrupted),
            is(StopReason::StoppedByCallback),
            waited,
        ];
        let all = self.gathered(own)?;
        let [samples, terms, weight, correct, unknown, interrupted, by_callback, _] = added(&all);
        let mut loss = Mean::default();
        loss.add(terms, weight);
        let stop = if interrupted > 0.0 {
            Some(StopReason::Interrupted)
        } else {
            (by_callback > 0.0).then_some(StopReason::StoppedByCallback)
        };
        Ok(Together {
            samples: samples as usize,
            loss: loss.value(),
            correct: (unknown == 0.0).then_some(correct as usize),
            stop,
            waited: all.iter().map(|[.., waited]| *waited).collect(),
        })
    }

    /// The sum of what the ranks give.
    pub(crate) fn sum(&self, own: f64) -> Result<f64> {
        let [sum] = self.sums([own])?;
        Ok(sum)
    }

    /// The sums of what the ranks give.
    pub(crate) fn sums<const N: usize>(&self, own: [f64; N]) -> Result<[f64; N]> {
        Ok(added(&self.gathered(own)?))
    }

    /// What each rank gives, in the order of ranks.
    fn gathered<const N: usize>(&self, own: [f64; N]) -> Result<Vec<[f64; N]>> {
        let bytes: Vec<u8> = own.iter().flat_map(|value| value.to_le_bytes()).collect();
        let values = |bytes: Vec<u8>| {
            let mut values = [0.0; N];
            let given = bytes.as_chunks().0.iter().map(|bytes| f64::from_le_bytes(*bytes));
            values.iter_mut().zip(given).for_each(|(value, given)| *value = given);
            values
        };
        Ok(self.communicator.all_gather(&bytes)?.into_iter().map(values).collect())
    }

    /// Checks that all ranks were started with the same settings and data.
    ///
    /// # Errors
    /// [`Error::RanksDiffer`] on every rank, with the first fact that differs.
    pub(crate) fn check_same(&self, facts: &BTreeMap<String, String>) -> Result<()> {
        let own = serde_json::to_vec(facts).map_err(|error| unreadable(&error))?;
        let all = self.communicator.all_gather(&own)?;
        let read = |bytes: &Vec<u8>| -> Result<BTreeMap<String, String>> {
            serde_json::from_slice(bytes).map_err(|error| unreadable(&error))
        };
        let all = all.iter().map(read).collect::<Result<Vec<_>>>()?;
        // A rank may know a fact that the first does not: settings that are as usual are not among them.
        let whats: BTreeSet<&String> = all.iter().flat_map(BTreeMap::keys).collect();
        for what in whats {
            let expected = all[0].get(what);
            if let Some(rank) = all.iter().position(|facts| facts.get(what) != expected) {
                let text = |fact: Option<&String>| fact.cloned().unwrap_or("not given".to_owned());
                let (found, expected) = (text(all[rank].get(what)), text(expected));
                return Err(Error::RanksDiffer { rank, what: what.clone(), found, expected });
            }
        }
        Ok(())
    }

    /// Gives all ranks the parameters and buffers of rank 0.
    pub(crate) fn share_weights(&self, model: &dyn Model) -> Result<()> {
        self.share(model, |_| true)
    }

    /// Gives all ranks the buffers of rank 0: without synchronised batch norm, each has its own running statistics.
    pub(crate) fn share_buffers(&self, model: &dyn Model) -> Result<()> {
        let weights: Vec<String> =
            model.parameters().weights().iter().map(|weight| weight.path().to_owned()).collect();
        self.share(model, |path| !weights.iter().any(|weight| weight == path))
    }

    fn share(&self, model: &dyn Model, wanted: impl Fn(&str) -> bool) -> Result<()> {
        let all = model.parameters().all();
        let all: Vec<_> = all.iter().filter(|parameter| wanted(parameter.path())).collect();
        let tensors = all.iter().map(|parameter| (parameter.path(), parameter.detached()));
        let mut bytes = Vec::new();
        if self.rank() == 0 {
            let _alone = self.works_alone();
            bytes = to_bytes(tensors)?;
        }
        self.communicator.broadcast(&mut bytes, 0)?;
        if self.rank() > 0 {
            let found = from_bytes(&bytes, &model.parameters().device())?;
            for parameter in all {
                if let Some(tensor) = found.get(parameter.path()) {
                    parameter.var().set(tensor)?;
                }
            }
        }
        Ok(())
    }

    /// What rank 0 says.
    pub(crate) fn as_first_says(&self, says: bool) -> Result<bool> {
        let mut bytes = vec![u8::from(says)];
        self.communicator.broadcast(&mut bytes, 0)?;
        Ok(bytes.contains(&1))
    }

    /// Until the answer is dropped, the others wait for this rank without a limit.
    pub(crate) fn works_alone(&self) -> WorksAlone {
        self.communicator.works_alone()
    }

    /// Waits until rank 0 has written what it writes.
    pub(crate) fn wait_for_writer(&self) -> Result<()> {
        Ok(self.communicator.barrier()?)
    }

    /// How long this rank waited for others so far, and how many bytes it sent. How long its card waited is not known.
    pub(crate) fn traffic(&self) -> (Duration, u64) {
        let (buckets, own) = (self.buckets(), self.communicator.traffic());
        let of_card = self.cards.as_ref().map_or(0, Cards::bytes);
        (buckets.exposed() + own.waited, buckets.traffic().bytes + own.bytes + of_card)
    }

    /// The rank that waited least for the others, because they waited for it, and its host.
    pub(crate) fn slowest(&self, waited: Duration) -> Result<(usize, String)> {
        let mut own = waited.as_secs_f64().to_le_bytes().to_vec();
        own.extend(self.communicator.host().as_bytes());
        let all = self.communicator.all_gather(&own)?;
        let of = |bytes: &Vec<u8>| {
            let (seconds, host) = bytes.split_first_chunk().unwrap_or((&[0; 8], &[]));
            (f64::from_le_bytes(*seconds), String::from_utf8_lossy(host).into_owned())
        };
        let waits = all.iter().map(of).enumerate();
        let least = waits.min_by(|(_, (a, _)), (_, (b, _))| a.total_cmp(b));
        Ok(least.map_or((0, String::new()), |(rank, (_, host))| (rank, host)))
    }
}

/// The sums over all ranks of the gradients of `loss * seed`, for a training loop of one's own. The trainer makes them so.
///
/// With a seed of the rank's part of the batch, these are the gradients of the mean loss over the whole batch. They go to the
/// other ranks while those of earlier layers are still being computed. All ranks call this with losses of the same network.
///
/// # Errors
/// If the backward pass fails, or another rank has ended.
///
/// # Example
/// ```
/// use std::sync::Arc;
///
/// use candle_core::{Device, Tensor, Var};
/// use candle_vision_distributed::{Buckets, Communicator, Compression, threads};
/// use candle_vision_ops::linear;
/// use candle_vision_train::backward_across_ranks;
///
/// let gradient_on = |rank: Arc<dyn Communicator>| {
///     let weight = Var::new(&[[2f32]], &Device::Cpu)?;
///     let x = Tensor::new(&[[1.0 + rank.rank() as f32]], &Device::Cpu)?;
///     let mut buckets = Buckets::new(rank, Compression::None, Buckets::USUAL)?;
///     let loss = linear(&x, &weight, None)?;
///     let half = loss.ones_like()?.affine(0.5, 0.0)?; // each rank has half of the batch
///     let grads = backward_across_ranks(&loss, &half, &mut buckets)?;
///     Ok(grads.get(&weight).expect("a gradient").to_vec2::<f32>()?[0][0])
/// };
/// let gradients = std::thread::scope(|scope| {
///     let ranks: Vec<_> =
///         threads(2).into_iter().map(|rank| scope.spawn(move || gradient_on(Arc::new(rank)))).collect();
///     ranks.into_iter().map(|rank| rank.join().expect("no panic")).collect()
/// });
/// let gradients: candle_vision_train::Result<Vec<f32>> = gradients;
/// assert_eq!(gradients?, [1.5, 1.5]);
/// # Ok::<(), candle_vision_train::Error>(())
/// ```
pub fn backward_across_ranks(
    loss: &Tensor,
    seed: &Tensor,
    buckets: &mut Buckets,
) -> Result<GradStore> {
    sums_across_ranks(loss, seed, Accumulated::default(), buckets)
}

fn sums_across_ranks(
    loss: &Tensor,
    seed: &Tensor,
    mut accumulated: Accumulated,
    buckets: &mut Buckets,
) -> Result<GradStore> {
    let mut variables = Vec::new();
    let mut push = |variable: &Tensor, gradient: &Tensor| -> candle_core::Result<()> {
        let gradient = gradient.to_dtype(DType::F32)?.contiguous()?;
        match gradient.device() {
            Device::Cpu => buckets.push_shared(OnCpu(gradient.clone()), gradient.elem_count()),
            _ => buckets.push(&gradient.flatten_all()?.to_vec1()?),
        }
        variables.push(variable.clone());
        Ok(())
    };
    let mut found = backward_each(loss, seed, |variable, gradient| {
        push(variable, &accumulated.added_to(variable, gradient)?)
    })?;
    // A training step of a program's own may use other parameters in each batch.
    for (variable, gradient) in accumulated.rest()? {
        push(&variable, &gradient)?;
    }
    for (variable, sum) in variables.iter().zip(buckets.finish()?) {
        let sum = Tensor::from_vec(sum, variable.dims(), variable.device())?;
        found.insert(variable, sum.to_dtype(variable.dtype())?);
    }
    Ok(found)
}

/// The values of a contiguous `f32` tensor on the CPU.
struct OnCpu(Tensor);

impl Values for OnCpu {
    fn read(&self, then: &mut dyn FnMut(&[f32])) {
        let (storage, layout) = self.0.storage_and_layout();
        if let Storage::Cpu(CpuStorage::F32(all)) = &*storage {
            then(&all[layout.start_offset()..][..layout.shape().elem_count()]);
        }
    }
}

/// Checks that the loaders give this rank's shares of the data.
pub(crate) fn check_shares(
    communicator: &dyn Communicator,
    train: &DataLoader,
    val: &DataLoader,
) -> Result<()> {
    let (rank, ranks) = (communicator.rank(), communicator.size());
    if ranks == 1 {
        return Ok(());
    }
    let expected = [Share::Samples { rank, ranks }, Share::Batches { rank, ranks }];
    for (what, loader, expected) in
        [("training", train, expected[0]), ("validation", val, expected[1])]
    {
        if loader.shared() != expected {
            let setting = format!("share of the {what} data");
            let remedy = format!("{expected:?}, by `DataLoader::share`");
            return Err(Error::setting(setting, format!("{:?}", loader.shared()), remedy));
        }
        if loader.config().skip_broken {
            // A rank that skips all images of a batch would leave the others waiting.
            return Err(Error::setting(
                "skip_broken",
                "true",
                "false with several processes: take broken images out before",
            ));
        }
    }
    Ok(())
}

/// The sums of what the ranks gave. All of them get the same bits.
fn added<const N: usize>(all: &[[f64; N]]) -> [f64; N] {
    let mut sums = [0.0; N];
    for values in all {
        sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
    }
    sums
}

/// Checks that a loader gives all images, or the share of this process if several evaluate together. The result would be that of
/// some images otherwise, and look like that of all.
pub(crate) fn check_evaluated_share(
    ranks: Option<&dyn Communicator>,
    loader: &DataLoader,
) -> Result<()> {
    let (found, remedy) = match (loader.shared(), ranks) {
        (share, None) if share.ranks().1 == 1 => return Ok(()),
        (share, None) => (share, format!("{:?}, or use `Evaluator::ranks`", Share::All)),
        (share, Some(ranks)) => {
            let own = Share::Batches { rank: ranks.rank(), ranks: ranks.size() };
            if share == own {
                return Ok(());
            }
            (share, format!("{own:?}, by `DataLoader::share`"))
        }
    };
    Err(Error::setting("share of the images to evaluate", format!("{found:?}"), remedy))
}

/// Tensors as they go to other processes: a safetensors file.
pub(crate) fn to_bytes<'t>(
    tensors: impl IntoIterator<Item = (&'t str, Tensor)>,
) -> candle_core::Result<Vec<u8>> {
    Ok(safetensors::serialize(tensors, None)?)
}

/// Tensors that another process sent.
pub(crate) fn from_bytes(
    bytes: &[u8],
    device: &Device,
) -> candle_core::Result<HashMap<String, Tensor>> {
    candle_core::safetensors::load_buffer(bytes, device)
}

fn no_nccl(reason: &str) -> Error {
    let expected =
        format!("\"auto\" or \"host\", because there is no NCCL between the ranks: {reason}");
    Error::setting("distributed.collectives", "nccl", expected)
}

fn unreadable(error: &serde_json::Error) -> Error {
    Error::callback("comparing the settings of all ranks", error.to_string())
}

/// A communicator for the tensors of batch norm.
#[derive(Debug)]
struct OfTensors(Arc<dyn Communicator>);

impl AcrossRanks for OfTensors {
    fn all_gather(&self, tensor: &Tensor) -> candle_core::Result<Vec<Tensor>> {
        const ONLY: &str = "tensor";
        let bytes = to_bytes([(ONLY, tensor.clone())])?;
        let all = self.0.all_gather(&bytes).map_err(candle_core::Error::wrap)?;
        let of = |bytes: &Vec<u8>| {
            let found = from_bytes(bytes, tensor.device())?.remove(ONLY);
            found.ok_or_else(|| candle_core::Error::msg("another process sent no tensor"))
        };
        all.iter().map(of).collect()
    }
}
