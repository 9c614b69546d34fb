//! Rules for single files.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::rust_code;
use super::words;

/// Folders of kernels. All other code is safe Rust.
const UNSAFE_FOLDERS: [&str; 2] = ["crates/kernels/src/", "crates/ops/src/cuda/"];
/// Larger files belong in the data folder, which git ignores.
const MAX_FILE_BYTES: u64 = 1_000_000;

/// The faults of one file of the project.
pub(super) fn check(root: &Path, path: &str) -> Result<Vec<String>> {
    let full = root.join(path);
    // Git also lists files whose deletion is not committed yet.
    let Ok(metadata) = fs::symlink_metadata(&full) else {
        return Ok(Vec::new());
    };
    let mut faults: Vec<String> = size_fault(path, metadata.len()).into_iter().collect();
    faults.extend(module_fault(path));
    if words::are_checked_in(path) && metadata.is_file() {
        let text = fs::read_to_string(&full).with_context(|| format!("cannot read `{path}`"))?;
        faults.extend(words::check(path, &text));
    }
    if path.ends_with(".rs") && metadata.is_file() {
        let source = fs::read_to_string(&full).with_context(|| format!("cannot read `{path}`"))?;
        faults.extend(unsafe_fault(path, &source));
        faults.extend(doc_fault(path, &source));
        faults.extend(command_fault(path, &source));
    }
    Ok(faults)
}

fn size_fault(path: &str, bytes: u64) -> Option<String> {
    (bytes > MAX_FILE_BYTES).then(|| {
        format!("`{path}` has {bytes} bytes, the limit for files in git is {MAX_FILE_BYTES}")
    })
}

/// Checks that there is one style of modules. A folder of tests may have a `mod.rs`, because cargo would
/// treat a file of any other name there as a separate test.
fn module_fault(path: &str) -> Option<String> {
    let folder = path.strip_suffix("/mod.rs")?;
    let is_test = folder.split('/').any(|part| part == "tests");
    (!is_test).then(|| format!("`{path}` belongs into `{folder}.rs`, as every module here"))
}

fn unsafe_fault(path: &str, source: &str) -> Option<String> {
    if UNSAFE_FOLDERS.iter().any(|folder| path.starts_with(folder)) {
        return None;
    }
    let (line, _) = rust_code::words(source).into_iter().find(|(_, word)| word == "unsafe")?;
    let folders = UNSAFE_FOLDERS.join(" and ");
    Some(format!("`{path}` line {line} has `unsafe`, which belongs to {folders} alone"))
}

fn doc_fault(path: &str, source: &str) -> Option<String> {
    let is_library = path.starts_with("crates/") && path.ends_with("/src/lib.rs");
    let has_docs =
        source.lines().any(|line| line.starts_with("//! ") || line.starts_with("#![doc"));
    (is_library && !has_docs).then(|| {
        format!("`{path}` does not say what the crate is for; begin it with `//!` documentation")
    })
}

/// Checks that messages of libraries name no command. Libraries are used from other programs, whose users
/// have neither our commands nor their options. The cli adds what to type.
fn command_fault(path: &str, source: &str) -> Option<String> {
    // The cli opens recipes. `--set` changes their settings, and their messages say so.
    let speaks_to_people = ["crates/cli/", "crates/recipe/"];
    let is_library =
        path.starts_with("crates/") && !speaks_to_people.iter().any(|own| path.starts_with(own));
    if !is_library || path.contains("/tests/") {
        return None;
    }
    let is_command = |text: &str| text.contains("cargo xtask") || text.contains("`--");
    let (line, _) = rust_code::literals(source).into_iter().find(|(_, text)| is_command(text))?;
    Some(format!(
        "`{path}` line {line} names a command or option of the cli in a text; say what is needed, and \
         let crates/cli say what to type"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_name_no_commands() {
        let source = "/// `cargo xtask`\nconst A: &str =\n    \"run `cargo xtask fetch-data`\";\n";
        let fault = command_fault("crates/data/src/a.rs", source).unwrap();
        assert!(fault.contains("crates/data/src/a.rs` line 3"), "{fault}");
        assert!(command_fault("crates/fetch/src/a.rs", "f(\"take `--from DIR`\")").is_some());
        assert_eq!(command_fault("crates/data/src/a.rs", "/// `cargo xtask`, `--data`"), None);
        for free in ["crates/cli/src/a.rs", "xtask/src/a.rs", "crates/data/tests/a.rs"] {
            assert_eq!(command_fault(free, source), None);
        }
    }

    #[test]
    fn unsafe_is_for_kernels() {
        let source = "fn main() {\n    unsafe { f() }\n}\n";
        for allowed in ["crates/kernels/src/gemm.rs", "crates/ops/src/cuda/conv.rs"] {
            assert_eq!(unsafe_fault(allowed, source), None);
        }
        let fault = unsafe_fault("crates/data/src/lib.rs", source).unwrap();
        assert!(fault.contains("crates/data/src/lib.rs` line 2"), "{fault}");
        assert!(unsafe_fault("crates/ops/src/linear.rs", source).is_some());
        let word_only = "#![forbid(unsafe_code)] // unsafe\nconst A: &str = \"unsafe\";";
        assert_eq!(unsafe_fault("crates/data/src/lib.rs", word_only), None);
    }

    #[test]
    fn libraries_have_documentation() {
        assert!(doc_fault("crates/data/src/lib.rs", "pub mod a;").is_some());
        assert_eq!(doc_fault("crates/data/src/lib.rs", "//! Data sets.\npub mod a;"), None);
        let included = "#![doc = include_str!(\"../README.md\")]";
        assert_eq!(doc_fault("crates/data/src/lib.rs", included), None);
        assert_eq!(doc_fault("crates/data/src/a.rs", ""), None);
    }

    #[test]
    fn modules_have_their_names() {
        let fault = module_fault("crates/data/src/transforms/mod.rs").unwrap();
        assert!(fault.contains("`crates/data/src/transforms.rs`"), "{fault}");
        for fine in ["crates/data/src/transforms.rs", "crates/data/src/mod.rs.txt"] {
            assert_eq!(module_fault(fine), None);
        }
        assert_eq!(module_fault("crates/data/tests/support/mod.rs"), None);
    }

    #[test]
    fn large_files_stay_out() {
        assert_eq!(size_fault("a.bin", 1_000_000), None);
        assert!(size_fault("a.bin", 1_000_001).unwrap().contains("a.bin"));
    }
}
