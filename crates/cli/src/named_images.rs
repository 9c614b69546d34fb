//! The images that are named on the command line: files, folders and globs.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail, ensure};
use candle_vision::data::{LeftOut, find_images, has_glob, is_image, paths_matching};

use crate::say;

/// Images in the order in which they were named.
pub(crate) struct Named {
    pub(crate) images: Vec<PathBuf>,
    /// Whether a folder or a glob was among the names.
    pub(crate) is_expanded: bool,
    /// Whether a name stood for no image. A message has reported it.
    pub(crate) failed: bool,
}

/// The images that `arguments` stand for. A file stands for itself, a folder for the images below it, and a
/// glob (`photos/*.jpg`) for the images that match.
///
/// # Errors
/// If all of them together stand for no image.
pub(crate) fn named(arguments: &[PathBuf]) -> Result<Named> {
    let mut named = Named { images: Vec::new(), is_expanded: false, failed: false };
    let mut left_out = LeftOut::default();
    for argument in arguments {
        if !argument.is_dir() && !is_glob(argument) {
            named.images.push(argument.clone());
            continue;
        }
        named.is_expanded = true;
        match expand(argument, &mut left_out) {
            Ok(mut found) => named.images.append(&mut found),
            Err(error) if arguments.len() == 1 => return Err(error),
            Err(error) => {
                named.failed = true;
                say::error(&error);
            }
        }
    }
    if !left_out.is_empty() {
        say::note(format_args!("not used: {left_out}"));
    }
    ensure!(!named.images.is_empty(), "no image was found under these names");
    Ok(named)
}

/// A file name may contain brackets, so an existing path is never a glob.
fn is_glob(argument: &Path) -> bool {
    has_glob(argument) && !argument.exists()
}

fn expand(argument: &Path, left_out: &mut LeftOut) -> Result<Vec<PathBuf>> {
    let mut others = LeftOut::default();
    let is_folder = argument.is_dir();
    let find = if is_folder { below } else { matching };
    let found = find(argument, &mut others)?;
    if found.is_empty() {
        let instead = if others.is_empty() { String::new() } else { format!(": only {others}") };
        let place = if is_folder { "in" } else { "matches" };
        bail!("no image {place} `{}`{instead}", argument.display())
    }
    left_out.add(&others);
    Ok(found)
}

fn below(folder: &Path, left_out: &mut LeftOut) -> Result<Vec<PathBuf>> {
    let (images, others) = find_images(folder)?;
    left_out.add(&others);
    Ok(images)
}

/// The paths that match a glob, sorted by name. A matching folder stands for the images below it.
fn matching(pattern: &Path, left_out: &mut LeftOut) -> Result<Vec<PathBuf>> {
    let goes_deeper = pattern.components().any(|part| part.as_os_str() == "**");
    let mut found = Vec::new();
    for path in paths_matching(pattern)? {
        if path.is_dir() {
            // `photos/**` matches each folder and also its contents.
            if !goes_deeper {
                found.append(&mut below(&path, left_out)?);
            }
        } else if is_image(&path).unwrap_or(false) {
            found.push(path);
        } else {
            left_out.add_file(&path);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> tempfile::TempDir {
        let place = tempfile::tempdir().expect("a folder");
        for name in ["a/1.png", "a/2.jpg", "a/notes.txt", "b/1.png", "b/c/3.png", "[x]*.png"] {
            let path = place.path().join(name);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
            std::fs::write(path, "x").expect("a file");
        }
        place
    }

    #[test]
    fn files_folders_and_globs_stand_for_images() -> Result<()> {
        let place = place();
        let check = |arguments: &[&str], expected: &[&str]| -> Result<()> {
            let paths: Vec<PathBuf> =
                arguments.iter().map(|name| place.path().join(name)).collect();
            let found = named(&paths)?.images;
            let expected: Vec<PathBuf> = expected.iter().map(|n| place.path().join(n)).collect();
            assert_eq!(found, expected, "{arguments:?}");
            Ok(())
        };
        check(&["b/1.png", "missing.png"], &["b/1.png", "missing.png"])?;
        check(&["b", "a"], &["b/1.png", "b/c/3.png", "a/1.png", "a/2.jpg"])?;
        check(&["a/*"], &["a/1.png", "a/2.jpg"])?;
        check(&["*/1.png"], &["a/1.png", "b/1.png"])?;
        check(&["b/**/*.png"], &["b/1.png", "b/c/3.png"])?;
        check(&["b/**"], &["b/1.png", "b/c/3.png"])?;
        check(&["?"], &["a/1.png", "a/2.jpg", "b/1.png", "b/c/3.png"])?;
        check(&["[x]*.png"], &["[x]*.png"])?;
        for (arguments, text) in [(["a/*.gif"], "matches"), (["nothing*"], "no image")] {
            let error = check(&arguments, &[]).expect_err("there is none").to_string();
            assert!(error.contains(text), "{error}");
        }
        Ok(())
    }
}
