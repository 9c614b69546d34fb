//! Stub libraries: shared libraries with only the names that the linker needs, in place of missing real
//! ones.
//!
//! A stub has the name of the real library, so a program linked with it asks for the real library when it
//! starts. The driver's library is always a stub, because it comes only with a driver and is in no wheel.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// A library of the toolkit: its names for the linker and the loader, and the source of its function names.
struct Library {
    /// The name in `-lNAME`.
    name: &'static str,
    soname: &'static str,
    /// The module of cudarc that declares its functions.
    module: &'static str,
    /// Prefix of the function names.
    prefix: &'static str,
}

const DRIVER: (&str, &str) = ("cuda", "libcuda.so.1");

const LIBRARIES: [Library; 4] = [
    Library { name: "cublas", soname: "libcublas.so.13", module: "cublas", prefix: "cublas" },
    Library { name: "cublasLt", soname: "libcublasLt.so.13", module: "cublaslt", prefix: "cublas" },
    Library { name: "curand", soname: "libcurand.so.10", module: "curand", prefix: "curand" },
    Library { name: "nvrtc", soname: "libnvrtc.so.13", module: "nvrtc", prefix: "nvrtc" },
];

/// Checks for a C compiler before anything is removed or fetched.
pub(super) fn check_compiler() -> Result<()> {
    let cc = Command::new(compiler()).arg("--version").output();
    cc.with_context(|| format!("cannot start `{}`; install a C compiler", compiler()))?;
    Ok(())
}

/// Makes the stub of the driver's library, from the names in its header.
pub(super) fn driver(home: &Path) -> Result<()> {
    let header = home.join("include/cuda.h");
    let (name, soname) = DRIVER;
    make(home, name, soname, &driver_functions(&read(&header)?))
}

/// Makes stubs of the other libraries, from the declarations in cudarc's sources.
pub(super) fn libraries(home: &Path, cudarc: &Path) -> Result<()> {
    for Library { name, soname, module, prefix } in LIBRARIES {
        let path = cudarc.join(module).join("sys/mod.rs");
        let source = read(&path)?;
        let functions = declared_functions(&source, prefix);
        ensure!(!functions.is_empty(), "`{}` declares no `{prefix}...`", path.display());
        make(home, name, soname, &functions)?;
    }
    Ok(())
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read `{}`", path.display()))
}

/// Every word with the form of a driver function's name. Some are no functions, which does no harm.
fn driver_functions(header: &str) -> BTreeSet<&str> {
    let is_function = |word: &&str| {
        word.strip_prefix("cu")
            .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_uppercase()))
    };
    header.split(|c: char| !is_word(c)).filter(is_function).collect()
}

/// The functions with this prefix that Rust source declares.
fn declared_functions<'a>(source: &'a str, prefix: &str) -> BTreeSet<&'a str> {
    let name = |rest: &'a str| &rest[..rest.find(|c| !is_word(c)).unwrap_or(rest.len())];
    source.split("fn ").skip(1).map(name).filter(|name| name.starts_with(prefix)).collect()
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// Compiles `lib/stubs/libNAME.so` under `home`.
fn make(home: &Path, name: &str, soname: &str, functions: &BTreeSet<&str>) -> Result<()> {
    let folder = home.join("lib/stubs");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make `{}`", folder.display()))?;
    let source = folder.join(format!("{name}.c"));
    let text: String = functions.iter().map(|name| format!("void {name}(void) {{}}\n")).collect();
    fs::write(&source, text).with_context(|| format!("cannot write `{}`", source.display()))?;
    let mut cc = Command::new(compiler());
    cc.args(["-w", "-fno-builtin", "-shared", "-fPIC", "-nostdlib"]);
    cc.arg(format!("-Wl,-soname,{soname}")).arg("-o").arg(folder.join(format!("lib{name}.so")));
    let status = cc.arg(&source).status();
    let status = status.with_context(|| format!("cannot start `{}`", compiler()))?;
    ensure!(status.success(), "`{}` cannot make a shared library, see above", compiler());
    Ok(())
}

fn compiler() -> String {
    std::env::var("CC").unwrap_or_else(|_| "cc".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_driver_s_functions_are_words_of_its_header() {
        let header = "CUresult CUDAAPI cuInit(unsigned int Flags);\n\
                      #define cuMemAlloc cuMemAlloc_v2\n\
                      typedef cuuint32_t CUdevice; /* cudaError, mycuInit */\n";
        let found: Vec<&str> = driver_functions(header).into_iter().collect();
        assert_eq!(found, ["cuInit", "cuMemAlloc", "cuMemAlloc_v2"]);
    }

    #[test]
    fn the_other_functions_are_those_that_rust_declares() {
        let source = "pub unsafe fn cublasCreate_v2(handle: *mut H) -> S {\n\
                      extern \"C\" {\n fn cublasCreate_v2(handle: *mut H) -> S;\n}\n\
                      fn culib() -> &'static L\nfn cublasAsumEx_64(n: i64);\nfn";
        let found: Vec<&str> = declared_functions(source, "cublas").into_iter().collect();
        assert_eq!(found, ["cublasAsumEx_64", "cublasCreate_v2"]);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_program_links_with_a_stub_and_asks_for_the_real_library() {
        let home = tempfile::tempdir().unwrap();
        let functions = BTreeSet::from(["cuInit", "cuMemAlloc_v2"]);
        make(home.path(), "cuda", "libcuda.so.1", &functions).unwrap();
        let (source, program) = (home.path().join("main.c"), home.path().join("main"));
        fs::write(&source, "void cuInit(void); int main(void) { cuInit(); return 0; }").unwrap();
        let mut cc = Command::new(compiler());
        cc.arg(&source).arg("-o").arg(&program).arg("-L").arg(home.path().join("lib/stubs"));
        assert!(cc.arg("-lcuda").status().unwrap().success());
        let program = fs::read(program).unwrap();
        assert!(program.windows(12).any(|window| window == b"libcuda.so.1"));
    }
}
