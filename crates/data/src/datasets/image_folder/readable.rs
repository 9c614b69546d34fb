//! Decides which files are images: by name, and by content if the name says too little.

use std::path::Path;

use crate::error::Result;
use crate::image::Format;

/// Whether a file counts as an image. The extension of a supported format is enough. Otherwise the first bytes
/// decide: if there is no extension, if it says little (`photo.jpg_large`, `photo.2`), or if it belongs to a
/// format that is not supported, because JPEGs often have such names.
///
/// # Errors
/// If the content has to be read and cannot be.
pub fn is_image(path: impl AsRef<Path>) -> Result<bool> {
    let path = path.as_ref();
    let Some(extension) = path.extension() else { return holds_image(path) };
    let extension = extension.to_string_lossy().to_lowercase();
    match Format::of_extension(&extension) {
        Some(format) if format.is_readable() => Ok(true),
        Some(_) => holds_image(path),
        None if says_little(&extension) => holds_image(path),
        None => Ok(false),
    }
}

fn says_little(extension: &str) -> bool {
    let begins_as = |format: &Format| format.extensions().iter().any(|e| extension.starts_with(e));
    extension.chars().all(|c| c.is_ascii_digit()) || Format::READABLE.iter().any(begins_as)
}

fn holds_image(path: &Path) -> Result<bool> {
    // Only regular files are opened, because reading from a pipe might never end.
    Ok(path.is_file() && Format::of_file(path)?.is_some_and(Format::is_readable))
}
