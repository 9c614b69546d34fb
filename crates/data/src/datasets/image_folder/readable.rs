//! Which files are images, by name and where the name says too little by content.

use std::path::Path;

use crate::error::Result;
use crate::image::Format;

/// Whether a file is taken for an image: by its extension where that is one of a format that is
/// read; by its first bytes where there is no extension, or one that says little (`photo.jpg_large`,
/// `photo.2`, or the name of a format that is not read, under which JPEGs are often found).
///
/// # Errors
/// If the file had to be looked into and cannot be read.
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
    // A pipe would have no end.
    Ok(path.is_file() && Format::of_file(path)?.is_some_and(Format::is_readable))
}
