//! `candle-vision scale-plan`: how long many ranks would take, what that costs, and what breaks first.

mod limits;
mod measured;
mod workloads;

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use candle_core::Device;
use candle_vision::Registry;
use candle_vision::distributed::{Link, PlannedStep, StepWork, bucket_bytes};
use comfy_table::CellAlignment;
use serde::Serialize;

use crate::args::ScalePlanArgs;
use crate::say;
use crate::table::table;
use limits::Limits;
use measured::Measured;
use workloads::Workload;

pub(crate) fn run(args: &ScalePlanArgs, registry: &Registry) -> Result<ExitCode> {
    if let Some(file) = &args.compare {
        compare(file, args)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut plans = Vec::new();
    for (workload, images_per_s) in workloads(args)? {
        plans.push(Plan::new(workload, images_per_s, args, registry)?);
    }
    if args.json {
        let plans: Vec<_> = plans.iter().map(|plan| plan.summary(args)).collect();
        say::result(serde_json::to_string_pretty(&plans)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    plans.iter().try_for_each(|plan| plan.print(args))?;
    Ok(ExitCode::SUCCESS)
}

/// What is to be planned, with the images a second of one rank.
fn workloads(args: &ScalePlanArgs) -> Result<Vec<(Workload, f64)>> {
    let measured = args.measured.as_deref().map(Measured::read).transpose()?;
    let wanted: Vec<Workload> = match &args.workload {
        Some(name) => vec![workloads::named(name)?],
        None => workloads::all(),
    };
    let wanted: Vec<Workload> =
        wanted.into_iter().map(|workload| with_changes(workload, args)).collect();
    let rate = |workload: &Workload| {
        let of_file = measured.as_ref().and_then(|file| file.images_per_s(&workload.network));
        args.images_per_s.or(of_file)
    };
    let found: Vec<(Workload, f64)> =
        wanted.iter().filter_map(|workload| Some((workload.clone(), rate(workload)?))).collect();
    if found.is_empty() {
        let networks: Vec<&str> = wanted.iter().map(|workload| workload.network.as_str()).collect();
        let networks = networks.join(" or ");
        match &args.measured {
            Some(file) => bail!("`{}` has no training of {networks}", file.display()),
            None => bail!(
                "a plan needs the images a second that one rank trains of {networks}: WORKLOAD --images-per-s N, or \
                 --measured FILE of `cargo xtask bench train --json FILE`"
            ),
        }
    }
    Ok(found)
}

fn with_changes(workload: Workload, args: &ScalePlanArgs) -> Workload {
    let (largest_batch, source) = match args.largest_batch {
        Some(largest) => (largest, "--largest-batch"),
        None => (workload.largest_batch, workload.source),
    };
    Workload {
        name: workload.name,
        network: args.network.clone().unwrap_or(workload.network),
        images: args.images.unwrap_or(workload.images),
        epochs: args.epochs.unwrap_or(workload.epochs),
        batch_size: args.batch_size.unwrap_or(workload.batch_size),
        image_kib: args.image_kib.unwrap_or(workload.image_kib),
        largest_batch,
        source,
    }
}

/// A workload on ranks of one kind.
struct Plan {
    workload: Workload,
    images_per_s: f64,
    work: StepWork,
    rows: Vec<Row>,
    limits: Limits,
}

/// The plan for a number of ranks.
#[derive(Debug, Clone, Serialize)]
struct Row {
    ranks: usize,
    /// Images of all ranks in a step.
    batch: usize,
    step_ms: f64,
    all_reduce_ms: f64,
    waiting: f64,
    efficiency: f64,
    images_per_s: f64,
    storage_gbit: f64,
    hours: f64,
    cost: Option<f64>,
}

#[derive(Debug, Serialize)]
struct Summary<'a> {
    workload: &'a str,
    network: &'a str,
    images_per_s_of_one_rank: f64,
    bytes_per_step: f64,
    buckets: usize,
    plan: &'a [Row],
    breaks: Vec<Break>,
}

/// What does not hold from a number of ranks on.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Break {
    ranks: usize,
    what: String,
}

impl Plan {
    fn new(
        workload: Workload,
        images_per_s: f64,
        args: &ScalePlanArgs,
        registry: &Registry,
    ) -> Result<Self> {
        let work = StepWork {
            compute: workload.batch_size as f64 / images_per_s,
            backward_share: args.backward_share,
            buckets: buckets(&workload.network, args, registry)?,
        };
        let limits = Limits {
            largest_batch: workload.largest_batch,
            source: workload.source,
            files_per_s: args.files_per_s,
            storage_gbit: args.storage_gbit,
        };
        let row = |&ranks: &usize| row(ranks, &workload, &work, args).1;
        let rows = args.ranks.iter().map(row).collect();
        Ok(Self { workload, images_per_s, work, rows, limits })
    }

    /// What breaks up to the largest number of ranks, the first first.
    fn breaks(&self, args: &ScalePlanArgs) -> Vec<Break> {
        let most = args.ranks.iter().copied().max().unwrap_or(1);
        let all = (1..=most).map(|ranks| row(ranks, &self.workload, &self.work, args));
        self.limits.broken(all)
    }

    fn summary(&self, args: &ScalePlanArgs) -> Summary<'_> {
        Summary {
            workload: self.workload.name,
            network: &self.workload.network,
            images_per_s_of_one_rank: self.images_per_s,
            bytes_per_step: self.work.buckets.iter().sum(),
            buckets: self.work.buckets.len(),
            plan: &self.rows,
            breaks: self.breaks(args),
        }
    }

    fn print(&self, args: &ScalePlanArgs) -> Result<()> {
        let Workload { name, network, images, epochs, batch_size, .. } = &self.workload;
        let megabytes = self.work.buckets.iter().sum::<f64>() / 1e6;
        say::result(format_args!(
            "{name}: {network}, {images} images, epochs: {epochs}; planned from {:.2} images/s of one rank with {batch_size} images \
             a step\neach rank hands over {megabytes:.1} MB a step in {} buckets; {} Gbit/s between computers of {} ranks, {} \
             Gbit/s within, {} us a message",
            self.images_per_s,
            self.work.buckets.len(),
            args.link_gbit,
            args.ranks_per_host,
            args.local_gbit,
            args.latency_us
        ))?;
        let mut shown = table();
        let mut head = vec![
            "ranks",
            "batch",
            "ms/step",
            "all-reduce ms",
            "waiting",
            "efficiency",
            "images/s",
            "Gbit/s read",
            "hours",
        ];
        head.extend(args.price.map(|_| "cost"));
        shown.set_header(head);
        for row in &self.rows {
            shown.add_row(row.cells());
        }
        shown.column_iter_mut().for_each(|column| column.set_cell_alignment(CellAlignment::Right));
        say::result(shown)?;
        let breaks = self.breaks(args);
        if breaks.is_empty() {
            say::result("nothing breaks up to there")?;
        }
        for (index, Break { ranks, what }) in breaks.iter().enumerate() {
            let first = if index == 0 { "breaks first" } else { "breaks then" };
            say::result(format_args!("{first}, from {ranks} ranks on: {what}"))?;
        }
        Ok(())
    }
}

