//! `candle-vision memory`.

mod small_run;

use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use candle_core::Device;
use candle_vision::models::Model;
use candle_vision::models::memory::{MeasuredGraph, MemoryConfig, MemoryEstimate, SAFE_SHARE};
use candle_vision::{Classifier, Registry};
use comfy_table::CellAlignment;
use serde::{Deserialize, Serialize};

use crate::args::MemoryArgs;
use crate::device::Place;
use crate::machine_memory::{self, Bytes};
use crate::say;
use crate::table::table;

/// The batches of the second table.
const BATCHES: [usize; 4] = [64, 256, 1024, 4096];

pub(crate) fn run(args: &MemoryArgs, registry: &Registry) -> Result<ExitCode> {
    let place = args.place()?;
    let program = if place == Place::Cpu { machine_memory::resident() } else { 0 };
    let optimizer = registry.training.optimizers.build(&args.optimizer)?;
    let network = network(args, registry)?;
    let model = network.model();
    if args.measure_here {
        let measured = small_run::measure(model, args, program)?;
        say::result(serde_json::to_string(&measured)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let config = MemoryConfig::new(args.batch)
        .optimizer_tensors(optimizer.state_tensors())
        .accumulates(args.accumulate > 1)
        .precision(args.precision)
        .program(program)
        .on_card(place != Place::Cpu)
        .captured((place != Place::Cpu).then_some(0))
        .validation(true)
        .keeping_allocator(true);
    if place == Place::Cpu && args.precision.half().is_some() {
        bail!(
            "{} on a CPU is computed with candle's own operations, which do not say what they keep; add --device \
             cuda for a card",
            args.precision
        )
    }
    if args.confirm && place != Place::Cpu {
        bail!("--confirm measures the memory of a process on the CPU; add --device cpu")
    }
    let graph = MeasuredGraph::of(model, &config)?;
    let found = graph.as_ref().and_then(|graph| Some((graph, graph.estimate(&config)?)));
    let (graph, estimate) = found.with_context(|| {
        format!(
            "`{}` computes with candle's own operations, which do not say what they keep",
            model.spec().architecture
        )
    })?;
    let limit = args.memory.map(|bytes| bytes.0).or_else(|| match place {
        Place::Cpu => machine_memory::for_this_process(),
        Place::Cuda(ordinal) => machine_memory::of_card(ordinal),
    });
    let whole = Whole {
        largest: limit.and_then(|limit| graph.largest_batch(&config, limit)),
        measured: args.confirm.then(|| measured(args)).transpose()?,
        sizes: sizes(graph, &config),
        model,
        estimate,
        limit,
    };
    if args.json {
        whole.print_json()?
    } else {
        whole.print(args)?
    }
    Ok(ExitCode::SUCCESS)
}

/// The network that was named.
enum Network {
    Trained(Box<Classifier>),
    Bare(Box<dyn Model>),
}

impl Network {
    fn model(&self) -> &dyn Model {
        match self {
            Self::Trained(classifier) => classifier.model(),
            Self::Bare(model) => &**model,
        }
    }
}

fn network(args: &MemoryArgs, registry: &Registry) -> Result<Network> {
    if let Some(path) = &args.checkpoint {
        let classifier = Classifier::load_with(path, registry, &Device::Cpu)?;
        return Ok(Network::Trained(Box::new(classifier)));
    }
    let name = args.model.as_deref().context("name a network, or a --checkpoint FILE")?;
    let mut spec = registry.networks.spec(name, args.classes)?;
    if let Some(shape) = args.input {
        spec = spec.input(shape.image);
    }
    Ok(Network::Bare(registry.networks.build(&spec, 0, &Device::Cpu)?))
}

fn sizes(graph: &MeasuredGraph, config: &MemoryConfig) -> Vec<MemoryEstimate> {
    BATCHES.iter().filter_map(|&batch| graph.estimate(&config.clone().batch(batch))).collect()
}

/// What a process that took real steps reports.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Measured {
    /// Before there was a network.
    program: usize,
    /// The most at any time.
    peak: usize,
}

/// Runs this program again with the same arguments, to take the steps in a process of their own.
fn measured(args: &MemoryArgs) -> Result<Measured> {
    let program = std::env::current_exe().context("this program's own file is not to be found")?;
    let output = Command::new(program)
        .args(std::env::args_os().skip(1))
        .arg("--measure-here")
        .output()
        .context("this program cannot be started again")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let last =
            said.lines().last().unwrap_or("it was ended from outside; its memory may not be there");
        bail!("a step on {} images failed: {last}", args.batch)
    }
    let said = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(said.trim()).context("the measuring process gave no numbers")
}

