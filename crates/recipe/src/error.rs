//! What can go wrong between a recipe and a trainer.

use std::path::{Path, PathBuf};

use candle_vision::registry::one_line;

/// What can go wrong between a recipe and a trainer.
///
/// The message of the whole chain is what a person should read: a [`Error::Context`] says where it happened,
/// its source what. [`Error::one_line`] puts the chain into one line.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A recipe, a setting or a folder is not what it should be. The text says what helps.
    #[error("{0}")]
    Invalid(String),
    /// Something failed at a place or while something was done.
    #[error("{what}")]
    Context {
        /// The place, or what was being done.
        what: String,
        /// What failed.
        source: Box<Error>,
    },
    /// A file could not be read or written.
    #[error("cannot {action} `{}`", path.display())]
    Io {
        /// `read` or `write`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A data set or an image.
    #[error(transparent)]
    Data(#[from] candle_vision::data::Error),
    /// The trainer, a run folder or a checkpoint.
    #[error(transparent)]
    Train(Box<candle_vision::train::Error>),
    /// A classifier from a file.
    #[error(transparent)]
    Classifier(Box<candle_vision::Error>),
    /// A download.
    #[error(transparent)]
    Fetch(Box<candle_vision_fetch::Error>),
    /// A network or its weights.
    #[error(transparent)]
    Network(#[from] candle_core::Error),
    /// A name that no table has, or a name twice.
    #[error(transparent)]
    Table(#[from] candle_vision::registry::TableError),
}

// Boxed, because results with large errors are slow to move.
impl From<candle_vision::train::Error> for Error {
    fn from(error: candle_vision::train::Error) -> Self {
        Self::Train(Box::new(error))
    }
}

impl From<candle_vision::Error> for Error {
    fn from(error: candle_vision::Error) -> Self {
        Self::Classifier(Box::new(error))
    }
}

impl From<candle_vision_fetch::Error> for Error {
    fn from(error: candle_vision_fetch::Error) -> Self {
        Self::Fetch(Box::new(error))
    }
}

/// The result of everything here.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub(crate) fn invalid(text: impl Into<String>) -> Self {
        Self::Invalid(text.into())
    }

    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { action, path, source }
    }

    pub(crate) fn at(self, what: impl Into<String>) -> Self {
        Self::Context { what: what.into(), source: Box::new(self) }
    }

    /// The innermost error of this crate: what failed, without where.
    pub fn cause(&self) -> &Self {
        match self {
            Self::Context { source, .. } => source.cause(),
            other => other,
        }
    }

    /// The error of the download that failed, if one did.
    pub fn fetch_error(&self) -> Option<&candle_vision_fetch::Error> {
        match self.cause() {
            Self::Fetch(error) => Some(error),
            _ => None,
        }
    }

    /// The whole chain of messages as one line; what a message already tells is not repeated.
    pub fn one_line(&self) -> String {
        let mut text = String::new();
        let mut next: Option<&dyn std::error::Error> = Some(self);
        while let Some(error) = next {
            let message = error.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
            // A name in a recipe may hold other control characters too.
            let message = one_line(&message).into_owned();
            if text.is_empty() {
                text = message;
            } else if !text.contains(&message) {
                text = format!("{text}: {message}");
            }
            next = error.source();
        }
        text
    }
}

/// Says where something failed.
pub(crate) trait At<T> {
    fn at<S: Into<String>>(self, what: impl FnOnce() -> S) -> Result<T>;
}

impl<T, E: Into<Error>> At<T> for std::result::Result<T, E> {
    fn at<S: Into<String>>(self, what: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|error| error.into().at(what()))
    }
}
