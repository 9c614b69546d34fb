//! `candle-vision compare`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Result, bail};
use candle_core::Device;
use candle_vision::report::{ComparedRun, comparison_html, comparison_png};
use candle_vision::train::{GradientRecord, History, RunFolder};
use candle_vision::{Classifier, Registry};
use candle_vision_recipe::{Recipe, Settings};

use crate::args::CompareArgs;
use crate::machine_memory::Bytes;
use crate::table::table;
use crate::{report, say};

pub(crate) fn run(args: &CompareArgs, registry: &Registry) -> Result<ExitCode> {
    let runs: Vec<(Option<String>, PathBuf)> =
        args.runs.iter().map(|path| (None, path.clone())).collect();
    compare(&runs, &args.output, registry)?;
    Ok(ExitCode::SUCCESS)
}

/// Compares runs by their folders. One without a name is called by its folder.
pub(crate) fn compare(
    folders: &[(Option<String>, PathBuf)],
    output: &Path,
    registry: &Registry,
) -> Result<()> {
    let mut runs: Vec<Read> = folders
        .iter()
        .map(|(name, path)| read(name.clone(), path, registry))
        .collect::<Result<_>>()?;
    tell_names_apart(&mut runs, folders);
    let compared: Vec<ComparedRun<'_>> = runs.iter().map(Read::compared).collect();
    if runs.iter().any(|run| run.data() != runs[0].data()) {
        say::note(
            "these runs were measured on different data sets: their accuracies cannot be compared",
        );
    }
    let [html, png] = ["html", "png"].map(|ending| with_ending(output, ending));
    comparison_html(&compared, &html)?;
    comparison_png(&compared, &png)?;
    print(&compared)?;
    say::result(html.display())?;
    say::result(png.display())?;
    Ok(())
}

/// A run as read from its folder.
struct Read {
    name: String,
    settings: Settings,
    parameters: Option<usize>,
    history: History,
    gradients: Vec<GradientRecord>,
}

fn read(name: Option<String>, path: &Path, registry: &Registry) -> Result<Read> {
    let folder = RunFolder::open(path)?;
    let settings = Recipe::read(folder.path().join("config.toml"))?.settings()?;
    let history = folder.history()?;
    if history.epochs.is_empty() {
        bail!("`{}` has no finished epoch to compare", path.display())
    }
    // Checkpoints are large, so a run may have been kept without them.
    let parameters = if folder.best().is_file() {
        let classifier = Classifier::load_with(folder.best(), registry, &Device::Cpu)?;
        Some(
            classifier
                .model()
                .parameters()
                .weights()
                .iter()
                .map(|weight| weight.elem_count())
                .sum(),
        )
    } else {
        None
    };
    let name = name.unwrap_or_else(|| report::title(&folder));
    Ok(Read { name, settings, parameters, history, gradients: folder.gradients()? })
}

impl Read {
    fn data(&self) -> (&str, Option<&PathBuf>) {
        (&self.settings.data.source, self.settings.data.path.as_ref())
    }

    fn compared(&self) -> ComparedRun<'_> {
        let model = &self.settings.model;
        ComparedRun {
            name: &self.name,
            data: &self.settings.data.source,
            network: &model.architecture,
            weights: if model.weights.is_empty() { "none" } else { &model.weights },
            parameters: self.parameters,
            history: &self.history,
            gradients: &self.gradients,
        }
    }
}

/// Runs with the same name in different folders are named by their paths.
fn tell_names_apart(runs: &mut [Read], folders: &[(Option<String>, PathBuf)]) {
    let names: Vec<String> = runs.iter().map(|run| run.name.clone()).collect();
    for (run, (_, path)) in runs.iter_mut().zip(folders) {
        if names.iter().filter(|name| **name == run.name).count() > 1 {
            run.name = path.display().to_string();
        }
    }
}

/// `name`, `name.html` and `name.png` all become `name.html`, for the ending `html`.
fn with_ending(output: &Path, ending: &str) -> PathBuf {
    let stem = match output.extension().and_then(|found| found.to_str()) {
        Some("html" | "png") => output.with_extension(""),
        _ => output.to_path_buf(),
    };
    let mut name = stem.into_os_string();
    name.push(".");
    name.push(ending);
    name.into()
}

/// A loss that went astray is not written out.
fn loss(loss: f64) -> String {
    if loss.abs() < 1e4 { format!("{loss:.4}") } else { format!("{loss:.2e}") }
}

fn print(runs: &[ComparedRun<'_>]) -> Result<()> {
    let mut table = table();
    table.set_header([
        "run",
        "network",
        "epochs",
        "best validation accuracy",
        "its loss",
        "epoch",
        "s per epoch",
        "parameters",
        "peak memory",
    ]);
    // A run may have been kept without its checkpoints, or be older than the record of memory.
    let or_not = |text: Option<String>| text.unwrap_or_else(|| "unknown".to_owned());
    for run in runs {
        let Some(best) = run.history.best() else { continue };
        table.add_row([
            run.name.to_owned(),
            run.network.to_owned(),
            run.history.epochs.len().to_string(),
            format!("{:.2} %", 100.0 * best.val_accuracy),
            loss(best.val_loss),
            best.epoch.to_string(),
            or_not(run.history.seconds_per_epoch().map(|seconds| format!("{seconds:.1}"))),
            or_not(run.parameters.map(|count| count.to_string())),
            or_not(run.history.peak_memory().map(|bytes| Bytes(bytes as usize).to_string())),
        ]);
    }
    say::result(table)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endings_are_not_doubled() {
        for (output, expected) in
            [("compare", "compare.png"), ("a/b.html", "a/b.png"), ("lr 0.01", "lr 0.01.png")]
        {
            assert_eq!(with_ending(Path::new(output), "png"), Path::new(expected));
        }
    }
}
