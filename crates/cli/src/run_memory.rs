//! What a run takes in memory, said before its first step. A run that cannot fit is refused, and `batch_size = "auto"`
//! takes what fits.

use anyhow::{Result, bail};
use candle_core::Device;
use candle_vision::Registry;
use candle_vision::data::{DataLoader, Share};
use candle_vision::models::memory::{MeasuredGraph, MemoryConfig, MemoryEstimate, SAFE_SHARE};
use candle_vision::models::{Model, Parameter, Precision};
use candle_vision::ops::card_memory;
use candle_vision::report::load_fonts;
use candle_vision::train::OptimizerState;
use candle_vision_recipe::{BatchSize, OpenedRun, Settings};

use crate::machine_memory::{self, Bytes};
use crate::ranks::Ranks;
use crate::{device, say};

/// The batches of a run whose memory cannot be estimated.
const WITHOUT_ESTIMATE: usize = 32;

/// Settles `batch_size = "auto"`: takes the largest batch that fits, says which, and puts it into the settings.
/// [`check`] refuses a run of which not even one image fits.
///
/// # Errors
/// If the loaders cannot be made anew.
pub(crate) fn settle_batch_size(
    opened: &mut OpenedRun,
    settings: &mut Settings,
    registry: &Registry,
    (device, ranks): (&Device, Option<&Ranks>),
    limit: Option<Bytes>,
) -> Result<()> {
    if let BatchSize::Images(given) = settings.data.batch_size {
        // Ranks meet here also if their recipes differ, which is told later.
        return ranks.map_or(Ok(given), |ranks| ranks.smallest(given)).map(|_| ());
    }
    let images = opened.train.dataset().len();
    let limit = within_limits(opened, (device, ranks), limit);
    let measured = measured(opened, settings, registry, device)?;
    let (fitting, why) = match (measured, limit) {
        (Some((graph, config)), Some(limit)) => {
            let fitting = graph.largest_batch(&config, limit).unwrap_or(0);
            let share = 100.0 * SAFE_SHARE;
            let of_host = shared_memory(device, ranks);
            (fitting, format!("{fitting} would fit into {share:.0} % of {}{of_host}", Bytes(limit)))
        }
        (Some(_), None) => {
            let why = "how much memory the device has is not known; say it with --memory SIZE";
            (WITHOUT_ESTIMATE, why.to_owned())
        }
        (None, _) => {
            let why = "what a step takes cannot be estimated for this network and precision";
            (WITHOUT_ESTIMATE, why.to_owned())
        }
    };
    // A step takes a batch of each rank, and several of them where they are accumulated.
    let in_step = ranks.map_or(1, |ranks| ranks.communicator.size()) * settings.training.accumulate;
    let own = BatchSize::automatic(fitting, images / in_step);
    // All ranks have batches of one size, so the rank with the least memory decides.
    let batch = ranks.map_or(Ok(own), |ranks| ranks.smallest(own))?;
    let why = if batch < own { "another rank has less memory".to_owned() } else { why };
    say::note(format_args!("batch size: auto takes {batch} for {images} training images ({why})"));
    opened.set_batch_size(batch)?;
    settings.data.batch_size = BatchSize::Images(batch);
    Ok(())
}

/// Says what the run takes, and refuses it if that is more than `limit` or, without one, than the device has left. It
/// says nothing about a network that computes with candle's own ops.
///
/// # Errors
/// If the run does not fit.
pub(crate) fn check(
    opened: &OpenedRun,
    settings: &Settings,
    registry: &Registry,
    (device, ranks): (&Device, Option<&Ranks>),
    limit: Option<Bytes>,
) -> Result<()> {
    let Some((graph, config)) = measured(opened, settings, registry, device)? else {
        return Ok(());
    };
    let Some(estimate) = graph.estimate(&config) else { return Ok(()) };
    say::note(format_args!("memory: about {}", in_one_line(&estimate)));
    let Some(limit) = within_limits(opened, (device, ranks), limit) else { return Ok(()) };
    if estimate.total() <= limit {
        return Ok(());
    }
    let (total, limit_shown) = (Bytes(estimate.total()), Bytes(limit));
    let batch = config.batch;
    let mut remedy = match graph.largest_batch(&config, limit).filter(|largest| *largest < batch) {
        Some(largest) => format!("try `--batch-size {largest}`"),
        None => "take a smaller network or smaller images".to_owned(),
    };
    if device::limit().is_some_and(|bytes| bytes.0 == limit) {
        remedy += " or a larger --device-memory";
    }
    let of_host = shared_memory(device, ranks);
    bail!(
        "batches of {batch} images take about {total}, but there are {limit_shown}{of_host}; {remedy}"
    )
}

