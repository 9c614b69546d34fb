//! The shared libraries that a CUDA program needs before its `main`. Without them it does not start.

use std::env;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::machine::{Machine, Toolkit, ask, folders_of, listed_folder};
use crate::cuda_toolkit;

const DRIVER: &str = "libcuda.so.1";
/// The program itself opens cuDNN, and also works without it.
const CUDNN: &str = "libcudnn.so.9";
const LOADER_PATH: &str = "LD_LIBRARY_PATH";

/// How a program finds its libraries.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// The value that LD_LIBRARY_PATH must have. `None` if it need not change.
    pub(super) loader_path: Option<OsString>,
    /// Whether no cuDNN can be opened.
    pub(super) lacks_cudnn: bool,
}

/// Makes sure that `program` finds its libraries. They may be where the loader looks, in a toolkit, beside
/// the driver, or among the wheels of a Python with PyTorch.
///
/// The error is one line that names the missing libraries and a remedy.
pub(super) fn find(
    program: &Path,
    machine: &Machine,
    toolkit: &Toolkit,
    python: &Path,
) -> Result<Found, String> {
    let told = folders_of(LOADER_PATH);
    let mut wanted = missing(program, None);
    let has_cudnn = |folders: &[PathBuf]| folders.iter().any(|folder| folder.join(CUDNN).exists());
    let listed = ask("ldconfig", &["-p"]).unwrap_or_default();
    let mut lacks_cudnn = !has_cudnn(&told) && listed_folder(CUDNN, &listed).is_none();
    if lacks_cudnn {
        wanted.push(CUDNN.to_owned());
    }
    if wanted.is_empty() {
        return Ok(Found::default());
    }
    let mut folders = candidates(machine, toolkit);
    folders.extend(wheel_folders(python));
    let added = holding(&wanted, &folders, |path| path.exists());
    lacks_cudnn = lacks_cudnn && !has_cudnn(&added);
    let loader_path = joined(&added, &told);
    match missing(program, loader_path.as_deref()).as_slice() {
        [] => Ok(Found { loader_path, lacks_cudnn }),
        missing => Err(complaint(missing)),
    }
}

/// Folders unknown to the loader that may hold libraries, the preferred one first. Folders with stubs are
/// never included: a program that gets stubs starts, and fails at its first call.
fn candidates(machine: &Machine, toolkit: &Toolkit) -> Vec<PathBuf> {
    let made = cuda_toolkit::home(&cuda_toolkit::default_root());
    let homes = std::iter::once(toolkit.home.clone()).chain(made);
    let of_home = |home: PathBuf| ["lib64", "lib"].map(|folder| home.join(folder));
    machine.driver.iter().cloned().chain(homes.flat_map(of_home)).collect()
}

/// The `lib` folders of NVIDIA's wheels, if `python` has any.
fn wheel_folders(python: &Path) -> Vec<PathBuf> {
    const PLACES: &str = "import nvidia; print(*nvidia.__path__, sep='\\n')";
    let places = ask(python, &["-c", PLACES]).unwrap_or_default();
    let packages = places.lines().filter_map(|place| std::fs::read_dir(place).ok());
    let mut folders: Vec<PathBuf> =
        packages.flatten().flatten().map(|package| package.path().join("lib")).collect();
    folders.retain(|folder| folder.is_dir());
    folders.sort();
    folders
}

/// For each library the first folder that holds it. No folder is listed twice.
fn holding(wanted: &[String], folders: &[PathBuf], exists: impl Fn(&Path) -> bool) -> Vec<PathBuf> {
    let mut holding: Vec<PathBuf> = Vec::new();
    for library in wanted {
        let found = folders.iter().find(|folder| exists(&folder.join(library)));
        if let Some(folder) = found.filter(|folder| !holding.contains(folder)) {
            holding.push(folder.clone());
        }
    }
    holding
}

/// The loader path: the added folders before those that the loader already knows. `None` if none are added.
fn joined(added: &[PathBuf], told: &[PathBuf]) -> Option<OsString> {
    let all = added.iter().chain(told);
    // A folder name with a colon cannot be given to the loader.
    (!added.is_empty()).then(|| env::join_paths(all).ok()).flatten()
}

/// The libraries that the loader does not find for `program`. It is empty if there is no `ldd` to ask. The
/// loader itself will then name the first one.
fn missing(program: &Path, loader_path: Option<&OsStr>) -> Vec<String> {
    let mut ldd = Command::new("ldd");
    ldd.arg(program).env("LC_ALL", "C");
    if let Some(path) = loader_path {
        ldd.env(LOADER_PATH, path);
    }
    let text = ldd.output().map(|output| output.stdout).unwrap_or_default();
    not_found(&String::from_utf8_lossy(&text))
}

/// The libraries that `ldd` reports as not found.
fn not_found(ldd: &str) -> Vec<String> {
    let names = ldd.lines().filter_map(|line| line.trim().strip_suffix(" => not found"));
    names.map(str::to_owned).collect()
}