impl Row {
    fn cells(&self) -> Vec<String> {
        let mut cells = vec![
            self.ranks.to_string(),
            self.batch.to_string(),
            format!("{:.1}", self.step_ms),
            format!("{:.1}", self.all_reduce_ms),
            format!("{:.1} %", 100.0 * self.waiting),
            format!("{:.3}", self.efficiency),
            format!("{:.0}", self.images_per_s),
            format!("{:.2}", self.storage_gbit),
            format!("{:.2}", self.hours),
        ];
        cells.extend(self.cost.map(|cost| format!("{cost:.0}")));
        cells
    }
}

/// The buckets of a network's gradients, from its last layer to its first.
fn buckets(network: &str, args: &ScalePlanArgs, registry: &Registry) -> Result<Vec<f64>> {
    const CLASSES: usize = 1000;
    let spec = registry.networks.spec(network, CLASSES)?;
    let model = registry.networks.build(&spec, 0, &Device::Cpu)?;
    let parameters = model.parameters().trainable();
    // A bucket is full by its values, of which each has four bytes while it is filled.
    let scale = args.gradients.bytes() / 4.0;
    let rows = parameters.iter().rev().map(|parameter| parameter.elem_count() as f64 * 4.0);
    let full = args.bucket_mib * f64::from(1 << 20);
    Ok(bucket_bytes(rows, full).into_iter().map(|bytes| bytes * scale).collect())
}

