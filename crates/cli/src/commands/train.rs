//! `candle-vision train`.

use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Result, bail};
use candle_core::Device;
use candle_vision::data::{DataLoader, Split};
use candle_vision::models::Model;
use candle_vision::report::{CurvesFile, TensorBoard, gradients_png};
use candle_vision::train::{DistributedBatchNorm, RunFolder, StopReason, TrainingResult};
use candle_vision::{Classifier, Registry};
use candle_vision_recipe::data::DataFolder;
use candle_vision_recipe::{
    BatchSize, OpenedRun, Plan, Planner, Recipe, Settings, Start, changes, recorded, run_name,
};

use crate::args::TrainArgs;
use crate::commands::{fetch, score};
use crate::machine_memory::Bytes;
use crate::out_of_memory::with_remedy;
use crate::progress::{Count, Progress};
use crate::ranks::{self, Ranks};
use crate::read_options::read_options;
use crate::resume::{self, Begun};
use crate::step_size::{note_other_step, step_of};
use crate::stop::Stop;
use crate::table::table;
use crate::test_split::Tested;
use crate::{device, report, run_memory, say};

pub(crate) fn run(args: &TrainArgs, registry: &Registry) -> Result<ExitCode> {
    let ranks = ranks::join(args)?;
    match &args.resume {
        Some(run) => go_on(args, run, registry, ranks.as_ref()),
        None => start(args, registry, ranks.as_ref()),
    }
}

fn start(args: &TrainArgs, registry: &Registry, ranks: Option<&Ranks>) -> Result<ExitCode> {
    let device = args.device.open_of(ranks.and_then(Ranks::card))?;
    let (name, recipe) = match (&args.recipe, &args.folder) {
        (Some(path), _) => (run_name(path), Recipe::read(path)?),
        (None, Some(folder)) => {
            let weights = args.weights.as_deref();
            (run_name(folder), Recipe::for_folder(folder, &args.model, weights, registry)?)
        }
        (None, None) => bail!("name a --recipe or a --folder of images"),
    };
    if let Some(variant) = recipe.variants()?.first() {
        let path = args.recipe.as_deref().unwrap_or(Path::new("RECIPE")).display();
        bail!(
            "`{path}` has variants, such as `{0}`; train them with `candle-vision sweep --recipe {path}`, or some of \
             them with `--networks {0}` behind it",
            variant.name
        )
    }
    let planner = Planner {
        registry,
        data_dir: &|recorded| args.data.or(recorded),
        overrides: &|recipe| args.changes.of(recipe),
        bring: &|item, data_dir| fetch::bring(item, data_dir, &args.origins),
    };
    let Plan { mut settings, notes, .. } = planner.plan(recipe)?;
    notes.iter().for_each(say::note);
    settings.conv.apply();
    settings.cuda.apply();
    // Errors in the data or the network are found before a run folder is made.
    let data_dir = args.data.or(settings.data.dir.as_deref());
    let on_decoded = decoding();
    let place = DataFolder::new(registry, &data_dir)
        .read_options(read_options()?)
        .offline(args.origins.offline)
        .on_decoded(&on_decoded);
    let mut opened = settings.open(&place, &device, Start::New)?;
    opened.notes.iter().for_each(say::note);
    // Before the memory that is left decides on the batch.
    keep_on_device(&mut opened, &settings, args);
    let on = (&device, ranks);
    run_memory::settle_batch_size(&mut opened, &mut settings, registry, on, args.memory)?;
    args.recipe.iter().for_each(|path| note_other_step(path, &step_of(&opened, &settings, ranks)));
    share(&mut opened, &settings, ranks)?;
    // Before a folder is made, also in the data or the network of another rank.
    ranks.map_or(Ok(()), Ranks::meet)?;
    if let Some(ranks) = ranks.filter(|ranks| !ranks.is_first()) {
        ranks.share_folder(None)?;
        return train_along(&opened, &settings, None, (registry, &device), ranks);
    }
    let name = args.name.clone().unwrap_or(name);
    let step = serde_json::to_value(step_of(&opened, &settings, ranks))?;
    let folder = RunFolder::create_with(&args.runs, &name, &settings.to_toml()?, &step);
    let folder = folder.map_err(elsewhere)?;
    ranks.map_or(Ok(()), |ranks| ranks.share_folder(Some(folder.path())))?;
    let result = train(&opened, &settings, &folder, None, (registry, &device, ranks), args);
    remove_if_nothing_came_of_it(&folder, &result);
    result
}

