//! The error of a kernel that does not fit an input.

use std::fmt;

/// Sizes that do not fit together, described in one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error(String);

/// The result of functions that check sizes.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Error {}