/// The slowest link of a ring of so many ranks.
fn link(ranks: usize, args: &ScalePlanArgs) -> Link {
    // In each computer's part of the ring, one message goes out and one comes in.
    let between = ranks > args.ranks_per_host;
    let gbit = if between { args.link_gbit.min(args.local_gbit) } else { args.local_gbit };
    Link { bytes_per_s: gbit * 1e9 / 8.0, latency: args.latency_us * 1e-6 }
}

fn row(
    ranks: usize,
    workload: &Workload,
    work: &StepWork,
    args: &ScalePlanArgs,
) -> (PlannedStep, Row) {
    let step = work.on(ranks, &link(ranks, args));
    let batch = ranks * workload.batch_size;
    let steps = workload.epochs as f64 * workload.images.div_ceil(batch) as f64;
    let images_per_s = batch as f64 / step.seconds;
    let hours = steps * step.seconds / 3600.0;
    let row = Row {
        ranks,
        batch,
        step_ms: step.seconds * 1e3,
        all_reduce_ms: step.all_reduce * 1e3,
        waiting: step.exposed / step.seconds,
        efficiency: work.compute / step.seconds,
        images_per_s,
        storage_gbit: images_per_s * workload.image_kib * 1024.0 * 8.0 / 1e9,
        hours,
        cost: args.price.map(|price| price * hours * ranks as f64),
    };
    (step, row)
}

/// What the plan says of ranks on one machine beside what was measured of them. The link is that of the sums that the bench
/// measured with as many ranks while nothing was computed.
fn compare(file: &Path, args: &ScalePlanArgs) -> Result<()> {
    let measured = Measured::read(file)?;
    let mut shown = table();
    shown.set_header([
        "job",
        "ranks",
        "planned images/s",
        "measured",
        "measured/planned",
        "planned waiting",
        "measured",
    ]);
    for job in measured.jobs() {
        let alone = job.alone().zip(job.batch_size());
        for side in job.together() {
            let figures = (alone, side.images_per_s, &side.shared);
            let (Some((alone, batch)), Some(found), Some(shared)) = figures else { continue };
            let (little, much) =
                (shared.all_reduce_one_us * 1e-6, shared.all_reduce_bucket_ms * 1e-3);
            let link = Link::measured(side.ranks, little, (shared.bucket_bytes, much));
            let link = link.with_context(|| {
                format!("{} with {} ranks: the sums took no time", job.job, side.ranks)
            })?;
            let full = args.bucket_mib * f64::from(1 << 20);
            let mut buckets = vec![full; (shared.bytes_per_step / full) as usize];
            buckets.extend(Some(shared.bytes_per_step % full).filter(|rest| *rest > 0.0));
            let compute = batch as f64 / alone;
            let work = StepWork { compute, backward_share: args.backward_share, buckets };
            let step = work.on(side.ranks, &link);
            let planned = (side.ranks * batch) as f64 / step.seconds;
            shown.add_row([
                job.job.clone(),
                side.ranks.to_string(),
                format!("{planned:.1}"),
                format!("{found:.1}"),
                format!("{:.2}", found / planned),
                format!("{:.1} %", 100.0 * step.exposed / step.seconds),
                format!("{:.1} %", 100.0 * shared.waiting),
            ]);
        }
    }
    if shown.row_count() == 0 {
        bail!(
            "`{}` has no steps of several ranks; `cargo xtask bench scale --ranks 2,4 --json FILE` measures some",
            file.display()
        )
    }
    say::result(shown)?;
    Ok(())
}
