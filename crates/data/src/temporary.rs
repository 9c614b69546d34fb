//! What is written before it has its own name.

use tempfile::Builder;

/// A builder for a file, or with `is_folder` a folder, with a random part in its name. The number of the process would not do:
/// two containers that share a folder may have the same.
pub(crate) fn temporary<'a, 'b>(is_folder: bool) -> Builder<'a, 'b> {
    let mut builder = Builder::new();
    // The default is one that no other user can read, which a result should not be.
    #[cfg(unix)]
    {
        let mode = if is_folder { 0o777 } else { 0o666 };
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(mode));
    }
    #[cfg(not(unix))]
    let _ = is_folder;
    builder
}
