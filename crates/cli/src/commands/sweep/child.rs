//! A run of a sweep in a process of its own. So the memory that is measured is that of the run alone, and a run that
//! fails takes no other with it.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result};
use candle_vision::train::write_atomically;

use super::{Planned, Progress};
use crate::args::SweepArgs;

/// Interval between looks at the process. A run takes seconds at least.
const LOOK: Duration = Duration::from_millis(50);

/// How a run ended.
pub(super) enum Ended {
    Done,
    /// This process was asked to stop, and the run with it.
    Interrupted,
    /// With these words, behind the name of the run.
    Failed(String),
}

/// Trains one run until it ends.
pub(super) fn train(
    args: &SweepArgs,
    planned: &Planned,
    progress: &Progress,
    folder: &Path,
    stop: &AtomicBool,
) -> Result<Ended> {
    if stop.load(Ordering::Relaxed) {
        return Ok(Ended::Interrupted);
    }
    let mut command = match progress {
        Progress::Finished(_) => return Ok(Ended::Done),
        Progress::New => begun(planned, folder)?,
        Progress::Unfinished(run) => {
            let mut command = program()?;
            let epochs = planned.settings.training.epochs;
            command.arg("--resume").arg(run).arg("--epochs").arg(epochs.to_string());
            command
        }
    };
    command.arg("--device").arg(args.device.name());
    if let Some(memory) = args.device.memory() {
        command.arg("--device-memory").arg(memory.0.to_string());
    }
    if let Some(data) = args.data.asked() {
        command.arg("--data").arg(data);
    }
    if let Some(memory) = args.memory {
        command.arg("--memory").arg(memory.0.to_string());
    }
    if let Some(from) = &args.origins.from {
        command.arg("--from").arg(from);
    }
    if args.origins.offline {
        command.arg("--offline");
    }
    // The end of its input tells the process to stop: it comes in any case when this process ends.
    command.arg("--stop-at-end-of-input").stdin(Stdio::piped()).stdout(Stdio::null());
    let mut child = command.spawn().context("this program cannot be started again")?;
    let mut input = child.stdin.take();
    let status = loop {
        if let Some(status) = child.try_wait().context("the run cannot be waited for")? {
            break status;
        }
        if stop.load(Ordering::Relaxed) {
            drop(input.take());
        }
        sleep(LOOK);
    };
    drop(input);
    // A run that ended with its last batch is done, but no further one begins.
    Ok(if stop.load(Ordering::Relaxed) {
        Ended::Interrupted
    } else if status.success() {
        Ended::Done
    } else {
        Ended::Failed(match status.code() {
            Some(_) => "failed (its error is above)".to_owned(),
            None => "was ended from outside; its memory may not be there".to_owned(),
        })
    })
}

/// The command that begins a run by its planned settings, which lie beside the runs.
fn begun(planned: &Planned, folder: &Path) -> Result<Command> {
    let Planned { name, settings } = planned;
    std::fs::create_dir_all(folder)
        .with_context(|| format!("cannot make `{}` for the sweep", folder.display()))?;
    let recipe = folder.join(format!("{name}.toml"));
    write_atomically(&recipe, settings.to_toml()?.as_bytes())?;
    let mut command = program()?;
    command.arg("--recipe").arg(recipe).arg("--runs").arg(folder).arg("--name").arg(name);
    Ok(command)
}

fn program() -> Result<Command> {
    let program = std::env::current_exe().context("this program's own file is not to be found")?;
    let mut command = Command::new(program);
    command.arg("train");
    Ok(command)
}
