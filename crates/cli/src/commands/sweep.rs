//! `candle-vision sweep`: one recipe over several networks, or over its variants, and their comparison.

mod child;
mod progress;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use candle_vision::Registry;
use candle_vision::report::MOST_RUNS;
use candle_vision_recipe::{Plan, Planner, Recipe, Settings, Variant, run_name};

use crate::args::SweepArgs;
use crate::commands::{compare, fetch};
use crate::say;
use crate::stop::Stop;
use child::Ended;
use progress::{Progress, progress};

pub(crate) fn run(args: &SweepArgs, registry: &Registry) -> Result<ExitCode> {
    // A device that cannot be used is found before anything is fetched.
    args.device.open()?;
    let recipe = Recipe::read(&args.recipe)?;
    let name = args.name.clone().unwrap_or_else(|| run_name(&args.recipe));
    let folder = args.runs.join(&name);
    let planned = plan(args, variants(args, &recipe, registry)?, registry)?;
    let runs: Vec<Run> =
        planned.into_iter().map(|run| run.look(&folder, registry)).collect::<Result<_>>()?;
    let names: Vec<&str> = runs.iter().map(|run| run.planned.name.as_str()).collect();
    say::note(format_args!("sweep {name}: {}", names.join(", ")));

    let stop = Stop::wait_for_child()?;
    let mut failed = Vec::new();
    for (index, run) in runs.iter().enumerate() {
        let Run { planned, progress } = run;
        let of = format!("{} ({} of {})", planned.name, index + 1, runs.len());
        say::note(format_args!("{of}: {progress}"));
        match child::train(args, planned, progress, &folder, stop.flag())? {
            Ended::Done => {}
            Ended::Interrupted => {
                say::note("the same command goes on with this sweep");
                return Ok(ExitCode::from(stop.exit_code()));
            }
            Ended::Failed(how) => failed.push(format!("`{}` {how}", planned.name)),
        }
    }
    compare_all(&runs, &folder, registry)?;
    if !failed.is_empty() {
        bail!("{}; the same command tries again", failed.join(", "))
    }
    Ok(ExitCode::SUCCESS)
}

fn variants(args: &SweepArgs, recipe: &Recipe, registry: &Registry) -> Result<Vec<Variant>> {
    let variants = match args.networks.as_slice() {
        [] => recipe.variants()?,
        names => recipe.for_networks(names, registry)?,
    };
    match variants.len() {
        0 => bail!(
            "`{}` has no variants; name networks with --networks, or write [[variants]] into it",
            args.recipe.display()
        ),
        1..=MOST_RUNS => Ok(variants),
        count => {
            bail!("{count} runs are too many to compare; at most {MOST_RUNS} can be told apart")
        }
    }
}

/// A variant that can be trained on this machine.
struct Planned {
    name: String,
    settings: Settings,
}

/// Plans every run before the first one begins, and fetches what is missing.
fn plan(args: &SweepArgs, variants: Vec<Variant>, registry: &Registry) -> Result<Vec<Planned>> {
    let planner = Planner {
        registry,
        data_dir: &|recorded| args.data.or(recorded),
        overrides: &|recipe| args.changes.of(recipe),
        bring: &|item, data_dir| fetch::bring(item, data_dir, &args.origins),
    };
    let mut without = Vec::new();
    let mut recipes = Vec::new();
    for Variant { name, recipe, .. } in variants {
        let reason = planner.missing_weights(&recipe).with_context(|| of_variant(&name))?;
        let Some(reason) = reason else {
            recipes.push((name, recipe));
            continue;
        };
        if args.from_scratch {
            say::note(format_args!("`{name}` has no weights here ({reason}): from scratch"));
            recipes.push((name.clone(), recipe.from_scratch()?));
        }
        without.push(format!("`{name}` ({reason})"));
    }
    if !without.is_empty() && !args.from_scratch {
        bail!(
            "there are no weights of {}; leave out what has none with --networks, name the folder that has them with \
             --from DIR, or add --from-scratch",
            without.join(", ")
        )
    }
    let mut told: Vec<String> = Vec::new();
    let mut planned = Vec::new();
    for (name, recipe) in recipes {
        let Plan { settings, notes, .. } =
            planner.plan(recipe).with_context(|| of_variant(&name))?;
        told.extend(notes);
        planned.push(Planned { name, settings });
    }
    // Most notes are about the data, which the runs share.
    told.dedup();
    told.iter().for_each(say::note);
    Ok(planned)
}

fn of_variant(name: &str) -> String {
    format!("in the run `{name}`")
}

impl Planned {
    /// Looks how far the run has come.
    fn look(self, folder: &Path, registry: &Registry) -> Result<Run> {
        let progress = progress(&self, folder, registry)?;
        Ok(Run { planned: self, progress })
    }
}

/// A planned run, and how far it has come in earlier calls.
struct Run {
    planned: Planned,
    progress: Progress,
}

/// Compares the runs that have an epoch to compare.
fn compare_all(runs: &[Run], folder: &Path, registry: &Registry) -> Result<()> {
    let latest = |run: &Run| -> Option<(Option<String>, PathBuf)> {
        let found = progress::latest(&run.planned.name, folder).ok()??;
        let has_epoch = found.history().is_ok_and(|history| !history.epochs.is_empty());
        has_epoch.then(|| (Some(run.planned.name.clone()), found.path().to_path_buf()))
    };
    let found: Vec<_> = runs.iter().filter_map(latest).collect();
    if found.is_empty() {
        return Ok(());
    }
    compare::compare(&found, &folder.join("compare"), registry)
}
