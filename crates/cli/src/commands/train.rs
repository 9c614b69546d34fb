//! `candle-vision train`.

use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use candle_core::Device;
use candle_vision::data::DataLoader;
use candle_vision::explain::Method;
use candle_vision::report::{CurvesFile, TensorBoard};
use candle_vision::train::{RunFolder, StopReason, Summary, Trainer};

use crate::args::TrainArgs;
use crate::commands::score;
use crate::out_of_memory::with_remedy;
use crate::plan::{Plan, plan};
use crate::prepare::{Prepared, Start, prepare};
use crate::progress::Progress;
use crate::resume::{self, Begun};
use crate::settings::Settings;
use crate::stop::Stop;
use crate::table::table;
use crate::test_split::Tested;
use crate::{changes, device, recorded, report, say, sources};

pub(crate) fn run(args: &TrainArgs) -> Result<ExitCode> {
    match &args.resume {
        Some(run) => go_on(args, run),
        None => start(args),
    }
}

fn start(args: &TrainArgs) -> Result<ExitCode> {
    let device = args.device.open()?;
    let Plan { name, settings, notes } = plan(args)?;
    for note in notes {
        say::note(note);
    }
    settings.conv.apply();
    // Whatever is wrong with the data or the network is found before a run folder is made.
    let data_dir = args.data.or(settings.data.dir.as_deref());
    let prepared = prepare(&settings, &data_dir, &device, Start::New)?;
    let config = toml::to_string_pretty(&settings).context("cannot write the settings")?;
    let folder = RunFolder::create(&args.runs, &name, &config).map_err(elsewhere)?;
    let result = train(&prepared, &settings, &folder, None, &device);
    remove_if_nothing_came_of_it(&folder, &result);
    result
}

/// The remedy where the file system does not let us make a folder.
fn elsewhere(error: candle_vision::train::Error) -> anyhow::Error {
    let is_io = matches!(error, candle_vision::train::Error::Io { .. });
    let error = anyhow::Error::from(error);
    if is_io {
        error.context("no folder for the run; choose another place with --runs DIR")
    } else {
        error
    }
}

fn go_on(args: &TrainArgs, run: &Path) -> Result<ExitCode> {
    let device = args.device.open()?;
    let begun = resume::open(run, args)?;
    begun.settings.conv.apply();
    let data_dir = args.data.or(begun.settings.data.dir.as_deref());
    recorded::check_data(&begun.settings.data, &data_dir)?;
    let mut prepared = prepare(&begun.settings, &data_dir, &device, Start::Resumed)?;
    prepared.origin = format!("as in {}", begun.folder.last().display());
    train(&prepared, &begun.settings, &begun.folder, Some(&begun), &device)
}

fn train(
    prepared: &Prepared,
    settings: &Settings,
    folder: &RunFolder,
    begun: Option<&Begun>,
    device: &Device,
) -> Result<ExitCode> {
    let Prepared { model, train, val, test, origin } = prepared;
    let mut trainer = Trainer::new(model.as_ref(), train, val, settings.training.clone(), folder)?;
    if let Some(begun) = begun {
        trainer.resume(&begun.checkpoint)?;
        take_in_changes(begun)?;
    }
    say::note(format_args!("network: {}, {origin}", settings.model.architecture));
    say::note(format_args!("run: {}", folder.path().display()));
    device::tell_of_precision(settings.training.precision, device);
    let title = report::title(folder);
    let mut curves = CurvesFile::new(folder.path().join("curves.png"), &title);
    let mut events = TensorBoard::create(folder.path())?;
    let mut progress = Progress::new();
    let stop = Stop::listen()?;
    let result = trainer.run(&mut [&mut progress, &mut curves, &mut events], stop.flag());
    let summary = result.map_err(|error| {
        let option = |batch_size| format!("--set data.batch_size={batch_size}");
        with_remedy(error, option, Some(&folder.last()))
    })?;
    say::skipped([train, val]);
    let is_done = matches!(summary.reason, StopReason::Completed | StopReason::EarlyStopped);
    let tested = test.as_ref().filter(|_| is_done && summary.best.is_file());
    let tested =
        tested.and_then(|test| Tested::measure(folder, test, settings, device, stop.flag()));
    if summary.reason != StopReason::Interrupted && summary.best.is_file() {
        let history = &summary.history;
        write_report(&report::Run { folder, settings, history, train, val, device }, stop.flag());
    }
    print(&summary, folder, tested)?;
    if is_done {
        measure_explanations(settings, &summary.best, val, device)?;
    }
    Ok(match summary.reason {
        StopReason::Interrupted => ExitCode::from(stop.exit_code()),
        _ => ExitCode::SUCCESS,
    })
}

