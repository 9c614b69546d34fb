//! The stand-ins for nvcc in `xtask/cuda`.

use std::path::PathBuf;

use crate::cargo::root;

/// An nvcc that leaves out candle's kernels for language models.
pub(crate) fn nvcc_wrapper() -> PathBuf {
    root().join("xtask/cuda/nvcc-without-gguf")
}

/// The folder with an `nvcc` that compiles nothing, for checks.
pub(crate) fn check_only() -> PathBuf {
    root().join("xtask/cuda/check-only")
}

#[cfg(all(test, unix))]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;
    use std::process::Command;

    use super::*;

    fn succeeds(command: &mut Command) -> String {
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn contents(path: &Path) -> Vec<u8> {
        fs::read(path).unwrap()
    }

    #[test]
    fn the_check_only_compiler_makes_empty_outputs() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let nvcc = || Command::new(check_only().join("nvcc"));
        // As cudarc reads it.
        let version = succeeds(nvcc().arg("--version"));
        assert!(version.lines().nth(3).unwrap().contains(", release 13.0, "), "{version}");
        succeeds(
            nvcc().args(["--ptx", "--output-directory"]).args([folder.path()]).arg("a/fill.cu"),
        );
        assert_eq!(contents(&at("fill.ptx")), b"");
        succeeds(nvcc().args(["--ptx", "a.cu", "-o"]).arg(at("other.ptx")));
        assert_eq!(contents(&at("other.ptx")), b"");
        succeeds(nvcc().args(["--fatbin", "-o"]).arg(at("some.fatbin")).arg("a.cu"));
        assert_eq!(contents(&at("some.fatbin")), b"");
        succeeds(nvcc().args(["-c", "a.cu", "-o"]).arg(at("a.o")));
        succeeds(nvcc().args(["--lib", "-o"]).arg(at("lib.a")).arg(at("a.o")));
        assert!(contents(&at("lib.a")).starts_with(b"!<arch>"));
        assert!(!nvcc().arg("--run").output().unwrap().status.success());
    }

    /// An nvcc that writes its arguments to its output.
    fn real_nvcc(folder: &Path) -> PathBuf {
        let path = folder.join("real-nvcc");
        fs::write(&path, "#!/bin/sh\nfor last; do :; done\necho \"$@\" > \"$last\"\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    #[test]
    fn kernels_of_language_models_are_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let nvcc = || {
            let mut nvcc = Command::new(nvcc_wrapper());
            nvcc.current_dir(folder.path()).env("REAL_NVCC", real_nvcc(folder.path()));
            nvcc
        };
        let contents = |name: &str| contents(&folder.path().join(name));
        fs::create_dir(folder.path().join("src")).unwrap();
        let declarations = "extern \"C\" {\n    pub fn launch_mmq(\n        x: i32);\n}\n";
        fs::write(folder.path().join("src/ffi.rs"), declarations).unwrap();

        succeeds(nvcc().args(["-c", "src/conv.cu", "-o", "conv.o"]));
        assert_eq!(contents("conv.o"), b"-c src/conv.cu -o conv.o\n");
        succeeds(nvcc().args(["--ptx", "src/moe/moe_gguf.cu", "-o", "moe.ptx"]));
        assert_eq!(contents("moe.ptx"), b"--ptx src/moe/moe_gguf.cu -o moe.ptx\n");

        let has_launcher = |name: &str| {
            contents(name).windows(b"launch_mmq".len()).any(|window| window == b"launch_mmq")
        };
        succeeds(nvcc().args(["-c", "-o", "moe.o", "src/moe/moe_gguf.cu"]));
        assert!(!has_launcher("moe.o"));
        succeeds(nvcc().args(["-c", "-o", "mmvq.o", "/k/src/mmvq_gguf.cu"]));
        assert!(has_launcher("mmvq.o"));
    }
}