/// Shows how many images are decoded for `data.decoded`.
fn decoding() -> impl Fn(Split, usize, usize) + Sync {
    let shown = Mutex::new(None);
    move |_, done, all| {
        let mut shown = shown.lock().unwrap_or_else(PoisonError::into_inner);
        shown.get_or_insert_with(|| Count::images("decoding")).show(done, all);
        if done == all {
            *shown = None;
        }
    }
}

/// Takes this process's part of the data, if there are others, and says what a person should know of them.
fn share(opened: &mut OpenedRun, settings: &Settings, ranks: Option<&Ranks>) -> Result<()> {
    let (batch, accumulate) = (opened.train.config().batch_size, settings.training.accumulate);
    let Some(ranks) = ranks else {
        if accumulate > 1 {
            say::note(format_args!(
                "steps: {accumulate} batches of {batch} images make one of {} images; the learning rate is the recipe's (the \
                 linear rule would multiply that of one batch by {accumulate})",
                batch * accumulate
            ));
        }
        return Ok(());
    };
    opened.share(ranks.communicator.rank(), ranks.communicator.size())?;
    say::note(ranks.told(batch, accumulate));
    let batch_norm = settings.training.distributed.batch_norm;
    let has_own = batch_norm == DistributedBatchNorm::Own && ranks.communicator.size() > 1;
    if has_own && normalises_batches(opened.model.as_ref()) {
        say::note(
            "ranks: batch norm normalises by each rank's own images; `--set training.distributed.batch_norm=synchronised` takes \
             those of all",
        );
    }
    Ok(())
}

/// Whether the network has batch norm, which keeps running statistics.
fn normalises_batches(model: &dyn Model) -> bool {
    let all = model.parameters().all();
    all.iter().any(|parameter| parameter.path().ends_with("running_mean"))
}

/// The part of a process that is not the first: it trains, writes nothing but its log, and speaks to nobody.
fn train_along(
    opened: &OpenedRun,
    settings: &Settings,
    begun: Option<&Begun>,
    (registry, device): (&Registry, &Device),
    ranks: &Ranks,
) -> Result<ExitCode> {
    let builder = opened.trainer_builder(settings, registry)?;
    let mut trainer = builder.communicator(Arc::clone(&ranks.communicator)).build()?;
    if let Some(begun) = begun {
        trainer.resume(&begun.checkpoint)?;
    }
    let (rank, host) = (ranks.communicator.rank(), ranks.communicator.host());
    say::note(format_args!("rank {rank} of {} on {host}", ranks.communicator.size()));
    let mut progress = Progress::plain(device);
    let stop = Stop::listen()?;
    let done = trainer.run_with(&mut [&mut progress], stop.flag())?;
    Ok(match done.reason {
        StopReason::Interrupted => ExitCode::from(stop.exit_code()),
        _ => ExitCode::SUCCESS,
    })
}

/// Keeps the images on the card if they fit, and says where they are.
fn keep_on_device(opened: &mut OpenedRun, settings: &Settings, args: &TrainArgs) {
    let memory = args.memory.map(|bytes| bytes.0 as u64);
    opened.keep_on_device(&settings.data, memory).iter().for_each(say::note);
}

/// Adds the remedy if the file system does not allow us to make a folder.
fn elsewhere(error: candle_vision::train::Error) -> anyhow::Error {
    let is_io = matches!(error, candle_vision::train::Error::Io { .. });
    let error = anyhow::Error::from(error);
    if is_io {
        error.context("no folder for the run; choose another place with --runs DIR")
    } else {
        error
    }
}

fn go_on(
    args: &TrainArgs,
    run: &Path,
    registry: &Registry,
    ranks: Option<&Ranks>,
) -> Result<ExitCode> {
    let device = args.device.open_of(ranks.and_then(Ranks::card))?;
    let mut begun = resume::open(run, args, registry, ranks.is_none_or(Ranks::is_first))?;
    batch_size_of_rank(&mut begun, ranks)?;
    begun.settings.conv.apply();
    begun.settings.cuda.apply();
    let data_dir = args.data.or(begun.settings.data.dir.as_deref());
    let on_decoded = decoding();
    let place = DataFolder::new(registry, &data_dir)
        .read_options(read_options()?)
        .offline(args.origins.offline)
        .on_decoded(&on_decoded);
    recorded::check_data(&begun.settings.data, &place)?;
    let mut opened = begun.settings.open(&place, &device, Start::Resumed)?;
    opened.notes.iter().for_each(say::note);
    keep_on_device(&mut opened, &begun.settings, args);
    opened.origin = format!("as in {}", begun.folder.last().display());
    let Begun { settings, folder, .. } = &begun;
    share(&mut opened, settings, ranks)?;
    let first = ranks.is_none_or(Ranks::is_first).then(|| folder.path());
    ranks.map_or(Ok(()), |ranks| ranks.share_folder(first))?;
    if let Some(ranks) = ranks.filter(|ranks| !ranks.is_first()) {
        return train_along(&opened, settings, Some(&begun), (registry, &device), ranks);
    }
    train(&opened, settings, folder, Some(&begun), (registry, &device, ranks), args)
}

