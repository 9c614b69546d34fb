//! The parts of CUDA that this machine has.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::version::Version;
use crate::cuda_toolkit;

/// Everything found on a machine that matters for CUDA.
#[derive(Debug, Clone, Default)]
pub(super) struct Machine {
    /// The toolkits that can compile for CUDA, the preferred one first.
    pub(super) toolkits: Vec<Toolkit>,
    /// The folder with the driver's library.
    pub(super) driver: Option<PathBuf>,
    /// Whether there is a card that programs may use.
    pub(super) card: bool,
    /// The newest CUDA release that the driver supports, if known.
    pub(super) driver_cuda: Option<Version>,
    /// The lowest compute capability among the cards, if known.
    pub(super) capability: Option<Version>,
}

/// A folder with `bin/nvcc`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Toolkit {
    pub(super) home: PathBuf,
    /// Version of nvcc, if known.
    pub(super) version: Option<Version>,
}

/// Usual folders of toolkits that no variable names.
const USUAL_HOMES: [&str; 2] = ["/usr/local/cuda", "/opt/cuda"];

/// Folders of the driver's library that the loader may not know: Debian's and Fedora's folders, those that
/// container runtimes mount, and the one of WSL.
const DRIVER_FOLDERS: [&str; 7] = [
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/usr/lib64",
    "/usr/lib",
    "/usr/local/nvidia/lib64",
    "/usr/local/nvidia/lib",
    "/usr/lib/wsl/lib",
];

impl Machine {
    /// Examines this machine.
    pub(super) fn of_this() -> Self {
        let path = folders_of("PATH");
        let named = ["CUDA_HOME", "CUDA_PATH"].into_iter().filter_map(env::var_os);
        let home = named.into_iter().find(|home| !home.is_empty());
        let made = cuda_toolkit::home(&cuda_toolkit::default_root());
        let usual = USUAL_HOMES.map(PathBuf::from);
        let homes = home.map(PathBuf::from).into_iter().chain(homes_on(&path)).chain(made);
        let listed = ask("ldconfig", &["-p"]).or_else(|| ask("/sbin/ldconfig", &["-p"]));
        let smi = ask("nvidia-smi", &[]);
        let capabilities = ask("nvidia-smi", &["--query-gpu=compute_cap", "--format=csv,noheader"]);
        let visible = env::var("CUDA_VISIBLE_DEVICES").ok();
        Self {
            toolkits: with_nvcc(homes.chain(usual)),
            driver: driver_folder(listed.as_deref().unwrap_or_default()),
            card: is_visible(visible.as_deref())
                && (has_card_file(Path::new("/dev")) || capabilities.is_some()),
            driver_cuda: smi.and_then(|text| Version::after("CUDA Version:", &text)),
            capability: capabilities.and_then(|text| least_capability(&text)),
        }
    }
}

/// The folders in a variable such as PATH.
pub(super) fn folders_of(variable: &str) -> Vec<PathBuf> {
    env::var_os(variable).map(|value| env::split_paths(&value).collect()).unwrap_or_default()
}

/// The home folders of the compilers on PATH. PATH often has only a link to one.
fn homes_on(path: &[PathBuf]) -> Vec<PathBuf> {
    let nvccs = path.iter().filter_map(|folder| folder.join("nvcc").canonicalize().ok());
    nvccs.filter_map(|nvcc| Some(nvcc.parent()?.parent()?.to_path_buf())).collect()
}

/// The homes that have a compiler, each once.
fn with_nvcc(homes: impl Iterator<Item = PathBuf>) -> Vec<Toolkit> {
    let mut toolkits: Vec<Toolkit> = Vec::new();
    for home in homes {
        let nvcc = home.join("bin/nvcc");
        if nvcc.is_file() && toolkits.iter().all(|toolkit| toolkit.home != home) {
            let text = ask(&nvcc, &["--version"]);
            let version = text.and_then(|text| Version::after("release", &text));
            toolkits.push(Toolkit { home, version });
        }
    }
    toolkits
}

/// The folder of the driver's library: one on the loader's path, one that `ldconfig -p` lists, or a usual
/// one.
fn driver_folder(ldconfig: &str) -> Option<PathBuf> {
    let told = folders_of("LD_LIBRARY_PATH");
    let usual = DRIVER_FOLDERS.map(PathBuf::from);
    let folders = told.into_iter().chain(listed_folder("libcuda.so.1", ldconfig)).chain(usual);
    folders.into_iter().find(|folder| folder.join("libcuda.so.1").exists())
}

