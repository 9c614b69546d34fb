//! Compiles the CUDA kernels, with the feature `cuda` alone: `src/cuda/kernels/NAME.cu` becomes
//! `NAME.fatbin` in cargo's output folder, which the crate takes in.
//!
//! A fat binary has machine code for some cards, which the driver loads as it is, and PTX, which it
//! translates for any later card when it is loaded.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{self, Command};

const KERNELS: &str = "src/cuda/kernels";

/// Ampere, the first cards whose tensor cores know `bf16` and TF32.
const DEFAULT_CAPABILITY: u32 = 80;

/// What gets machine code, where the compiler knows it: A100, RTX 30, RTX 40, H100. Machine code runs on
/// cards of the same major number and a minor one that is not less.
const MACHINE_CODE: [u32; 4] = [80, 86, 89, 90];

fn main() {
    tell("rerun-if-changed=build.rs");
    if env::var_os("CARGO_FEATURE_CUDA").is_none() {
        return;
    }
    tell(&format!("rerun-if-changed={KERNELS}"));
    for variable in ["NVCC", "CUDA_HOME", "CUDA_COMPUTE_CAP"] {
        tell(&format!("rerun-if-env-changed={variable}"));
    }
    if let Err(error) = compile_all() {
        tell(&format!("error={error}"));
        process::exit(1);
    }
}

fn tell(message: &str) {
    println!("cargo::{message}");
}

fn compile_all() -> Result<(), String> {
    let nvcc = nvcc();
    let targets = Targets::new(least_capability()?, &known_to(&nvcc)?);
    // The crate says at run time whether there is machine code for a card.
    let list: Vec<String> = targets.machine_code.iter().map(u32::to_string).collect();
    tell(&format!("rustc-env=CANDLE_VISION_MACHINE_CODE={}", list.join(",")));
    let output =
        PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR for build scripts")?);
    for source in sources()? {
        let name = source.file_name().unwrap_or_default();
        compile(&nvcc, &targets, &source, &output.join(name).with_extension("fatbin"))?;
    }
    Ok(())
}

/// What the kernels are compiled for.
struct Targets {
    machine_code: BTreeSet<u32>,
    ptx: u32,
}

impl Targets {
    /// For the capability `least` and later ones, as far as the compiler knows them. What is left out of
    /// [`MACHINE_CODE`] gets PTX translated, which for all later cards is that of the highest.
    fn new(least: u32, known: &BTreeSet<u32>) -> Self {
        let later = MACHINE_CODE.into_iter().filter(|&capability| capability > least);
        let wanted = std::iter::once(least).chain(later);
        let machine_code: BTreeSet<u32> = wanted.filter(|wanted| known.contains(wanted)).collect();
        let ptx = machine_code.last().copied().unwrap_or(least);
        Self { machine_code, ptx }
    }

    fn arguments(&self) -> impl Iterator<Item = String> {
        let machine_code = self.machine_code.iter().map(|capability| (*capability, "sm"));
        machine_code.chain([(self.ptx, "compute")]).map(|(capability, kind)| {
            format!("--generate-code=arch=compute_{capability},code={kind}_{capability}")
        })
    }
}

/// The capabilities that the compiler makes machine code for. Variants such as `sm_90a`, which no other
/// card runs, are not asked for.
fn known_to(nvcc: &Path) -> Result<BTreeSet<u32>, String> {
    let output = started(nvcc, Command::new(nvcc).arg("--list-gpu-code"))?;
    let names = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(names.split_whitespace().filter_map(|name| name.strip_prefix("sm_")?.parse().ok()).collect())
}

/// The compiler that `NVCC` names, or the one in `CUDA_HOME`, or whichever is found on `PATH`.
fn nvcc() -> PathBuf {
    if let Some(nvcc) = env::var_os("NVCC").filter(|nvcc| !nvcc.is_empty()) {
        return nvcc.into();
    }
    let in_toolkit = env::var_os("CUDA_HOME").map(|home| Path::new(&home).join("bin/nvcc"));
    in_toolkit.filter(|nvcc| nvcc.is_file()).unwrap_or_else(|| {
        tell("rerun-if-env-changed=PATH");
        "nvcc".into()
    })
}

/// The digits of `CUDA_COMPUTE_CAP` (`90`, `9.0` and `90a` are all `90`), or the default.
fn least_capability() -> Result<u32, String> {
    let Some(text) = env::var("CUDA_COMPUTE_CAP").ok().filter(|text| !text.is_empty()) else {
        return Ok(DEFAULT_CAPABILITY);
    };
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    match digits.parse() {
        Ok(capability) if matches!(digits.len(), 2 | 3) => Ok(capability),
        _ => Err(format!(
            "CUDA_COMPUTE_CAP is `{text}`, expected one compute capability such as `80`"
        )),
    }
}

fn sources() -> Result<Vec<PathBuf>, String> {
    let cannot_read = |error| format!("cannot read `{KERNELS}`: {error}");
    let mut sources = Vec::new();
    for entry in fs::read_dir(KERNELS).map_err(cannot_read)? {
        let path = entry.map_err(cannot_read)?.path();
        if path.extension().is_some_and(|extension| extension == "cu") {
            sources.push(path);
        }
    }
    sources.sort();
    Ok(sources)
}

fn compile(nvcc: &Path, targets: &Targets, source: &Path, fatbin: &Path) -> Result<(), String> {
    let mut command = Command::new(nvcc);
    command.args(["--fatbin", "-O3", "-std=c++17"]).args(targets.arguments());
    // A fifth of the size; only PTX is compressed otherwise.
    command.args(["-Xfatbin", "-compress-all"]).arg("-o").args([fatbin, source]);
    let output = started(nvcc, &mut command)?;
    if output.status.success() {
        return Ok(());
    }
    // Cargo takes an error of one line, so each line of the compiler's becomes one.
    let text = [output.stdout, output.stderr].concat();
    for line in String::from_utf8_lossy(&text).lines() {
        tell(&format!("error={line}"));
    }
    let (nvcc, source) = (nvcc.display(), source.display());
    let targets = targets.arguments().collect::<Vec<_>>().join(" ");
    Err(format!("`{nvcc}` cannot compile `{source}` for {targets}"))
}

fn started(nvcc: &Path, command: &mut Command) -> Result<process::Output, String> {
    command.output().map_err(|error| {
        let nvcc = nvcc.display();
        format!(
            "the feature `cuda` needs NVIDIA's compiler, and `{nvcc}` does not start ({error}); \
             install a CUDA toolkit, or set NVCC or CUDA_HOME to one"
        )
    })
}
