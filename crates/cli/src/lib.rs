//! The `candle-vision` command as a library. Your own program gets all its commands, with its own networks,
//! transforms, data sets, losses and optimizers.
//!
//! ```no_run
//! use std::process::ExitCode;
//!
//! use candle_vision_cli::{Registry, main_with};
//!
//! fn main() -> ExitCode {
//!     // .network(..), .transform(..), .data_set(..), .optimizer(..), .loss(..)
//!     main_with(Registry::standard())
//! }
//! ```
//!
//! This crate parses arguments, calls the crates below and prints. They compute everything.

mod args;
mod batches;
mod commands;
mod confusion;
mod device;
mod machine_memory;
mod measured;
mod named_images;
mod network;
mod out_of_memory;
mod output_names;
mod own_environment;
mod progress;
mod ranks;
mod read_options;
mod remedy;
mod report;
mod resume;
mod run_memory;
mod say;
mod step_size;
mod stop;
mod table;
mod test_split;
mod tta;

use std::process::ExitCode;

pub use candle_vision_recipe::Registry;

use args::{Command, parse};

/// Runs the command that the process was called with, with the parts of `registry`. Returns its exit code:
/// 0 done, 1 failed, 2 misuse. Call it once, at the beginning of `main`.
///
/// On Unix the process starts itself again if the allocator's settings are not in its environment. Code
/// before this call then runs twice.
pub fn main_with(registry: Registry) -> ExitCode {
    own_environment::settle();
    leave_out_panics_of_readers();
    candle_vision::ops::join_pool();
    let result = registry.check().map_err(anyhow::Error::from).and_then(|()| run(&registry));
    let result = ranks::end(result);
    say::characters_without_font();
    match result {
        Ok(code) => code,
        // A reader of only the beginning (`candle-vision summary resnet18 | head`) got what they asked for.
        Err(error) if say::is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            say::error(&out_of_memory::of_command(error));
            ExitCode::FAILURE
        }
    }
}

/// A decoder that panics at a damaged file makes an error of one line. What the panic says would come before it.
fn leave_out_panics_of_readers() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !candle_vision::data::is_in_foreign_reader() {
            usual(panic);
        }
    }));
}

fn run(registry: &Registry) -> anyhow::Result<ExitCode> {
    let command = parse(registry).command;
    if !matches!(command, Command::Train(_)) {
        ranks::refuse()?;
    }
    match command {
        Command::Train(args) => commands::train::run(&args, registry),
        Command::Sweep(args) => commands::sweep::run(&args, registry),
        Command::Eval(args) => commands::eval::run(&args, registry),
        Command::Predict(args) => commands::predict::run(&args, registry),
        Command::Explain(args) => commands::explain::run(&args, registry),
        Command::Score(args) => commands::score::run(&args, registry),
        Command::Probe(args) => commands::probe::run(&args, registry),
        Command::Report(args) => commands::report::run(&args, registry),
        Command::Compare(args) => commands::compare::run(&args, registry),
        Command::Inspect { command } => commands::inspect::run(&command, registry),
        Command::Data { command } => commands::data::run(&command, registry),
        Command::Models(args) => commands::models::run(&args, registry),
        Command::Summary(args) => commands::summary::run(&args, registry),
        Command::Memory(args) => commands::memory::run(&args, registry),
        Command::ScalePlan(args) => commands::scale_plan::run(&args, registry),
        Command::Convert(args) => commands::convert::run(&args, registry),
        Command::Parity(args) => commands::parity::run(&args, registry),
        Command::Fetch(args) => commands::fetch::run(&args, registry),
    }
}

/// The program in the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
