//! `cargo xtask fuzz`: feeds the parsers with inputs made by libFuzzer, and says how many there were.
//!
//! It needs a nightly compiler and `cargo-fuzz`. The short run of the tests (`tests/tests/parsers.rs`) needs neither.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::cargo::{output, root};
use crate::misuse::Misuse;

/// What a parser may take. The largest budgets of parsers are 8 times the file and 64 MiB, and the sanitizer keeps what was
/// freed for a while. The limit of one allocation needs a sanitizer; without one, the allocator of `fuzz` has the limit.
const LIMITS: [&str; 3] = ["-timeout=1", "-malloc_limit_mb=256", "-rss_limit_mb=2048"];
/// Milliseconds of `-timeout`.
const LONGEST: u64 = 1000;
/// How often an input that took too long is tried alone.
const TRIES: usize = 3;

#[derive(Args)]
pub(crate) struct Arguments {
    /// The parsers [default: all]
    #[arg(value_name = "PARSER")]
    parsers: Vec<String>,
    /// The number of inputs for each parser
    #[arg(long, value_name = "N", default_value_t = 10_000_000)]
    inputs: u64,
    /// The most seconds for each parser; the number of inputs may not be reached then
    #[arg(long, value_name = "S")]
    seconds: Option<u64>,
    /// What watches the memory: `none` takes up to a hundred times as many inputs in a second, and sees panics, hangs and
    /// allocations alone
    #[arg(long, value_enum, default_value_t = Sanitizer::Address)]
    sanitizer: Sanitizer,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Sanitizer {
    Address,
    None,
}

impl Sanitizer {
    /// The folder of builds. Each has its own, so that one build does not replace the other.
    fn folder(self) -> PathBuf {
        root().join("fuzz/target").join(match self {
            Self::Address => "address",
            Self::None => "none",
        })
    }

    /// Where a program of this build lies. cargo-fuzz always names the platform.
    fn program(self, name: &str) -> PathBuf {
        self.folder().join("x86_64-unknown-linux-gnu/release").join(name)
    }

    fn options(self) -> &'static [&'static str] {
        match self {
            Self::Address => &["--sanitizer", "address"],
            Self::None => &["--sanitizer", "none", "--features", "capped"],
        }
    }
}

