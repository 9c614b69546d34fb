//! The `candle-vision` command: parse, call, print.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command line program prints: results to stdout, progress and errors to stderr"
)]

mod args;
mod commands;
mod device;
mod plan;
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
            report_error(&error);
            ExitCode::FAILURE
        }
    }
}

/// Prints an error as one line.
fn report_error(error: &anyhow::Error) {
    eprintln!("error: {}", one_line(error));
}

/// The whole chain in one line; a cause that its parent already tells is left out.
fn one_line(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(|cause| without_backtrace(&cause.to_string())) {
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

/// candle appends a backtrace to its messages where `RUST_BACKTRACE` asks for one.
fn without_backtrace(message: &str) -> String {
    let message = message.find("\n   0: ").map_or(message, |at| &message[..at]);
    message.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_is_one_line_without_repetitions() {
        let error = anyhow::anyhow!("no such\nfile").context("cannot read `a`: no such file");
        assert_eq!(one_line(&error.context("in a run")), "in a run: cannot read `a`: no such file");
    }

    #[test]
    fn a_backtrace_is_left_out() {
        let message = "shapes differ\n   0: candle_core::error::Error::bt\n   1: main";
        assert_eq!(without_backtrace(message), "shapes differ");
    }
}