struct Whole<'a> {
    model: &'a dyn Model,
    estimate: MemoryEstimate,
    sizes: Vec<MemoryEstimate>,
    limit: Option<usize>,
    largest: Option<usize>,
    measured: Option<Measured>,
}

impl Whole<'_> {
    fn print(&self, args: &MemoryArgs) -> Result<()> {
        let Self { estimate, measured, .. } = self;
        let spec = self.model.spec();
        say::result(format_args!(
            "{}: {} classes, input {:?}, batches of {}, {} with {}",
            spec.architecture,
            spec.num_classes,
            spec.input,
            args.batch,
            args.precision,
            args.optimizer.name
        ))?;
        let mut parts = table();
        parts.set_header(["part", "memory"]);
        for (name, bytes) in estimate.parts().into_iter().filter(|(_, bytes)| *bytes > 0) {
            parts.add_row([name.to_owned(), Bytes(bytes).to_string()]);
        }
        parts.add_row(["all".to_owned(), Bytes(estimate.total()).to_string()]);
        right(&mut parts, &[1]);
        say::result(parts)?;
        if let Some(measured) = measured {
            say::result(format_args!(
                "measured: {} for two real epochs of two steps, predicted {} ({:+.1} %)",
                Bytes(measured.peak),
                Bytes(estimate.total()),
                100.0 * (estimate.total() as f64 / measured.peak as f64 - 1.0)
            ))?;
        }
        let mut sizes = table();
        sizes.set_header(["batch", "activations", "all", "fits"]);
        for size in &self.sizes {
            let fits = self
                .limit
                .map_or("unknown", |limit| if size.total() <= limit { "yes" } else { "no" });
            sizes.add_row([
                size.batch.to_string(),
                Bytes(size.activations).to_string(),
                Bytes(size.total()).to_string(),
                fits.to_owned(),
            ]);
        }
        right(&mut sizes, &[0, 1, 2]);
        say::result(sizes)?;
        say::result(self.conclusion())?;
        Ok(())
    }

    fn conclusion(&self) -> String {
        let percent = 100.0 * SAFE_SHARE;
        match (self.limit.map(Bytes), self.largest) {
            (None, _) => {
                "how much memory the device has is not known; say it with --memory SIZE".to_owned()
            }
            (Some(limit), None) => {
                format!("not even one image fits into {percent:.0} % of {limit}")
            }
            (Some(limit), Some(largest)) => {
                format!("the largest batch that fits into {percent:.0} % of {limit}: {largest}")
            }
        }
    }

    fn print_json(&self) -> Result<()> {
        let parts = |estimate: &MemoryEstimate| -> serde_json::Map<String, serde_json::Value> {
            let parts = estimate.parts().into_iter().chain([("total", estimate.total())]);
            let key = |name: &str| name.replace(", ", " ").replace([' ', '-'], "_");
            [("batch".to_owned(), estimate.batch.into())]
                .into_iter()
                .chain(parts.map(|(name, bytes)| (key(name), bytes.into())))
                .collect()
        };
        let value = serde_json::json!({
            "architecture": self.model.spec().architecture,
            "classes": self.model.spec().num_classes,
            "input": self.model.spec().input,
            "estimate": parts(&self.estimate),
            "batches": self.sizes.iter().map(parts).collect::<Vec<_>>(),
            "available": self.limit,
            "largest_batch": self.largest,
            "measured": self.measured,
            "workspace_of_caller": self.estimate.workspace_of_caller,
            "workspace_of_helper": self.estimate.workspace_of_helper,
        });
        Ok(say::result(serde_json::to_string_pretty(&value)?)?)
    }
}

fn right(table: &mut comfy_table::Table, columns: &[usize]) {
    for &column in columns {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
}
