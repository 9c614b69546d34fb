//! `candle-vision train`.

use std::io::IsTerminal;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use candle_core::Device;
use candle_vision::data::DataLoader;
use candle_vision::explain::Method;
use candle_vision::report::{CurvesFile, TensorBoard};
use candle_vision::train::{Checkpoint, RunFolder, StopReason, Summary, Trainer};

use crate::args::TrainArgs;
use crate::commands::score;
use crate::out_of_memory::with_remedy;
use crate::plan::{Plan, plan};
use crate::prepare::{Prepared, prepare};
use crate::progress::Progress;
use crate::resume::{self, Begun};
use crate::settings::Settings;
use crate::table::table;
use crate::{device, report, say, sources};

/// Exit code of a run that was stopped by Ctrl-C, as of a shell command ended by SIGINT.
const INTERRUPTED: u8 = 130;

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
    let prepared = prepare(&settings, &args.data.data, &device)?;
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
    let Begun { folder, mut settings, checkpoint } = resume::open(run, &args.runs)?;
    settings.conv.apply();
    // All weights come from the checkpoint: those the run began with may be gone.
    settings.model.weights.clear();
    let mut prepared = prepare(&settings, &args.data.data, &device)?;
    prepared.origin = format!("as in {}", folder.last().display());
    train(&prepared, &settings, &folder, Some(&checkpoint), &device)
}

fn train(
    prepared: &Prepared,
    settings: &Settings,
    folder: &RunFolder,
    checkpoint: Option<&Checkpoint>,
    device: &Device,
) -> Result<ExitCode> {
    let Prepared { model, train, val, origin } = prepared;
    let mut trainer = Trainer::new(model.as_ref(), train, val, settings.training.clone(), folder)?;
    if let Some(checkpoint) = checkpoint {
        trainer.resume(checkpoint)?;
    }
    say::note(format_args!("network: {}, {origin}", settings.model.architecture));
    say::note(format_args!("run: {}", folder.path().display()));
    device::tell_of_precision(settings.training.precision, device);
    let title = report::title(folder);
    let mut curves = CurvesFile::new(folder.path().join("curves.png"), &title);
    let mut events = TensorBoard::create(folder.path())?;
    let mut progress = Progress::new();
    let stop = stop_on_interrupt()?;
    let result = trainer.run(&mut [&mut progress, &mut curves, &mut events], &stop);
    let summary = result.map_err(|error| {
        let option = |batch_size| format!("--set data.batch_size={batch_size}");
        with_remedy(error, option, Some(&folder.last()))
    })?;
    if summary.reason != StopReason::Interrupted && summary.best.is_file() {
        let history = &summary.history;
        write_report(&report::Run { folder, settings, history, train, val, device }, &stop);
    }
    print(&summary, folder)?;
    if matches!(summary.reason, StopReason::Completed | StopReason::EarlyStopped) {
        measure_explanations(settings, &summary.best, val, device)?;
    }
    Ok(match summary.reason {
        StopReason::Interrupted => ExitCode::from(INTERRUPTED),
        _ => ExitCode::SUCCESS,
    })
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
    score::score_methods(&restored, val.dataset(), &Method::ALL, wanted.pictures, &output, device)
}

/// The first Ctrl-C lets the batch end and saves; the second ends at once.
fn stop_on_interrupt() -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = stop.clone();
    // On a terminal the cursor stands behind a bar.
    let new_line = if std::io::stderr().is_terminal() { "\n" } else { "" };
    ctrlc::set_handler(move || {
        if flag.swap(true, Ordering::Relaxed) {
            std::process::exit(i32::from(INTERRUPTED));
        }
        say::note(format_args!(
            "{new_line}stopping after this batch; press Ctrl-C again to stop at once"
        ));
    })
    .context("cannot listen for Ctrl-C")?;
    Ok(stop)
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

fn print(summary: &Summary, folder: &RunFolder) -> Result<()> {
    let path = folder.path();
    let mut table = table();
    table.set_header(["run", &path.display().to_string()]);
    table.add_row(["ended", &summary.reason.to_string()]);
    if let Some(best) = summary.history.best() {
        let accuracy = format!("{:.2} % (epoch {})", 100.0 * best.val_accuracy, best.epoch);
        table.add_row(["best validation accuracy", &accuracy]);
        table.add_row(["its validation loss", &format!("{:.4}", best.val_loss)]);
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
