//! What to do about files of known data sets.

/// For a file that is missing.
pub(super) const FETCH: &str = "fetch it, or name the folder that has it";
/// For a file that is damaged.
pub(super) const AGAIN: &str = "fetch it again";