/// The graphs of two small passes of the network, and the run's settings that matter for its memory. `None` if what a
/// step keeps is not known.
fn measured(
    opened: &OpenedRun,
    settings: &Settings,
    registry: &Registry,
    device: &Device,
) -> Result<Option<(MeasuredGraph, MemoryConfig)>> {
    let training = &settings.training;
    let model = &*opened.model;
    // Half precision on a CPU is emulated with candle's ops.
    if device.is_cpu() && training.precision != Precision::F32 {
        return Ok(None);
    }
    let of_groups = training.param_groups.iter().filter_map(|group| group.optimizer.as_ref());
    let optimizers = std::iter::once(&training.optimizer).chain(of_groups);
    let counts = optimizers
        .map(|optimizer| Ok(registry.training.optimizers.build(optimizer)?.state_tensors()));
    // Which parameters a group holds is not looked at: rather too much memory than too little.
    let state_tensors = counts.collect::<Result<Vec<_>>>()?.into_iter().max().unwrap_or_default();
    let batch = opened.train.config().batch_size.min(opened.train.dataset().len());
    let config = MemoryConfig::new(batch)
        .optimizer_tensors(state_tensors)
        .optimizer_ranks(optimizer_ranks(opened, settings))
        .accumulates(training.accumulate > 1)
        .precision(training.precision)
        .frozen_batch_norm(
            training.freeze.as_ref().map(|freeze| freeze.batch_norm).unwrap_or_default(),
        )
        .averages(usize::from(training.ema.is_some()))
        .loader_batches(batches_ahead(&opened.train, device))
        .validation(true)
        .keeping_allocator(true)
        .program(if device.is_cpu() {
            program(model, [&opened.train, &opened.val])
        } else {
            opened.bytes_on_device()
        });
    let config = config.captured(plain_images(opened, settings, device));
    let released = training.freeze.as_ref().is_some_and(|freeze| freeze.epochs < training.epochs);
    let frozen = if released { learning(model)? } else { Vec::new() };
    // What cannot be measured is no reason to stop a run.
    let graph = MeasuredGraph::of(model, &config).ok().flatten();
    for parameter in frozen {
        model.parameters().freeze(parameter.path())?;
    }
    Ok(graph.map(|graph| (graph, config)))
}

/// Number of images of the steps that a graph does not repeat, on a card that captures steps.
fn plain_images(opened: &OpenedRun, settings: &Settings, device: &Device) -> Option<usize> {
    let loader = opened.train.config();
    let last = match loader.drop_last {
        true => 0,
        false => opened.train.dataset().len() % loader.batch_size,
    };
    (device.is_cuda() && settings.cuda.graphs).then_some(last)
}

/// Number of processes that share out the optimizer's state.
fn optimizer_ranks(opened: &OpenedRun, settings: &Settings) -> usize {
    match (settings.training.distributed.optimizer_state, opened.train.shared()) {
        (OptimizerState::Sharded, Share::Samples { ranks, .. }) => ranks,
        _ => 1,
    }
}

/// Lets every parameter learn, as in the epochs after the frozen ones, which take more memory. Returns those that were
/// frozen.
fn learning(model: &dyn Model) -> Result<Vec<Parameter>> {
    let mut frozen = model.parameters().weights();
    frozen.retain(|parameter| !parameter.is_trainable());
    for parameter in &frozen {
        model.parameters().unfreeze(parameter.path())?;
    }
    Ok(frozen)
}

/// The total and the larger parts: `1.9 GiB: parameters 45 MiB, activations 1.5 GiB`.
pub(crate) fn in_one_line(estimate: &MemoryEstimate) -> String {
    let total = estimate.total();
    let parts = estimate.parts();
    let large = parts.iter().filter(|(_, bytes)| 100 * bytes >= total);
    let large: Vec<String> =
        large.map(|(name, bytes)| format!("{name} {}", Bytes(*bytes))).collect();
    format!("{}: {}", Bytes(total), large.join(", "))
}

/// Batches that the loader has ready beside the one in use.
fn batches_ahead(loader: &DataLoader, device: &Device) -> usize {
    let config = loader.config();
    match (config.workers, device.is_cpu()) {
        (0, _) => 0,
        (workers, true) => config.prefetch.max(workers).min(loader.batches_per_epoch()),
        // The others wait in the host's memory.
        (_, false) => 1,
    }
}

/// What this process takes without the network: the program and the data in memory, and the decoded images that the
/// loaders will keep.
fn program(model: &dyn Model, loaders: [&DataLoader; 2]) -> usize {
    // The curves will need them. Without fonts they fail then, and say so.
    let _ = load_fonts();
    let of_model = model.parameters().all().into_iter();
    let of_model: usize = of_model.map(|p| p.elem_count() * p.var().dtype().size_in_bytes()).sum();
    let kept: usize = loaders.into_iter().map(cached).sum();
    machine_memory::resident().saturating_sub(of_model) + kept
}

fn cached(loader: &DataLoader) -> usize {
    let set = loader.dataset();
    if set.in_memory() || !set.is_cacheable() {
        return 0;
    }
    let of_image = set.sample(0).map_or(0, |sample| sample.image.pixels().len());
    (of_image * set.len()).min(loader.config().cache_bytes)
}

/// The memory that a run may take: `asked`, or else what the device has left and the run's images already take of it, and on
/// a card not more than its limit.
fn within_limits(
    opened: &OpenedRun,
    (device, ranks): (&Device, Option<&Ranks>),
    asked: Option<Bytes>,
) -> Option<usize> {
    let Some(Bytes(asked)) = asked else {
        return left_on(device, ranks).map(|left| left + opened.bytes_on_device());
    };
    Some(device::limit().map_or(asked, |limit| asked.min(limit.0)))
}

/// ` for each of 2 ranks on this computer`, where they share its memory.
fn shared_memory(device: &Device, ranks: Option<&Ranks>) -> String {
    match ranks.map_or(1, Ranks::on_this_host) {
        ranks @ 2.. if device.is_cpu() => format!(" for each of {ranks} ranks on this computer"),
        _ => String::new(),
    }
}

fn left_on(device: &Device, ranks: Option<&Ranks>) -> Option<usize> {
    if device.is_cpu() {
        return machine_memory::for_each(ranks.map_or(1, Ranks::on_this_host));
    }
    // The driver's own tool may count the cards in another order than the driver does.
    Some(card_memory(device)?.available() as usize)
}
