//! `candle-vision train`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use candle_vision::data::{Dataset, Split, class_counts};
use candle_vision::ops::set_exact_convolution;
use candle_vision::report::{CurvesFile, TensorBoard};
use candle_vision::train::{Checkpoint, RunFolder, StopReason, Summary, Trainer};
use comfy_table::{Table, presets};

use crate::args::TrainArgs;
use crate::plan::{Plan, plan};
use crate::progress::Progress;
use crate::settings::{Recipe, Settings};
use crate::{device, sources};

/// Exit code of a run that was stopped by Ctrl-C, as of a shell command ended by SIGINT.
const INTERRUPTED: u8 = 130;

pub(crate) fn run(args: TrainArgs) -> Result<ExitCode> {
    match &args.resume {
        Some(run) => {
            let folder = RunFolder::open(run_to_resume(run, &args.runs)?)?;
            let recipe = Recipe::read(&folder.path().join("config.toml"))?;
            let mut settings = recipe.settings()?;
            if let Some(epochs) = args.epochs {
                settings.training.epochs = epochs as usize;
            }
            let checkpoint = Checkpoint::load(folder.last())?;
            train(&args, &settings, &folder, Some(&checkpoint))
        }
        None => {
            let Plan { name, settings, notes } = plan(&args)?;
            for note in notes {
                eprintln!("{note}");
            }
            // Everything that can be wrong with the data or the network is found before a run
            // folder is made.
            let config = toml::to_string_pretty(&settings).context("cannot write the settings")?;
            let folder = RunFolder::create(&args.runs, &name, &config)?;
            let result = train(&args, &settings, &folder, None);
            remove_if_nothing_came_of_it(&folder, &result);
            result
        }
    }
}

fn train(
    args: &TrainArgs,
    settings: &Settings,
    folder: &RunFolder,
    checkpoint: Option<&Checkpoint>,
) -> Result<ExitCode> {
    let device = device::parse(&args.device)?;
    settings.training.validate()?;
    set_exact_convolution(settings.conv.exact);
    sources::check_sizes(&settings.data, &settings.model)?;
    let seed = settings.training.seed;
    let train_set = sources::open(&settings.data, &args.data.data, Split::Train, seed)?;
    let val_set = sources::open(&settings.data, &args.data.data, Split::Val, seed)?;
    tell_of_data(&train_set, &val_set);
    let classes = train_set.classes().len();
    let train = sources::loader(train_set, &settings.data, Split::Train, seed, &device)?;
    let val = sources::loader(val_set, &settings.data, Split::Val, seed, &device)?;
    let (model, origin) =
        sources::network(&settings.model, classes, seed, &args.data.data, &device)?;
    eprintln!("network: {}, {origin}", settings.model.architecture);

    let mut trainer =
        Trainer::new(model.as_ref(), &train, &val, settings.training.clone(), folder)?;
    if let Some(checkpoint) = checkpoint {
        trainer.resume(checkpoint)?;
    }
    eprintln!("run: {}", folder.path().display());
    let title = title(folder);
    let mut curves = CurvesFile::new(folder.path().join("curves.png"), &title);
    let mut events = TensorBoard::create(folder.path())?;
    let mut progress = Progress::new();
    let stop = stop_on_interrupt()?;
    let summary = trainer.run(&mut [&mut progress, &mut curves, &mut events], &stop)?;
    print(&summary, folder);
    Ok(match summary.reason {
        StopReason::Interrupted => ExitCode::from(INTERRUPTED),
        _ => ExitCode::SUCCESS,
    })
}

/// The first Ctrl-C lets the batch end and saves; the second ends at once.
fn stop_on_interrupt() -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = stop.clone();
    ctrlc::set_handler(move || {
        if flag.swap(true, Ordering::Relaxed) {
            std::process::exit(i32::from(INTERRUPTED));
        }
        eprintln!("stopping after this batch; press Ctrl-C again to stop at once");
    })
    .context("cannot listen for Ctrl-C")?;
    Ok(stop)
}

/// The newest run that can go on for `last`, else the folder that was named.
fn run_to_resume(named: &Path, runs: &Path) -> Result<PathBuf> {
    if named != Path::new("last") || named.is_dir() {
        return Ok(named.to_path_buf());
    }
    let newest = folders_in(runs)
        .iter()
        .flat_map(|group| folders_in(group))
        .filter_map(|run| {
            let saved = run.join("last.safetensors").metadata().and_then(|file| file.modified());
            Some((saved.ok()?, run))
        })
        .max();
    let (_, run) = newest.with_context(|| {
        format!("there is no run with a last.safetensors under `{}`", runs.display())
    })?;
    Ok(run)
}

fn folders_in(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
}

fn tell_of_data(train: &Arc<dyn Dataset>, val: &Arc<dyn Dataset>) {
    let classes = train.classes();
    let counts = class_counts(train.as_ref());
    let shown: Vec<String> =
        classes.iter().zip(counts).take(12).map(|(class, n)| format!("{class} {n}")).collect();
    let more = if classes.len() > 12 { ", ..." } else { "" };
    eprintln!(
        "data: {} training pictures ({}{more}), {} for validation",
        train.len(),
        shown.join(", "),
        val.len()
    );
}

fn title(folder: &RunFolder) -> String {
    let path = folder.path();
    let name = |path: Option<&Path>| {
        let name = path.and_then(Path::file_name).unwrap_or_default();
        name.to_string_lossy().into_owned()
    };
    format!("{} {}", name(path.parent()), name(Some(path)))
}

/// A run that failed before its first checkpoint leaves no empty folder behind.
fn remove_if_nothing_came_of_it(folder: &RunFolder, result: &Result<ExitCode>) {
    if result.is_err() && !folder.last().exists() && !folder.best().exists() {
        // The error itself is what matters; a folder that cannot be removed only takes a number.
        let _ = std::fs::remove_dir_all(folder.path());
    }
}

fn print(summary: &Summary, folder: &RunFolder) {
    let path = folder.path();
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY);
    table.set_header(["run", &path.display().to_string()]);
    table.add_row(["ended", &summary.reason.to_string()]);
    if let Some(best) = summary.history.best() {
        let accuracy = format!("{:.2} % (epoch {})", 100.0 * best.val_accuracy, best.epoch);
        table.add_row(["best validation accuracy", &accuracy]);
        table.add_row(["its validation loss", &format!("{:.4}", best.val_loss)]);
        table.add_row(["best checkpoint", &summary.best.display().to_string()]);
        table.add_row(["curves", &path.join("curves.png").display().to_string()]);
    }
    table.add_row(["last checkpoint", &summary.last.display().to_string()]);
    table.add_row(["tables", "metrics.csv, batches.csv, events.out.tfevents.*, config.toml"]);
    table.add_row(["epochs", &summary.history.epochs.len().to_string()]);
    table.add_row(["time", &format!("{:.1} s", summary.seconds)]);
    println!("{table}");
    match summary.reason {
        StopReason::Interrupted | StopReason::StoppedByCallback => {
            println!("go on:    candle-vision train --resume {}", path.display());
        }
        _ => {
            let best = summary.best.display();
            println!("next:     candle-vision predict PHOTO.jpg --checkpoint {best}");
            println!("          candle-vision explain PHOTO.jpg --checkpoint {best}");
        }
    }
}