/// The folder of a library in the output of `ldconfig -p`.
pub(super) fn listed_folder(library: &str, ldconfig: &str) -> Option<PathBuf> {
    let line =
        ldconfig.lines().find(|line| line.trim_start().split(' ').next() == Some(library))?;
    let (_, path) = line.split_once(" => ")?;
    Path::new(path.trim()).parent().map(Path::to_path_buf)
}

/// Whether the user lets programs see any card. `""` and `-1` hide all cards.
fn is_visible(cuda_visible_devices: Option<&str>) -> bool {
    cuda_visible_devices.is_none_or(|devices| !devices.is_empty() && !devices.starts_with('-'))
}

/// Whether there is a device file of a card. A container may have been given any of the cards. WSL has one
/// file for all cards.
fn has_card_file(dev: &Path) -> bool {
    let is_card = |name: &str| {
        let number = name.strip_prefix("nvidia");
        name == "dxg" || number.is_some_and(|number| number.parse::<u32>().is_ok())
    };
    let entries = fs::read_dir(dev).into_iter().flatten().flatten();
    entries.into_iter().any(|entry| entry.file_name().to_str().is_some_and(is_card))
}

fn least_capability(text: &str) -> Option<Version> {
    text.lines().filter_map(Version::parse).min()
}

/// The output of a program. `None` if it does not exist or fails.
pub(super) fn ask(program: impl AsRef<std::ffi::OsStr>, arguments: &[&str]) -> Option<String> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).env("LC_ALL", "C");
    let output = command.output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loader_s_list_is_read() {
        let list = "3 libs found in cache `/etc/ld.so.cache'\n\
                    \tlibcuda.so.1 (libc6,x86-64) => /usr/lib/wsl/lib/libcuda.so.1\n\
                    \tlibcuda.so (libc6,x86-64) => /lib/libcuda.so\n";
        assert_eq!(listed_folder("libcuda.so.1", list), Some("/usr/lib/wsl/lib".into()));
        assert_eq!(listed_folder("libcuda.so", list), Some("/lib".into()));
        assert_eq!(listed_folder("libcuda", list), None);
    }

    #[test]
    fn hidden_cards_are_none() {
        for (devices, visible) in [(None, true), (Some("1"), true), (Some(""), false)] {
            assert_eq!(is_visible(devices), visible, "{devices:?}");
        }
        assert!(!is_visible(Some("-1")) && is_visible(Some("GPU-8932f937")));
    }

    #[test]
    fn any_card_s_device_file_will_do() {
        let dev = tempfile::tempdir().unwrap();
        let has = |name: &str| {
            fs::write(dev.path().join(name), "").unwrap();
            has_card_file(dev.path())
        };
        assert!(!has("nvidiactl") && !has("nvidia-uvm") && !has("null"));
        assert!(has("nvidia3"));
        fs::remove_file(dev.path().join("nvidia3")).unwrap();
        assert!(has("dxg"));
        assert!(!has_card_file(&dev.path().join("nothing")));
    }

    #[test]
    fn the_oldest_card_counts() {
        assert_eq!(least_capability("9.0\n7.5\n8.6\n"), Version::parse("7.5"));
        assert_eq!(least_capability("[N/A]\n"), None);
    }

    #[cfg(unix)]
    #[test]
    fn toolkits_are_found_by_their_compilers() {
        use std::os::unix::fs::PermissionsExt;

        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().canonicalize().unwrap();
        let (home, links) = (folder.join("cuda-13"), folder.join("usr/bin"));
        fs::create_dir_all(home.join("bin")).unwrap();
        fs::create_dir_all(&links).unwrap();
        let nvcc = home.join("bin/nvcc");
        fs::write(&nvcc, "#!/bin/sh\necho 'tools, release 12.8, V12.8.93'\n").unwrap();
        fs::set_permissions(&nvcc, fs::Permissions::from_mode(0o755)).unwrap();
        std::os::unix::fs::symlink(&nvcc, links.join("nvcc")).unwrap();

        let homes = homes_on(&[folder.join("nowhere"), links]);
        assert_eq!(homes, [home.as_path()]);
        let all = homes.into_iter().chain([folder.join("empty"), home.clone()]);
        let version = Version::parse("12.8");
        assert_eq!(with_nvcc(all), [Toolkit { home, version }]);
    }
}
