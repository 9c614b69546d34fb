//! What a run takes in memory, said before its first step. A run that cannot fit is refused.

use anyhow::{Result, bail};
use candle_core::{Device, DeviceLocation};
use candle_vision::Registry;
use candle_vision::data::DataLoader;
use candle_vision::models::memory::{MeasuredGraph, MemoryConfig, MemoryEstimate};
use candle_vision::models::{Model, Precision};
use candle_vision_recipe::{OpenedRun, Settings};

use crate::machine_memory::{self, Bytes};
use crate::say;

/// Says what the run takes, and refuses it if that is more than `limit` or, without one, than the device has left. It
/// says nothing about a network that computes with candle's own ops.
///
/// # Errors
/// If the run does not fit.
pub(crate) fn check(
    opened: &OpenedRun,
    settings: &Settings,
    registry: &Registry,
    device: &Device,
    limit: Option<Bytes>,
) -> Result<()> {
    let training = &settings.training;
    let model = &*opened.model;
    // Half precision on a CPU is emulated with candle's ops.
    if device.is_cpu() && training.precision != Precision::F32 {
        return Ok(());
    }
    let optimizer = registry.training.optimizers.build(&training.optimizer)?;
    let batch = settings.data.batch_size.min(opened.train.dataset().len());
    let config = MemoryConfig::new(batch)
        .optimizer_tensors(optimizer.state_tensors())
        .precision(training.precision)
        .frozen_batch_norm(
            training.freeze.as_ref().map(|freeze| freeze.batch_norm).unwrap_or_default(),
        )
        .averages(usize::from(training.ema.is_some()))
        .loader_batches(batches_ahead(&opened.train, device))
        .keeping_allocator(true)
        .program(if device.is_cpu() { program(model, &opened.train) } else { 0 });
    // What cannot be measured is no reason to stop a run.
    let Ok(Some(graph)) = MeasuredGraph::of(model, &config) else { return Ok(()) };
    let Some(estimate) = graph.estimate(&config) else { return Ok(()) };
    say::note(format_args!("memory: about {}", in_one_line(&estimate)));
    let Some(limit) = limit.map(|bytes| bytes.0).or_else(|| left_on(device)) else { return Ok(()) };
    if estimate.total() <= limit {
        return Ok(());
    }
    let (total, limit_shown) = (Bytes(estimate.total()), Bytes(limit));
    let remedy = match graph.largest_batch(&config, limit).filter(|largest| *largest < batch) {
        Some(largest) => format!("try `--set data.batch_size={largest}`"),
        None => "take a smaller network or smaller images".to_owned(),
    };
    bail!("batches of {batch} images take about {total}, but there are {limit_shown}; {remedy}")
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
/// loader will keep.
fn program(model: &dyn Model, loader: &DataLoader) -> usize {
    let of_model = model.parameters().all().into_iter();
    let of_model: usize = of_model.map(|p| p.elem_count() * p.var().dtype().size_in_bytes()).sum();
    machine_memory::resident().saturating_sub(of_model) + cached(loader)
}

fn cached(loader: &DataLoader) -> usize {
    let set = loader.dataset();
    if set.in_memory() || !set.is_cacheable() {
        return 0;
    }
    let of_image = set.sample(0).map_or(0, |sample| sample.image.pixels().len());
    (of_image * set.len()).min(loader.config().cache_bytes)
}

fn left_on(device: &Device) -> Option<usize> {
    match device.location() {
        DeviceLocation::Cpu => machine_memory::for_this_process(),
        DeviceLocation::Cuda { gpu_id } => machine_memory::of_card(gpu_id),
        DeviceLocation::Metal { .. } => None,
    }
}