/// What libFuzzer says at its end.
#[derive(Debug, Default, PartialEq, Eq)]
struct Counts {
    inputs: u64,
    in_second: u64,
    memory_mib: u64,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let fuzz = root().join("fuzz");
    let all = targets(&fuzz)?;
    if let Some(unknown) = arguments.parsers.iter().find(|name| !all.contains(name)) {
        let known = all.join(", ");
        return Err(Misuse(format!("no parser is called `{unknown}`; known: {known}")).into());
    }
    let wanted = if arguments.parsers.is_empty() { &all } else { &arguments.parsers };
    let version = output(Command::new("cargo").args(["+nightly", "fuzz", "--version"]));
    version.context(
        "fuzzing needs a nightly compiler and cargo-fuzz: `rustup toolchain install nightly` and `cargo install --locked cargo-fuzz` bring them",
    )?;
    for target in ["seeds"].into_iter().chain(wanted.iter().map(String::as_str)) {
        build(target, arguments.sanitizer)?;
    }
    // In memory, if the system has such a place, because most parsers read files.
    let memory = Path::new("/dev/shm");
    let scratch = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    let scratch = scratch.context("cannot make a folder for temporary files")?;
    let mut seeds = Command::new(arguments.sanitizer.program("seeds"));
    output(seeds.arg(fuzz.join("corpus")).args(wanted))?;
    println!("{:<14} {:>11} {:>9} {:>7}", "parser", "inputs", "each s", "MiB");
    let mut faults = 0;
    for parser in wanted {
        let (counts, is_fine) = run_one(parser, arguments, &fuzz, scratch.path())?;
        let Counts { inputs, in_second, memory_mib } = counts;
        let found = if is_fine { "" } else { "  FAULT, see fuzz/artifacts" };
        println!("{parser:<14} {inputs:>11} {in_second:>9} {memory_mib:>7}{found}");
        faults += usize::from(!is_fine);
    }
    Ok(if faults == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The names of all targets.
fn targets(fuzz: &Path) -> Result<Vec<String>> {
    let folder = fuzz.join("fuzz_targets");
    let entries = std::fs::read_dir(&folder);
    let entries = entries.with_context(|| format!("cannot read `{}`", folder.display()))?;
    let mut names = Vec::new();
    for entry in entries {
        let path = entry.with_context(|| format!("cannot read `{}`", folder.display()))?.path();
        names.extend(path.file_stem().map(|stem| stem.to_string_lossy().into_owned()));
    }
    names.sort();
    Ok(names)
}

fn build(target: &str, sanitizer: Sanitizer) -> Result<()> {
    // Not the cargo that started this program: it would not know of `+nightly`.
    let mut cargo = Command::new("cargo");
    cargo.args(["+nightly", "fuzz", "build", "--release"]).args(sanitizer.options());
    cargo.arg("--target-dir").arg(sanitizer.folder()).arg(target).current_dir(root());
    // The variables by which cargo names its compiler to the programs that it starts.
    cargo.env_remove("RUSTUP_TOOLCHAIN").env_remove("CARGO").env_remove("RUSTC");
    if !cargo.status().context("cannot start cargo")?.success() {
        bail!("`{target}` does not build, see cargo's messages above");
    }
    Ok(())
}

/// Runs a target. Returns its counts, and whether no fault was found.
fn run_one(
    parser: &str,
    arguments: &Arguments,
    fuzz: &Path,
    scratch: &Path,
) -> Result<(Counts, bool)> {
    let artifacts: PathBuf = fuzz.join("artifacts").join(parser);
    std::fs::create_dir_all(&artifacts).context("cannot make the folder of artifacts")?;
    let start = Instant::now();
    let mut total = Counts::default();
    loop {
        let seconds = arguments.seconds.map(|most| most.saturating_sub(start.elapsed().as_secs()));
        let left = arguments.inputs.saturating_sub(total.inputs);
        if left == 0 || seconds == Some(0) {
            return Ok((total, true));
        }
        let mut command = Command::new(arguments.sanitizer.program(parser));
        command.arg(fuzz.join("corpus").join(parser)).args(LIMITS);
        command.arg(format!("-runs={left}")).arg("-print_final_stats=1");
        command.arg(format!("-artifact_prefix={}/", artifacts.display()));
        command.args(seconds.map(|seconds| format!("-max_total_time={seconds}")));
        command.env("TMPDIR", scratch).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("cannot start `{parser}`"))?;
        let stderr = child.stderr.take().context("the fuzzer has no output")?;
        let mut counts = Counts::default();
        let mut slow = None;
        for line in BufReader::new(stderr).split(b'\n') {
            let line = line.context("cannot read the fuzzer's output")?;
            let line = String::from_utf8_lossy(&line);
            slow = slow.or_else(|| slow_input(&line));
            if !counts.read(&line) {
                eprintln!("{parser}: {line}");
            }
        }
        let status = child.wait().context("cannot wait for the fuzzer")?;
        total = total.and(&counts);
        let Some(slow) = slow.filter(|_| !status.success() && counts.inputs > 0) else {
            return Ok((total, status.success()));
        };
        // libFuzzer looks at the clock. On a machine with other work an input may wait for its turn.
        let program = arguments.sanitizer.program(parser);
        let alone = time_alone(&program, &slow, scratch)?;
        let Some(milliseconds) = alone.filter(|&took| took < LONGEST) else {
            return Ok((total, false));
        };
        eprintln!("{parser}: an input that took over {LONGEST} ms takes {milliseconds} ms alone");
        std::fs::remove_file(&slow).context("cannot remove an input that is none of a fault")?;
    }
}

/// The file with the input that took too long, if the line names one.
fn slow_input(line: &str) -> Option<PathBuf> {
    let (_, path) = line.split_once("Test unit written to ")?;
    let path = PathBuf::from(path.trim());
    let name = path.file_name()?.to_string_lossy();
    name.starts_with("timeout-").then_some(path)
}

/// The least milliseconds of some tries with one input, or `None` if it does not come to an end without a fault.
fn time_alone(program: &Path, input: &Path, scratch: &Path) -> Result<Option<u64>> {
    let mut least = None;
    for _ in 0..TRIES {
        let mut command = Command::new(program);
        let done = command
            .arg(input)
            .env("TMPDIR", scratch)
            .output()
            .context("cannot start the fuzzer")?;
        let took = String::from_utf8_lossy(&done.stderr).lines().find_map(milliseconds);
        let Some(took) = took.filter(|_| done.status.success()) else { return Ok(None) };
        least = Some(least.map_or(took, |least: u64| least.min(took)));
    }
    Ok(least)
}

/// The number in `Executed FILE in N ms`.
fn milliseconds(line: &str) -> Option<u64> {
    let rest = line.strip_prefix("Executed ")?.strip_suffix(" ms")?;
    rest.rsplit_once(" in ")?.1.parse().ok()
}

impl Counts {
    /// The counts of one run after the other.
    fn and(&self, next: &Self) -> Self {
        Self {
            inputs: self.inputs + next.inputs,
            in_second: next.in_second,
            memory_mib: self.memory_mib.max(next.memory_mib),
        }
    }

    /// Takes a number from a line. Returns whether the line has one.
    fn read(&mut self, line: &str) -> bool {
        let Some((name, number)) = line.strip_prefix("stat::").and_then(|s| s.split_once(':'))
        else {
            return false;
        };
        let number = number.trim().parse().unwrap_or(0);
        match name {
            "number_of_executed_units" => self.inputs = number,
            "average_exec_per_sec" => self.in_second = number,
            "peak_rss_mb" => self.memory_mib = number,
            _ => {}
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_those_that_the_fuzzer_prints() {
        let mut counts = Counts::default();
        let text = "#2\tINITED cov: 3\nstat::number_of_executed_units: 1048\nstat::average_exec_per_sec:     524\nstat::new_units_added:          3\nstat::peak_rss_mb:              61\n";
        let others = text.lines().filter(|line| !counts.read(line)).count();
        assert_eq!(others, 1);
        assert_eq!(counts, Counts { inputs: 1048, in_second: 524, memory_mib: 61 });
    }

    #[test]
    fn an_input_that_took_long_is_found_and_timed() {
        let line = "artifact_prefix='a/'; Test unit written to a/timeout-1f";
        assert_eq!(slow_input(line), Some(PathBuf::from("a/timeout-1f")));
        assert_eq!(slow_input("Test unit written to a/crash-1f"), None);
        assert_eq!(milliseconds("Executed a/timeout-1f in 24 ms"), Some(24));
    }

    #[test]
    fn a_parser_that_does_not_exist_is_misuse() {
        let arguments = Arguments {
            parsers: vec!["jpg".to_owned()],
            inputs: 1,
            seconds: None,
            sanitizer: Sanitizer::None,
        };
        let error = run(&arguments).unwrap_err();
        assert!(error.is::<Misuse>() && error.to_string().contains("jpeg"), "{error}");
    }
}