/// Keeps the batches of a run as they were, if it goes on with another number of processes.
fn batch_size_of_rank(begun: &mut Begun, ranks: Option<&Ranks>) -> Result<()> {
    let ranks = ranks.map_or(1, |ranks| ranks.communicator.size());
    let Some(of_all) = begun.checkpoint.batch_size() else { return Ok(()) };
    if begun.settings.data.batch_size == BatchSize::Images(of_all) && ranks == 1 {
        return Ok(());
    }
    if !of_all.is_multiple_of(ranks) {
        let fitting = (1..=of_all).filter(|n| of_all.is_multiple_of(*n)).map(|n| n.to_string());
        bail!(
            "the batches of this run have {of_all} images, which {ranks} processes cannot share evenly; go on with {} processes",
            fitting.collect::<Vec<_>>().join(", ")
        )
    }
    begun.settings.data.batch_size = BatchSize::Images(of_all / ranks);
    Ok(())
}

fn train(
    opened: &OpenedRun,
    settings: &Settings,
    folder: &RunFolder,
    begun: Option<&Begun>,
    (registry, device, ranks): (&Registry, &Device, Option<&Ranks>),
    args: &TrainArgs,
) -> Result<ExitCode> {
    let OpenedRun { train, val, test, origin, .. } = opened;
    // The other ranks do not need what follows, and wait.
    let alone = ranks.map(|ranks| ranks.communicator.works_alone());
    let mut builder = opened.trainer_builder(settings, registry)?;
    if let Some(ranks) = ranks {
        builder = builder.communicator(Arc::clone(&ranks.communicator));
    }
    let mut trainer = builder.build()?.run_folder(folder);
    if let Some(begun) = begun {
        trainer.resume(&begun.checkpoint)?;
        take_in_changes(begun, registry)?;
    }
    say::note(format_args!("network: {}, {origin}", settings.model.architecture));
    say::note(format_args!("run: {}", folder.path().display()));
    device::tell_of_precision(settings.training.precision, device);
    run_memory::check(opened, settings, registry, (device, ranks), args.memory)?;
    let title = report::title(folder);
    let mut curves = CurvesFile::new(folder.path().join("curves.png"), &title);
    let mut events = TensorBoard::create(folder.path())?;
    let hosts = ranks.map_or(&[][..], |ranks| &ranks.hosts);
    let mut progress = Progress::new(device).of_ranks(hosts);
    let stop = Stop::listen()?;
    if args.stop_at_end_of_input {
        stop.also_at_end_of_input();
    }
    drop(alone);
    let result = trainer.run_with(&mut [&mut progress, &mut curves, &mut events], stop.flag());
    let result = result.map_err(|error| {
        let option = |batch_size| format!("--batch-size {batch_size}");
        with_remedy(error, option, device::limit(), Some(&folder.last()))
    })?;
    if !result.gradients.is_empty() {
        gradients_png(&result.gradients, &title, folder.path().join("gradients.png"))?;
    }
    say::skipped([train, val]);
    let is_done = matches!(result.reason, StopReason::Completed | StopReason::EarlyStopped);
    let has_best = folder.best().is_file();
    let tested = test.as_ref().filter(|_| is_done && has_best);
    let tested = tested.and_then(|test| {
        Tested::measure(folder, [train, test], settings, (registry, device), stop.flag())
    });
    if result.reason != StopReason::Interrupted && has_best {
        let history = &result.history;
        let run = report::Run { folder, settings, history, train, val, device, registry };
        write_report(&run, stop.flag());
    }
    print(&result, folder, tested, ranks)?;
    if is_done {
        measure_explanations(settings, &folder.best(), val, registry, device)?;
    }
    Ok(match result.reason {
        StopReason::Interrupted => ExitCode::from(stop.exit_code()),
        _ => ExitCode::SUCCESS,
    })
}

/// Reports and records the settings that differ from those the run began with.
fn take_in_changes(begun: &Begun, registry: &Registry) -> Result<()> {
    let Begun { folder, settings, changes, checkpoint } = begun;
    if changes.is_empty() {
        return Ok(());
    }
    for change in changes {
        say::note(format_args!("changed: {} is {}", change.key(), change.told()));
    }
    if changes.iter().any(|change| change.key() == "training.epochs") {
        say::note(schedule_of_length(settings, registry)?);
    }
    Ok(changes::record(folder, settings, changes, checkpoint.metadata.epoch)?)
}

