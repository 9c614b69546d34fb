//! The machine and the versions. Without them the figures mean nothing later.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::cargo::{locked_version, output, root};

/// The machine and the versions.
#[derive(Debug, Default, Serialize)]
pub(super) struct Environment {
    pub(super) cpu: String,
    /// Number of logical CPUs that this process may use.
    pub(super) cpus: usize,
    pub(super) os: &'static str,
    pub(super) arch: &'static str,
    pub(super) candle_vision: &'static str,
    #[serde(flatten)]
    pub(super) built_with: BuiltWith,
    /// The value of CANDLE_VISION_CPU, which chooses among the kernels, if it is set.
    pub(super) candle_vision_cpu: Option<String>,
    pub(super) pytorch: Option<PyTorch>,
    /// Names and drivers of the cards, if cards are measured.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) cards: Vec<String>,
}

/// What this project's programs are made of.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct BuiltWith {
    pub(super) candle: Option<String>,
    pub(super) rustc: Option<String>,
}

impl BuiltWith {
    /// Of a build in this repository.
    pub(super) fn here() -> Self {
        Self { candle: locked_version("candle-core").ok(), rustc: rustc_version() }
    }
}

/// The Python and PyTorch that run the jobs on the other side.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct PyTorch {
    python: String,
    torch: String,
    torchvision: String,
    /// The instruction set that PyTorch found, such as `AVX512`.
    cpu_capability: String,
    /// The CUDA and cuDNN versions that PyTorch was built with, if any.
    cuda: Option<String>,
    cudnn: Option<u64>,
}

impl Environment {
    /// The environment of this machine, with PyTorch's if a Python is given. `script` runs the jobs in PyTorch.
    ///
    /// # Errors
    /// If the given Python does not run PyTorch.
    pub(super) fn of_this_machine(
        python: Option<&Path>,
        script: &Path,
        built_with: BuiltWith,
    ) -> Result<Self> {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        Ok(Self {
            cpu: cpu_model(&cpuinfo).unwrap_or("unknown CPU").to_owned(),
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
            os: std::env::consts::OS,
            arch: std::env::consts::ARCH,
            candle_vision: env!("CARGO_PKG_VERSION"),
            built_with,
            candle_vision_cpu: std::env::var("CANDLE_VISION_CPU").ok(),
            pytorch: python.map(|python| PyTorch::of(python, script)).transpose()?,
            cards: Vec::new(),
        })
    }

    /// Adds the cards, if nvidia-smi can list them.
    pub(super) fn look_for_cards(&mut self) {
        let query = ["--query-gpu=name,driver_version", "--format=csv,noheader"];
        let cards = output(Command::new("nvidia-smi").args(query)).unwrap_or_default();
        self.cards = cards.lines().map(str::to_owned).collect();
    }

    /// One line for the reader of the table.
    pub(super) fn text(&self) -> String {
        let mut text = self.cpu.clone();
        for card in &self.cards {
            text += &format!(", {card}");
        }
        if let Some(candle) = &self.built_with.candle {
            text += &format!(", candle-vision {} on candle {candle}", self.candle_vision);
        }
        if let Some(PyTorch { torch, cpu_capability, cuda, cudnn, .. }) = &self.pytorch {
            text += &format!(", PyTorch {torch} ({cpu_capability})");
            if let Some((cuda, cudnn)) =
                cuda.as_ref().zip(*cudnn).filter(|_| !self.cards.is_empty())
            {
                text += &format!(" for CUDA {cuda} with cuDNN {cudnn}");
            }
        }
        text
    }
}

impl PyTorch {
    fn of(python: &Path, script: &Path) -> Result<Self> {
        let mut command = Command::new(python);
        command.arg(script).arg("--versions").stderr(Stdio::inherit());
        let python = python.display();
        let output = command.output().with_context(|| format!("cannot start `{python}`"))?;
        if !output.status.success() {
            bail!("`{python}` does not run PyTorch; install torch and torchvision for it");
        }
        serde_json::from_slice(&output.stdout)
            .with_context(|| format!("`{python}` says something unexpected about its versions"))
    }
}

fn cpu_model(cpuinfo: &str) -> Option<&str> {
    let line = cpuinfo.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim())
}

fn rustc_version() -> Option<String> {
    let output = Command::new("rustc").arg("--version").current_dir(root()).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    (!text.is_empty()).then(|| text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_core_names_the_cpu() {
        let cpuinfo = "processor\t: 0\nmodel name\t: A CPU @ 2 GHz\n\nprocessor\t: 1\n";
        assert_eq!(cpu_model(cpuinfo), Some("A CPU @ 2 GHz"));
        assert_eq!(cpu_model("processor: 0\n"), None);
    }

    #[test]
    fn a_python_that_is_none_is_named() {
        let error = Environment::of_this_machine(
            Some(Path::new("no/such/python")),
            Path::new("jobs.py"),
            BuiltWith::default(),
        );
        let error = error.unwrap_err();
        assert!(error.to_string().contains("`no/such/python`"), "{error}");
    }
}
