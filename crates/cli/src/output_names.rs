//! Names for output files that the user did not name. No file is overwritten.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

/// A name for each of `images`, without its extension. It is the file's stem, such as `1`. If several
/// images share a stem, folder names are put before it, such as `ants-1`, as many as are needed.
pub(crate) fn distinct(images: &[PathBuf]) -> Vec<String> {
    let mut names = vec![String::new(); images.len()];
    let mut unnamed: Vec<usize> = (0..images.len()).collect();
    let mut folders = 0;
    while !unnamed.is_empty() {
        let mut by_name: HashMap<String, Vec<usize>> = HashMap::new();
        for &index in &unnamed {
            let name = with_folders(&images[index], folders);
            let is_whole = name == names[index];
            names[index] = name.clone();
            // If all folders are already part of the name, it is the same image twice.
            if !is_whole || folders == 0 {
                by_name.entry(name).or_default().push(index);
            }
        }
        unnamed = by_name.into_values().filter(|same| same.len() > 1).flatten().collect();
        folders += 1;
    }
    names
}

/// The stem of a file, after the names of the last `folders` folders that it lies in.
fn with_folders(path: &Path, folders: usize) -> String {
    let mut names: Vec<String> = path
        .parent()
        .unwrap_or(Path::new(""))
        .components()
        .filter(|part| matches!(part, Component::Normal(_)))
        .map(|part| part.as_os_str().to_string_lossy().into_owned())
        .collect();
    let first = names.len().saturating_sub(folders);
    let mut parts = names.split_off(first);
    parts.push(path.file_stem().unwrap_or_default().to_string_lossy().into_owned());
    parts.join("-")
}

/// Returns `path`. If there is such a file already, returns `name-2.png`, `name-3.png` and so on.
pub(crate) fn unused(path: PathBuf, taken: &HashSet<PathBuf>) -> PathBuf {
    let is_free = |path: &Path| !taken.contains(path) && path.symlink_metadata().is_err();
    if is_free(&path) {
        return path;
    }
    let numbered = |number: u32| {
        let mut name = OsString::from(path.file_stem().unwrap_or_default());
        name.push(format!("-{number}"));
        if let Some(extension) = path.extension() {
            name.push(".");
            name.push(extension);
        }
        path.with_file_name(name)
    };
    (2..=u32::MAX).map(numbered).find(|path| is_free(path)).unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_of_one_name_are_told_apart_by_their_folders() {
        let names = |paths: &[&str]| distinct(&paths.iter().map(PathBuf::from).collect::<Vec<_>>());
        assert_eq!(names(&["a/1.png", "b/2.png"]), ["1", "2"]);
        assert_eq!(names(&["a/1.png", "b/1.png", "b/2.png"]), ["a-1", "b-1", "2"]);
        assert_eq!(names(&["x/a/1.png", "y/a/1.png", "../1.png"]), ["x-a-1", "y-a-1", "1"]);
        assert_eq!(names(&["a/1.png", "a/1.png", "a/1.jpg"]), ["a-1", "a-1", "a-1"]);
        assert_eq!(names(&["1.png", "1.png"]), ["1", "1"]);
        assert!(names(&[]).is_empty());
    }

    #[test]
    fn what_is_there_is_left_alone() -> std::io::Result<()> {
        let folder = tempfile::tempdir()?;
        let at = |name: &str| folder.path().join(name);
        let mut taken = HashSet::new();
        assert_eq!(unused(at("1.explain.png"), &taken), at("1.explain.png"));
        std::fs::write(at("1.explain.png"), "")?;
        assert_eq!(unused(at("1.explain.png"), &taken), at("1.explain-2.png"));
        taken.insert(at("1.explain-2.png"));
        assert_eq!(unused(at("1.explain.png"), &taken), at("1.explain-3.png"));
        Ok(())
    }
}