fn complaint(missing: &[String]) -> String {
    let mut remedies = Vec::new();
    if missing.iter().any(|library| library == DRIVER) {
        remedies.push(
            "libcuda.so.1 comes with NVIDIA's driver (for a container: `--gpus all`)".to_owned(),
        );
    }
    if missing.iter().any(|library| library != DRIVER) {
        remedies.push(
            "`cargo xtask cuda-toolkit --full` brings CUDA's libraries, as does a Python with PyTorch \
             for CUDA"
                .to_owned(),
        );
    }
    format!("the CUDA program cannot start without {}: {}", missing.join(", "), remedies.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owned(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn ldd_names_what_is_missing() {
        let text = "\tlinux-vdso.so.1 (0x00007ffd)\n\
                    \tlibcuda.so.1 => not found\n\
                    \tlibc.so.6 => /lib/libc.so.6 (0x00007f)\n\
                    \tlibcublas.so.13 => not found\n";
        assert_eq!(not_found(text), ["libcuda.so.1", "libcublas.so.13"]);
        assert_eq!(not_found("\tnot a dynamic executable\n"), [""; 0]);
    }

    #[test]
    fn each_library_comes_from_the_first_folder_that_holds_it() {
        let there =
            ["/driver/libcuda.so.1", "/b/libcublas.so.13", "/c/libcublas.so.13", "/b/libx.so"];
        let folders = ["/driver", "/a", "/b", "/c"].map(PathBuf::from);
        let exists = |path: &Path| there.iter().any(|file| Path::new(file) == path);
        let found = |wanted: &[&str]| holding(&owned(wanted), &folders, exists);
        assert_eq!(found(&["libcublas.so.13", "libx.so", "libgone.so"]), [Path::new("/b")]);
        let both = found(&["libcuda.so.1", "libcublas.so.13"]);
        assert_eq!(both, [Path::new("/driver"), Path::new("/b")]);
        assert_eq!(joined(&both, &["/t".into()]), Some("/driver:/b:/t".into()));
        assert_eq!(joined(&[], &["/t".into()]), None);
    }

    #[test]
    fn what_is_missing_comes_with_its_remedy() {
        let driver = complaint(&owned(&["libcuda.so.1"]));
        assert!(driver.contains("driver") && !driver.contains("cuda-toolkit"), "{driver}");
        let both = complaint(&owned(&["libcuda.so.1", "libcublas.so.13"]));
        assert!(both.contains("libcuda.so.1, libcublas.so.13"), "{both}");
        assert!(both.contains("driver") && both.contains("cuda-toolkit --full"), "{both}");
    }

    #[test]
    fn stubs_are_no_libraries() {
        let toolkit = Toolkit { home: "/cuda".into(), version: None };
        let machine = Machine { driver: Some("/wsl".into()), ..Machine::default() };
        let folders = candidates(&machine, &toolkit);
        assert_eq!(folders[..3], ["/wsl", "/cuda/lib64", "/cuda/lib"].map(PathBuf::from));
        assert!(folders.iter().all(|folder| !folder.ends_with("stubs")));
    }

    /// A program that needs a library `libneeded.so.1`, which lies in the folder.
    #[cfg(target_os = "linux")]
    fn program_and_library(folder: &Path) -> PathBuf {
        let at = |name: &str| folder.join(name);
        std::fs::write(at("library.c"), "void f(void) {}").unwrap();
        std::fs::write(at("main.c"), "void f(void); int main(void) { f(); return 0; }").unwrap();
        let succeeds = |arguments: &[&str]| {
            let status = Command::new("cc").args(arguments).current_dir(folder).status().unwrap();
            assert!(status.success(), "{arguments:?}");
        };
        let soname = "-Wl,-soname,libneeded.so.1";
        succeeds(&["-shared", "-fPIC", soname, "library.c", "-o", "libneeded.so.1"]);
        succeeds(&["main.c", "./libneeded.so.1", "-o", "program"]);
        at("program")
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_loader_is_asked_what_it_does_not_find() {
        let folder = tempfile::tempdir().unwrap();
        let program = program_and_library(folder.path());
        assert_eq!(missing(&program, None), ["libneeded.so.1"]);
        assert_eq!(missing(&program, Some(folder.path().as_os_str())), [""; 0]);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_library_beside_the_compiler_s_is_offered_to_the_loader() {
        let folder = tempfile::tempdir().unwrap();
        let program = program_and_library(folder.path());
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir(home.path().join("lib")).unwrap();
        let toolkit = Toolkit { home: home.path().to_path_buf(), version: None };
        let found = || find(&program, &Machine::default(), &toolkit, Path::new("no/such/python"));
        let complaint = found().unwrap_err();
        assert!(complaint.contains("cannot start without libneeded.so.1: "), "{complaint}");
        let library = home.path().join("lib/libneeded.so.1");
        std::fs::rename(folder.path().join("libneeded.so.1"), library).unwrap();
        let path = found().unwrap().loader_path.unwrap();
        assert_eq!(env::split_paths(&path).next(), Some(home.path().join("lib")));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_program_that_lacks_nothing_is_left_alone() {
        assert_eq!(missing(&env::current_exe().unwrap(), None), [""; 0]);
    }
}
