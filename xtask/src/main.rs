//! Starts the project's work: experiments, data, checks. `cargo xtask --help` lists the tasks.
//!
//! This program computes nothing itself and uses no library crate of the project. It starts `cargo` and the
//! `candle-vision` binary, returns their exit codes, and checks the source tree. Exit codes: 0 done, 1
//! failed, 2 misuse.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command line program prints: results to stdout, progress to stderr"
)]

mod bench;
mod cargo;
mod check;
mod check_cuda;
mod cuda;
mod cuda_emulator;
mod cuda_toolkit;
mod experiment;
mod fetch_data;
mod fuzz;
mod misuse;
mod mpirun;
mod near;
mod package;
mod parity_all;
mod recipes;
mod resolved;
mod tidy;
mod tools;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use misuse::Misuse;

#[derive(Parser)]
#[command(name = "xtask", bin_name = "cargo xtask", about = "Starts the project's work", version)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Run an experiment of xtask/experiments, or list them
    Experiment(experiment::Arguments),
    /// Bring data sets and weights into the data folder
    FetchData(fetch_data::Arguments),
    /// Measure the speed, beside PyTorch's if a Python with torch is given
    Bench(bench::Arguments),
    /// Run every check: fmt, clippy, tests, the CUDA code, docs, tidy
    Check,
    /// Build CUDA libraries that run on the CPU, for tests without a card
    CudaEmulator(cuda_emulator::Arguments),
    /// Type-check the code for CUDA; needs no GPU and no CUDA toolkit
    CheckCuda,
    /// Put together a CUDA toolkit to build with; needs no GPU, no driver and no root
    CudaToolkit(cuda_toolkit::Arguments),
    /// Feed every parser of outside bytes with inputs made by libFuzzer; needs a nightly compiler and cargo-fuzz
    Fuzz(fuzz::Arguments),
    /// Compare every network with stored values of torchvision and timm, train, explain and summarize it; takes minutes
    /// and gigabytes
    ParityAll,
    /// Check the dependency graph and the source tree against the project's rules
    Tidy,
    /// Pack the published crates as crates.io would get them; needs no network
    Package,
    /// Check licences, advisories and sources of the dependencies with cargo-deny, if it is installed
    Deny,
    /// Compare the public API with a release's by cargo-semver-checks, if it is installed
    Semver(tools::SemverArguments),
}

fn main() -> ExitCode {
    let done = match Arguments::parse().task {
        Task::Experiment(arguments) => experiment::run(&arguments),
        Task::FetchData(arguments) => fetch_data::run(&arguments),
        Task::Bench(arguments) => bench::run(&arguments),
        Task::CudaEmulator(arguments) => cuda_emulator::run(&arguments),
        Task::Check => check::run(),
        Task::CheckCuda => check_cuda::run(),
        Task::CudaToolkit(arguments) => cuda_toolkit::run(&arguments),
        Task::Fuzz(arguments) => fuzz::run(&arguments),
        Task::ParityAll => parity_all::run(),
        Task::Tidy => tidy::run(),
        Task::Package => package::run(),
        Task::Deny => tools::deny(),
        Task::Semver(arguments) => tools::semver(&arguments),
    };
    done.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        exit_code_of(&error)
    })
}

fn exit_code_of(error: &anyhow::Error) -> ExitCode {
    match error.downcast_ref::<Misuse>() {
        Some(_) => ExitCode::from(2),
        None => ExitCode::FAILURE,
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn misuse_has_its_own_exit_code() {
        let misuse = anyhow::Error::new(Misuse("unknown".to_owned()));
        assert_eq!(exit_code_of(&misuse), ExitCode::from(2));
        assert_eq!(exit_code_of(&anyhow::anyhow!("failed")), ExitCode::FAILURE);
    }
}
