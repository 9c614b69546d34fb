//! The paths that a glob matches.

use std::ffi::OsStr;
use std::fs;
use std::path::{Component, Path, PathBuf};

use glob::{MatchOptions, Pattern};

use crate::error::{Error, Result};

/// Whether a path has the signs of a glob.
pub fn has_glob(path: &Path) -> bool {
    is_glob(path.as_os_str())
}

fn is_glob(name: &OsStr) -> bool {
    name.to_string_lossy().contains(['*', '?', '['])
}

/// The files and folders that a glob matches, sorted. As in a shell, `*`, `?` and `[a-z]` do not cross folders or match
/// hidden files. `**` stands for folders at any depth, and at the end of a glob for all that lies below.
///
/// Names need not be UTF-8. The folders are walked here, because the walk of the crate `glob` panics at such names.
///
/// # Errors
/// If the pattern is no glob, or a folder cannot be read.
pub fn paths_matching(pattern: &Path) -> Result<Vec<PathBuf>> {
    let mut walk = Walk { steps: Vec::new(), found: Vec::new() };
    for component in pattern.components() {
        walk.steps.push(Step::of(component).map_err(|error| Error::InvalidSetting {
            setting: "path",
            reason: format!("is `{}`, which is no glob ({error})", pattern.display()),
        })?);
    }
    walk.go(PathBuf::new(), 0, &mut Vec::new())?;
    // `**/**` comes to each path in several ways.
    walk.found.sort();
    walk.found.dedup();
    Ok(walk.found)
}

/// What a part of a pattern stands for.
enum Step<'a> {
    /// This name, whether or not it is hidden.
    Name(&'a OsStr),
    /// The names that match.
    Names(Pattern),
    /// Folders at any depth.
    AnyDepth,
}

impl<'a> Step<'a> {
    fn of(component: Component<'a>) -> Result<Self, glob::PatternError> {
        match component {
            Component::Normal(name) if name == "**" => Ok(Self::AnyDepth),
            Component::Normal(name) if is_glob(name) => {
                Pattern::new(&name.to_string_lossy()).map(Self::Names)
            }
            component => Ok(Self::Name(component.as_os_str())),
        }
    }
}

/// Options with which `*` does not match hidden names.
const OPTIONS: MatchOptions = MatchOptions {
    case_sensitive: true,
    require_literal_separator: true,
    require_literal_leading_dot: true,
};

struct Walk<'a> {
    steps: Vec<Step<'a>>,
    found: Vec<PathBuf>,
}

impl Walk<'_> {
    /// Adds what the steps from `step` on match at `place`. `above` are the folders that `**` has come through.
    fn go(&mut self, place: PathBuf, step: usize, above: &mut Vec<PathBuf>) -> Result<()> {
        let Some(now) = self.steps.get(step) else {
            if fs::symlink_metadata(&place).is_ok() {
                self.found.push(place);
            }
            return Ok(());
        };
        match now {
            Step::Name(name) => {
                let place = place.join(name);
                self.go(place, step + 1, above)
            }
            Step::Names(pattern) => {
                let matches = |name: &OsStr| pattern.matches_with(&name.to_string_lossy(), OPTIONS);
                let names = names_in(&place, matches)?;
                names.into_iter().try_for_each(|name| self.go(place.join(name), step + 1, above))
            }
            Step::AnyDepth => self.go_deeper(&place, step, above),
        }
    }

    fn go_deeper(&mut self, place: &Path, step: usize, above: &mut Vec<PathBuf>) -> Result<()> {
        let Ok(real) = listed(place).canonicalize() else { return Ok(()) };
        // Links may lead in a circle.
        if above.contains(&real) {
            return Ok(());
        }
        let is_last = step + 1 == self.steps.len();
        if !is_last {
            self.go(place.to_path_buf(), step + 1, &mut Vec::new())?;
        }
        above.push(real);
        for name in names_in(place, |name| !name.as_encoded_bytes().starts_with(b"."))? {
            let path = place.join(name);
            let is_folder = path.is_dir();
            if is_last {
                self.found.push(path.clone());
            }
            if is_folder {
                self.go_deeper(&path, step, above)?;
            }
        }
        above.pop();
        Ok(())
    }
}

/// A folder as the system lists it.
fn listed(folder: &Path) -> &Path {
    if folder.as_os_str().is_empty() { Path::new(".") } else { folder }
}

/// The names in a folder for which `is_meant`. None if it is no folder.
fn names_in(folder: &Path, is_meant: impl Fn(&OsStr) -> bool) -> Result<Vec<std::ffi::OsString>> {
    let folder = listed(folder);
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(Error::io(folder))? {
        let name = entry.map_err(Error::io(folder))?.file_name();
        if is_meant(&name) {
            names.push(name);
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(root: &Path, pattern: &str, expected: &[&str]) {
        let found = paths_matching(&root.join(pattern)).unwrap();
        let expected: Vec<PathBuf> = expected.iter().map(|name| root.join(name)).collect();
        assert_eq!(found, expected, "{pattern}");
    }

    fn place(names: &[&str]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for name in names {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "x").unwrap();
        }
        root
    }

    #[test]
    fn globs_match_as_in_a_shell() {
        let root = place(&["b/2", "a/1", "a/10", "a/.h", "a/c/1", ".d/1"]);
        check(root.path(), "*/1", &["a/1"]);
        check(root.path(), "a/1*", &["a/1", "a/10"]);
        check(root.path(), "[ab]/?", &["a/1", "a/c", "b/2"]);
        check(root.path(), "**/1", &["a/1", "a/c/1"]);
        check(root.path(), "a/**/**/1", &["a/1", "a/c/1"]);
        check(root.path(), "a/**", &["a/1", "a/10", "a/c", "a/c/1"]);
        check(root.path(), ".d/*", &[".d/1"]);
        check(root.path(), "a/.h", &["a/.h"]);
        check(root.path(), "none*", &[]);
        check(root.path(), "a/1/*", &[]);
        let error = paths_matching(Path::new("a/**b")).unwrap_err().to_string();
        assert!(error.contains("no glob"), "{error}");
    }

    #[cfg(unix)]
    #[test]
    fn names_need_not_be_utf8_and_links_may_lead_in_circles() {
        use std::os::unix::ffi::OsStrExt;
        let root = place(&["a/1"]);
        let odd = root.path().join(OsStr::from_bytes(b"caf\xE9"));
        fs::create_dir(&odd).unwrap();
        fs::write(odd.join("1"), "x").unwrap();
        std::os::unix::fs::symlink(root.path(), root.path().join("a/up")).unwrap();
        let found = paths_matching(&root.path().join("*/1")).unwrap();
        assert_eq!(found, [root.path().join("a/1"), odd.join("1")]);
        assert_eq!(paths_matching(&odd.join("*")).unwrap(), [odd.join("1")]);
        let deep = paths_matching(&root.path().join("**/1")).unwrap();
        assert_eq!(deep, found);
    }
}
