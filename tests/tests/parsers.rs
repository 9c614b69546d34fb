//! A short run of fuzzing without a nightly compiler: each parser that meets outside bytes reads some hundred inputs, made
//! from valid ones by a seeded generator. It must give a value or an error of one line, without a panic and in time.
//!
//! `cargo xtask fuzz` is the long run. Its inputs of faults that were mended lie in `fuzz/regressions`, and are read here.

#![allow(
    unreachable_pub,
    reason = "the modules are public in the crate of the fuzz targets, which share them"
)]

use std::fmt::Write;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use parsers::Parser;

/// All parsers.
fn all() -> impl Iterator<Item = &'static Parser> {
    parsers::ALL.iter().chain([&recipe::PARSER])
}

#[path = "../../fuzz/src/parsers.rs"]
mod parsers;
#[path = "../../fuzz/src/recipe.rs"]
mod recipe;
#[path = "../../fuzz/src/seeds.rs"]
mod seeds;

/// The variable for another number of inputs for each parser.
const INPUTS: &str = "CANDLE_VISION_PARSER_INPUTS";
/// In a build without optimisation, and while other tests run. The long run allows a second.
const MOST: Duration = Duration::from_secs(10);

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests lie in the repository")
}

/// A generator of numbers (splitmix64), so that a fault comes again in the next run.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`, or 0.
    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }
}

/// Numbers that parsers trip over.
const ODD: [u64; 12] = [
    0,
    1,
    0x7F,
    0x80,
    0xFF,
    0xFFFF,
    0x7FFF_FFFF,
    0x8000_0000,
    0xFFFF_FFFF,
    0x1_0000_0000,
    0x7FFF_FFFF_FFFF_FFFF,
    0xFFFF_FFFF_FFFF_FFFF,
];

/// Changes an input in one to eight places.
fn mutate(bytes: &mut Vec<u8>, other: &[u8], numbers: &mut Numbers) {
    for _ in 0..=numbers.below(8) {
        let at = numbers.below(bytes.len());
        let length = (1 + numbers.below(16)).min(bytes.len() - at);
        match numbers.below(8) {
            _ if bytes.is_empty() => bytes.push(numbers.next() as u8),
            0 => bytes[at] ^= 1 << numbers.below(8),
            1 => bytes[at] = numbers.next() as u8,
            2 => drop(bytes.drain(at..at + length)),
            3 => bytes.truncate(at),
            4 => {
                let copy = bytes[at..at + length].to_vec();
                let to = numbers.below(bytes.len());
                bytes.splice(to..to, copy);
            }
            5 => {
                let from = numbers.below(other.len());
                let end = (from + numbers.below(64)).min(other.len());
                bytes.splice(at..at + length, other[from..end].iter().copied());
            }
            form => {
                let odd = ODD[numbers.below(ODD.len())];
                let width = [1, 2, 4, 8][numbers.below(4)].min(bytes.len() - at);
                let little = odd.to_le_bytes();
                let place = &mut bytes[at..at + width];
                place.copy_from_slice(&little[..width]);
                if form == 7 {
                    place.reverse();
                }
            }
        }
    }
}

/// Reads an input. A fault is the message of the panic, or that it took too long.
fn fault(parser: &Parser, bytes: &[u8], folder: &Path) -> Option<String> {
    let started = Instant::now();
    let done = catch_unwind(AssertUnwindSafe(|| (parser.read)(bytes, folder)));
    if let Err(panic) = done {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| text.to_string()));
        return Some(text.unwrap_or_else(|| "a panic".to_owned()));
    }
    let took = started.elapsed();
    (took > MOST).then(|| format!("it took {took:?}"))
}

/// The inputs of faults that were mended.
fn regressions(name: &str) -> Vec<Vec<u8>> {
    let entries = fs::read_dir(root().join("fuzz/regressions").join(name));
    let mut paths: Vec<PathBuf> =
        entries.into_iter().flatten().flatten().map(|e| e.path()).collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).expect("it lies in the repository")).collect()
}

fn run(parser: &Parser, count: usize) -> Vec<String> {
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    let seeds = seeds::of(parser.name, root());
    assert!(!seeds.is_empty(), "there is no input to begin with for `{}`", parser.name);
    let mut faults = Vec::new();
    let mut check = |what: &dyn std::fmt::Display, bytes: &[u8]| {
        if let Some(problem) = fault(parser, bytes, folder.path()) {
            // Behind the test, so that it can be read again.
            let kept = std::env::temp_dir().join(format!("fault-{}-{what}", parser.name));
            let _ = fs::write(&kept, bytes);
            faults.push(format!("`{}`, {what} (`{}`): {problem}", parser.name, kept.display()));
        }
    };
    for (number, bytes) in seeds.iter().enumerate() {
        check(&format_args!("seed-{number}"), bytes);
    }
    for (number, bytes) in regressions(parser.name).iter().enumerate() {
        check(&format_args!("regression-{number}"), bytes);
    }
    let mut numbers = Numbers(seeds::fnv(parser.name.as_bytes()));
    for number in 0..count {
        let mut bytes = seeds[numbers.below(seeds.len())].clone();
        let other = &seeds[numbers.below(seeds.len())];
        mutate(&mut bytes, other, &mut numbers);
        check(&format_args!("input-{number}"), &bytes);
    }
    faults
}

#[test]
#[expect(clippy::print_stdout, reason = "longer runs show how far they are")]
fn parsers_give_a_value_or_an_error_of_one_line() {
    let count = std::env::var(INPUTS).ok().and_then(|count| count.parse().ok()).unwrap_or(500);
    let mut text = String::new();
    for parser in all() {
        let started = Instant::now();
        for fault in run(parser, count) {
            let _ = writeln!(text, "{fault}");
        }
        println!("{:<14} {count} inputs in {:.1} s", parser.name, started.elapsed().as_secs_f64());
    }
    assert!(text.is_empty(), "{text}");
}

#[test]
fn every_parser_has_a_fuzz_target() {
    let manifest = fs::read_to_string(root().join("fuzz/Cargo.toml")).expect("it is there");
    for parser in all() {
        let entry = format!("[[bin]]\nname = \"{}\"\n", parser.name);
        assert!(manifest.contains(&entry), "`{}`", parser.name);
        let target = root().join("fuzz/fuzz_targets").join(parser.name).with_extension("rs");
        assert!(target.is_file(), "`{}`", parser.name);
    }
}
