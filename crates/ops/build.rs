//! Compiles the CUDA kernels to PTX, with the feature `cuda` alone: `src/cuda/kernels/NAME.cu`
//! becomes `NAME.ptx` in cargo's output folder, which the crate takes in as text.
//!
//! PTX is for a least compute capability and runs on every later one; the driver translates it for
//! the card at hand when it is loaded.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{self, Command};

const KERNELS: &str = "src/cuda/kernels";

/// Ampere, the first cards whose tensor cores know `bf16` and TF32.
const DEFAULT_CAPABILITY: &str = "80";

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
    let capability = capability()?;
    let output =
        PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR for build scripts")?);
    for source in sources()? {
        let name = source.file_name().unwrap_or_default();
        compile(&nvcc, &capability, &source, &output.join(name).with_extension("ptx"))?;
    }
    Ok(())
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
fn capability() -> Result<String, String> {
    let Some(text) = env::var("CUDA_COMPUTE_CAP").ok().filter(|text| !text.is_empty()) else {
        return Ok(DEFAULT_CAPABILITY.into());
    };
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    if matches!(digits.len(), 2 | 3) {
        Ok(digits)
    } else {
        Err(format!("CUDA_COMPUTE_CAP is `{text}`, expected one compute capability such as `80`"))
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

fn compile(nvcc: &Path, capability: &str, source: &Path, ptx: &Path) -> Result<(), String> {
    let output = Command::new(nvcc)
        .args(["--ptx", "-O3", "-std=c++17"])
        .arg(format!("-arch=compute_{capability}"))
        .arg("-o")
        .args([ptx, source])
        .output();
    let (nvcc, source) = (nvcc.display(), source.display());
    let output = output.map_err(|error| {
        format!(
            "the feature `cuda` needs NVIDIA's compiler, and `{nvcc}` does not start ({error}); \
             make a toolkit with `cargo xtask cuda-toolkit`, or set NVCC or CUDA_HOME"
        )
    })?;
    if output.status.success() {
        return Ok(());
    }
    // Cargo takes an error of one line, so each line of the compiler's becomes one.
    let text = [output.stdout, output.stderr].concat();
    for line in String::from_utf8_lossy(&text).lines() {
        tell(&format!("error={line}"));
    }
    Err(format!("`{nvcc}` cannot compile `{source}` for compute capability {capability}"))
}