/// Describes what another number of epochs means for the learning rate.
fn schedule_of_length(settings: &Settings, registry: &Registry) -> Result<String> {
    let schedule = registry.training.schedules.build(&settings.training.schedule)?;
    let epochs = settings.training.epochs;
    Ok(if schedule.depends_on_length() {
        format!(
            "schedule: stretched to {epochs} epochs; from here on the learning rate is that of a run \
             of this length"
        )
    } else {
        "schedule: does not depend on the number of epochs and goes on as it was".to_owned()
    })
}

/// Measures the explanations of the finished network, if the recipe asks for it.
fn measure_explanations(
    settings: &Settings,
    best: &Path,
    val: &DataLoader,
    registry: &Registry,
    device: &Device,
) -> Result<()> {
    let Some(wanted) = settings.score else { return Ok(()) };
    let classifier = Classifier::load_with(best, registry, device)?;
    let methods: Vec<_> = registry.methods.iter().collect();
    let output = score::beside(best);
    score::score_methods(&classifier, val.dataset(), &methods, wanted.images, &output)
}

/// Writes `report.html`. The run is complete by then, so an error is only reported.
fn write_report(run: &report::Run<'_>, stop: &AtomicBool) {
    let written = run.write_report(|| !stop.load(Ordering::Relaxed));
    let reason = match written {
        Ok(Some(_)) => return,
        Ok(None) => "it was stopped".to_owned(),
        Err(error) => say::one_line(&error),
    };
    let path = run.folder.path().display();
    say::note(format_args!(
        "warning: no report.html: {reason}; write it with `candle-vision report {path}`"
    ));
}

/// Removes the folder of a run that failed before its first checkpoint.
fn remove_if_nothing_came_of_it(folder: &RunFolder, result: &Result<ExitCode>) {
    if result.is_err() && !folder.last().exists() && !folder.best().exists() {
        // The error itself matters more. A folder that cannot be removed only uses up a number.
        let _ = std::fs::remove_dir_all(folder.path());
    }
}

fn print(
    result: &TrainingResult,
    folder: &RunFolder,
    tested: Option<Tested>,
    ranks: Option<&Ranks>,
) -> Result<()> {
    let path = folder.path();
    let mut table = table();
    table.set_header(["run", &path.display().to_string()]);
    table.add_row(["ended", &result.reason.to_string()]);
    if let Some(best) = &result.best_epoch {
        let accuracy = format!("{:.2} % (epoch {})", 100.0 * best.val_accuracy, best.epoch);
        // Another metric may have chosen the epoch (`training.monitor`).
        let is_highest = result.history.best().is_some_and(|highest| highest.epoch == best.epoch);
        let what =
            if is_highest { "best validation accuracy" } else { "accuracy of the best epoch" };
        table.add_row([what, &accuracy]);
        table.add_row(["its validation loss", &format!("{:.4}", best.val_loss)]);
        for (name, value) in &best.metrics {
            table.add_row([format!("its {name}"), format!("{value:.4}")]);
        }
        if let Some(tested) = tested {
            table.add_row(["test accuracy, measured once", &tested.to_string()]);
        }
        table.add_row(["best checkpoint", &folder.best().display().to_string()]);
        if let Some(peak) = result.history.peak_memory() {
            table.add_row(["peak memory", &Bytes(peak as usize).to_string()]);
        }
        table.add_row(["curves", &path.join("curves.png").display().to_string()]);
    }
    let gradients = path.join("gradients.png");
    if gradients.is_file() {
        table.add_row(["gradients", &gradients.display().to_string()]);
    }
    let report = path.join("report.html");
    if report.is_file() {
        table.add_row(["report", &report.display().to_string()]);
    }
    table.add_row(["last checkpoint", &folder.last().display().to_string()]);
    table.add_row(["tables", "metrics.csv, batches.csv, events.out.tfevents.*, config.toml"]);
    table.add_row(["epochs", &result.history.epochs.len().to_string()]);
    table.add_row(["time", &format!("{:.1} s", result.seconds)]);
    say::result(table)?;
    match result.reason {
        StopReason::Interrupted | StopReason::StoppedByCallback => {
            let program = say::program();
            let start = match ranks {
                None => format!("{program} train"),
                Some(ranks) => format!("{} {program} train --distributed", ranks.launcher()),
            };
            say::result(format_args!("go on:    {start} --resume {}", path.display()))?;
        }
        _ => {
            let (program, best) = (say::program(), folder.best());
            let best = best.display();
            say::result(format_args!(
                "next:     {program} predict PHOTO.jpg --checkpoint {best}\n          \
                 {program} explain PHOTO.jpg --checkpoint {best}"
            ))?;
        }
    }
    Ok(())
}
