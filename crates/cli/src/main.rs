//! The `candle-vision` command: parse, call, print.

mod args;
mod batches;
mod changes;
mod commands;
mod confusion;
mod device;
mod image_folders;
mod measured;
mod named_images;
mod out_of_memory;
mod output_names;
mod own_environment;
mod plan;
mod prepare;
mod progress;
mod recipe;
mod recorded;
mod remedy;
mod report;
mod resume;
mod say;
mod settings;
mod sources;
mod stop;
mod table;
mod test_split;

use std::process::ExitCode;

use clap::Parser;

use args::{Cli, Command};

// Training frees and takes hundreds of megabytes every step: an allocator that keeps memory saves
// a quarter of the time, which would otherwise go into page faults.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    own_environment::settle();
    candle_vision::ops::join_pool();
    let result = match Cli::parse().command {
        Command::Train(args) => commands::train::run(&args),
        Command::Eval(args) => commands::eval::run(&args),
        Command::Predict(args) => commands::predict::run(&args),
        Command::Explain(args) => commands::explain::run(&args),
        Command::Score(args) => commands::score::run(&args),
        Command::Report(args) => commands::report::run(&args),
        Command::Compare(args) => commands::compare::run(&args),
        Command::Inspect { command } => commands::inspect::run(&command),
        Command::Summary(args) => commands::summary::run(&args),
        Command::Fetch(args) => commands::fetch::run(&args),
    };
    say::characters_without_font();
    match result {
        Ok(code) => code,
        // Who reads only the beginning (`candle-vision summary resnet18 | head`) got what they asked.
        Err(error) if say::is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            say::error(&error);
            ExitCode::FAILURE
        }
    }
}
