//! Changes the layout of unpacked wheels to the one that compilers and build scripts expect.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Adds the files of an installed toolkit that the wheels lack, under the prefix `home`.
pub(super) fn complete(home: &Path) -> Result<()> {
    for folder in ["bin", "nvvm/bin"] {
        make_executable(&home.join(folder))?;
    }
    link("lib", &home.join("lib64"))?;
    bring_in_cudnn(home)?;
    name_for_the_linker(&home.join("lib"))
}

/// Sets the executable bit, because pip does not promise to keep it.
#[cfg(unix)]
fn make_executable(folder: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;

    for program in files(folder)? {
        let change = || {
            let mut permissions = fs::metadata(&program)?.permissions();
            permissions.set_mode(permissions.mode() | 0o111);
            fs::set_permissions(&program, permissions)
        };
        change().with_context(|| format!("cannot make `{}` executable", program.display()))?;
    }
    Ok(())
}

#[cfg(not(unix))]
fn make_executable(_: &Path) -> Result<()> {
    Ok(())
}

/// Moves cuDNN's files to the others, because cuDNN's wheel has its own prefix.
fn bring_in_cudnn(home: &Path) -> Result<()> {
    let cudnn = home.with_file_name("cudnn");
    for folder in ["lib", "include"] {
        let from = cudnn.join(folder);
        if !from.is_dir() {
            continue;
        }
        for file in files(&from)? {
            let name = name_of(&file);
            let target = format!("../../cudnn/{folder}/{name}");
            link(&target, &home.join(folder).join(name))?;
        }
    }
    Ok(())
}

/// The linker needs `libcublas.so`, but the wheels have only `libcublas.so.13`.
fn name_for_the_linker(libraries: &Path) -> Result<()> {
    for library in files(libraries)? {
        let name = name_of(&library);
        if let Some(plain) = linker_name(&name) {
            link(&name, &libraries.join(plain))?;
        }
    }
    Ok(())
}

/// `libcublas.so` for `libcublas.so.13`. `None` if the file is not a versioned library or only a variant of
/// one.
fn linker_name(file: &str) -> Option<String> {
    let (stem, version) = file.split_once(".so.")?;
    let is_library = stem.starts_with("lib") && version.starts_with(|c: char| c.is_ascii_digit());
    (is_library && !stem.ends_with(".alt")).then(|| format!("{stem}.so"))
}

/// The files and links in a folder, by name.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let list = || -> std::io::Result<Vec<PathBuf>> {
        let paths: std::io::Result<Vec<_>> =
            fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect();
        Ok(paths?.into_iter().filter(|path| !path.is_dir()).collect())
    };
    let mut files = list().with_context(|| {
        format!("cannot list `{}`; the wheels have another shape than expected", folder.display())
    })?;
    files.sort();
    Ok(files)
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Makes `at` a link to `target`. An existing file stays.
#[cfg(unix)]
fn link(target: &str, at: &Path) -> Result<()> {
    match std::os::unix::fs::symlink(target, at) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            Err(error).with_context(|| format!("cannot make the link `{}`", at.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(not(unix))]
fn link(_: &str, at: &Path) -> Result<()> {
    Err(std::io::Error::from(ErrorKind::Unsupported))
        .with_context(|| format!("cannot make the link `{}`", at.display()))
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn libraries_get_the_names_that_linkers_use() {
        assert_eq!(linker_name("libcublas.so.13").as_deref(), Some("libcublas.so"));
        assert_eq!(
            linker_name("libnvrtc-builtins.so.13.0").as_deref(),
            Some("libnvrtc-builtins.so")
        );
        for other in ["libcuda.so", "libcudart_static.a", "libnvrtc.alt.so.13", "notes.so.txt"] {
            assert_eq!(linker_name(other), None, "{other}");
        }
    }

    #[test]
    fn a_tree_of_wheels_becomes_a_toolkit() {
        let site = tempfile::tempdir().unwrap();
        let home = site.path().join("cu13");
        let files = [
            "cu13/bin/nvcc",
            "cu13/nvvm/bin/cicc",
            "cu13/include/cuda.h",
            "cu13/lib/libcudart.so.13",
            "cudnn/lib/libcudnn.so.9",
            "cudnn/include/cudnn.h",
        ];
        for file in files {
            let path = site.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, file).unwrap();
        }
        complete(&home).unwrap();
        complete(&home).expect("it can be done twice");
        let found = |path: &str| fs::read_to_string(home.join(path)).unwrap();
        assert_eq!(found("lib64/libcudart.so"), "cu13/lib/libcudart.so.13");
        assert_eq!(found("lib/libcudnn.so"), "cudnn/lib/libcudnn.so.9");
        assert_eq!(found("include/cudnn.h"), "cudnn/include/cudnn.h");
        let mode = fs::metadata(home.join("nvvm/bin/cicc")).unwrap().permissions().mode();
        assert_eq!(mode & 0o111, 0o111);
    }

    #[test]
    fn other_wheels_are_an_error_that_names_the_folder() {
        let empty = tempfile::tempdir().unwrap();
        let error = complete(empty.path()).unwrap_err().to_string();
        assert!(error.contains("/bin`"), "{error}");
    }
}
