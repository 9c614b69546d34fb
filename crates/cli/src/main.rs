//! The `candle-vision` command: parse, call, print.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command line program prints: results to stdout, progress and errors to stderr"
)]

mod args;
mod commands;
mod device;
mod progress;
mod settings;
mod sources;

use std::process::ExitCode;

use clap::Parser;

use args::{Cli, Command};

// Training frees and takes hundreds of megabytes every step: an allocator that keeps memory saves
// a quarter of the time, which would otherwise go into page faults.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Train(args) => commands::train::run(*args),
        Command::Eval(args) => commands::eval::run(&args),
        Command::Predict(args) => commands::predict::run(&args),
        Command::Explain(args) => commands::explain::run(&args),
        Command::Summary(args) => commands::summary::run(&args),
        Command::Fetch(args) => commands::fetch::run(&args),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {}", one_line(&error));
            ExitCode::from(exit_code_of(&error))
        }
    }
}

/// The whole chain in one line, a cause that repeats its parent left out.
fn one_line(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        let cause = cause.split_whitespace().collect::<Vec<_>>().join(" ");
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

/// A mistake in what was asked: exit code 2, as clap's own.
#[derive(Debug)]
struct Misuse;

impl std::fmt::Display for Misuse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("misuse")
    }
}

fn exit_code_of(error: &anyhow::Error) -> u8 {
    if error.downcast_ref::<Misuse>().is_some() { 2 } else { 1 }
}