/// Tells and records what a run goes on with that it did not begin with.
fn take_in_changes(begun: &Begun) -> Result<()> {
    let Begun { folder, settings, changes, checkpoint } = begun;
    if changes.is_empty() {
        return Ok(());
    }
    for change in changes {
        say::note(format_args!("changed: {} is {}", change.key(), change.told()));
    }
    if changes.iter().any(|change| change.key() == "training.epochs") {
        say::note(schedule_of_length(settings));
    }
    changes::record(folder, settings, changes, checkpoint.metadata.epoch)
}

/// What another number of epochs means for the learning rate.
fn schedule_of_length(settings: &Settings) -> String {
    let (schedule, epochs) = (&settings.training.schedule, settings.training.epochs);
    if schedule.depends_on_length() {
        format!(
            "schedule: stretched to {epochs} epochs; from here on the learning rate is that of a run \
             of this length"
        )
    } else {
        "schedule: does not depend on the number of epochs and goes on as it was".to_owned()
    }
}

/// What the recipe wants to be measured of the finished network.
fn measure_explanations(
    settings: &Settings,
    best: &Path,
    val: &DataLoader,
    device: &Device,
) -> Result<()> {
    let Some(wanted) = settings.score else { return Ok(()) };
    let restored = sources::restore(best, device)?;
    let output = score::beside(best);
    score::score_methods(&restored, val.dataset(), &Method::ALL, wanted.images, &output, device)
}

/// Writes `report.html`. The run is done by then: whatever goes wrong here is only told.
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

/// A run that failed before its first checkpoint leaves no empty folder behind.
fn remove_if_nothing_came_of_it(folder: &RunFolder, result: &Result<ExitCode>) {
    if result.is_err() && !folder.last().exists() && !folder.best().exists() {
        // The error itself is what matters; a folder that cannot be removed only takes a number.
        let _ = std::fs::remove_dir_all(folder.path());
    }
}

fn print(summary: &Summary, folder: &RunFolder, tested: Option<Tested>) -> Result<()> {
    let path = folder.path();
    let mut table = table();
    table.set_header(["run", &path.display().to_string()]);
    table.add_row(["ended", &summary.reason.to_string()]);
    if let Some(best) = summary.history.best() {
        let accuracy = format!("{:.2} % (epoch {})", 100.0 * best.val_accuracy, best.epoch);
        table.add_row(["best validation accuracy", &accuracy]);
        table.add_row(["its validation loss", &format!("{:.4}", best.val_loss)]);
        if let Some(tested) = tested {
            table.add_row(["test accuracy, measured once", &tested.to_string()]);
        }
        table.add_row(["best checkpoint", &summary.best.display().to_string()]);
        table.add_row(["curves", &path.join("curves.png").display().to_string()]);
    }
    let report = path.join("report.html");
    if report.is_file() {
        table.add_row(["report", &report.display().to_string()]);
    }
    table.add_row(["last checkpoint", &summary.last.display().to_string()]);
    table.add_row(["tables", "metrics.csv, batches.csv, events.out.tfevents.*, config.toml"]);
    table.add_row(["epochs", &summary.history.epochs.len().to_string()]);
    table.add_row(["time", &format!("{:.1} s", summary.seconds)]);
    say::result(table)?;
    match summary.reason {
        StopReason::Interrupted | StopReason::StoppedByCallback => {
            say::result(format_args!(
                "go on:    {} train --resume {}",
                say::program(),
                path.display()
            ))?;
        }
        _ => {
            let (program, best) = (say::program(), summary.best.display());
            say::result(format_args!(
                "next:     {program} predict PHOTO.jpg --checkpoint {best}\n          \
                 {program} explain PHOTO.jpg --checkpoint {best}"
            ))?;
        }
    }
    Ok(())
}
