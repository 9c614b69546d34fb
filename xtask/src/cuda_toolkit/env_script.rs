//! `env.sh`: the variables that let builds find the toolkit.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::cuda::nvcc_wrapper;

pub(super) const NAME: &str = "env.sh";

/// Writes the script into `root`.
pub(super) fn write(root: &Path, home: &Path, full: bool) -> Result<()> {
    let path = root.join(NAME);
    fs::write(&path, text(home, &nvcc_wrapper(), full))
        .with_context(|| format!("cannot write `{}`", path.display()))
}

fn text(home: &Path, nvcc: &Path, full: bool) -> String {
    let of = |folder: &str| quoted(&home.join(folder));
    let (home, nvcc) = (quoted(home), quoted(nvcc));
    let (bin, lib, stubs) = (of("bin"), of("lib"), of("lib/stubs"));
    let mut text = format!(
        "# Made by `cargo xtask cuda-toolkit`; to be sourced.\n\
         export CUDA_HOME={home} CUDA_PATH={home}\n\
         export PATH={bin}:\"$PATH\"\n\
         export LIBRARY_PATH={lib}:{stubs}\"${{LIBRARY_PATH:+:$LIBRARY_PATH}}\"\n\
         # Leaves out kernels of candle that no image network calls.\n\
         export NVCC={nvcc}\n\
         # PTX that every card from Ampere (2020) on takes.\n\
         export CUDA_COMPUTE_CAP=\"${{CUDA_COMPUTE_CAP:-80}}\"\n"
    );
    if full {
        // The stubs are never on this path: a program that finds them starts, and fails at its first call.
        text +=
            &format!("export LD_LIBRARY_PATH={lib}\"${{LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}}\"\n");
    }
    text
}

/// A path as one word of a shell.
pub(super) fn quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// What a shell that sourced the script says that `variable` is.
    #[track_caller]
    fn sourced(home: &str, full: bool, variable: &str) -> String {
        let script = text(Path::new(home), Path::new("/x/nvcc"), full);
        let output = Command::new("sh")
            .args(["-euc", &format!("{script}\nprintf %s \"${{{variable}-}}\"")])
            .env_clear()
            .env("PATH", "/usr/bin")
            .env("LIBRARY_PATH", "/before")
            .output()
            .unwrap();
        assert!(output.status.success(), "{script}");
        String::from_utf8(output.stdout).unwrap()
    }

    #[test]
    fn a_shell_takes_any_path() {
        for home in ["/a/cu13", "/it's a/\"home\"/$PATH"] {
            assert_eq!(sourced(home, false, "CUDA_HOME"), home);
            assert_eq!(sourced(home, false, "PATH"), format!("{home}/bin:/usr/bin"));
            let libraries = format!("{home}/lib:{home}/lib/stubs:/before");
            assert_eq!(sourced(home, false, "LIBRARY_PATH"), libraries);
        }
        assert_eq!(sourced("/a", false, "CUDA_COMPUTE_CAP"), "80");
        assert_eq!(sourced("/a", false, "NVCC"), "/x/nvcc");
    }

    #[test]
    fn programs_find_real_libraries_alone() {
        assert_eq!(sourced("/a", false, "LD_LIBRARY_PATH"), "");
        assert_eq!(sourced("/a", true, "LD_LIBRARY_PATH"), "/a/lib");
    }
}
