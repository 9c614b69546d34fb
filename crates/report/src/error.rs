//! Errors of making an image or an event file.

use std::path::{Path, PathBuf};

/// The result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can go wrong while an image or an event file is made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be written. The file that was there before is intact.
    #[error("cannot write `{}`", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        source: std::io::Error,
    },

    /// An image could not be written. The image that was there before is intact.
    #[error(transparent)]
    File(#[from] candle_vision_train::Error),

    /// A buffer of pixels does not fit its width and height.
    #[error("an RGB image of {width}x{height} pixels cannot have {bytes} bytes")]
    ImageShape {
        /// Width in pixels.
        width: usize,
        /// Height in pixels.
        height: usize,
        /// Bytes given.
        bytes: usize,
    },

    /// A heat map's values do not fit its width and height.
    #[error("a map of {width}x{height} cannot have {values} values")]
    MapShape {
        /// Width given.
        width: usize,
        /// Height given.
        height: usize,
        /// Values given.
        values: usize,
    },

    /// A confusion matrix does not fit the names of its classes.
    #[error(
        "a confusion matrix of {classes} classes needs {classes} rows and columns, got {found}"
    )]
    MatrixShape {
        /// Number of class names given.
        classes: usize,
        /// The matrix given, in words.
        found: String,
    },

    /// Bars lack rows or columns, or a column does not fit the rows.
    #[error("{labels} rows of bars cannot have a column of {values} values")]
    BarShape {
        /// Labels given.
        labels: usize,
        /// Number of values in the column that does not fit; 0 if there are no columns.
        values: usize,
    },

    /// A grid was given no images.
    #[error("a grid needs at least one image")]
    EmptyGrid,

    /// A comparison was given no runs, or too many.
    #[error("{count} runs cannot be compared; name 1 to {most}")]
    RunCount {
        /// Runs given.
        count: usize,
        /// The largest number of runs that a reader can tell apart.
        most: usize,
    },

    /// The image would be too large.
    #[error("an image of {width}x{height} pixels is too large to draw; show fewer items")]
    TooLarge {
        /// Width in pixels.
        width: u64,
        /// Height in pixels.
        height: u64,
    },

    /// The drawn image could not be turned into a file.
    #[error("cannot draw the image: {reason}")]
    Draw {
        /// The drawing library's message.
        reason: String,
    },

    /// A page could not be made from its template.
    #[error("cannot make the page: {reason}")]
    Page {
        /// The template engine's message.
        reason: String,
    },
}

impl Error {
    pub(crate) fn write(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Write { path: path.to_path_buf(), source }
    }

    /// Keeps the engine's whole error chain, because only its end names the place in the template.
    pub(crate) fn page(error: minijinja::Error) -> Self {
        let chain = std::iter::successors(Some(&error as &dyn std::error::Error), |e| e.source());
        Self::Page { reason: chain.map(ToString::to_string).collect::<Vec<_>>().join(": ") }
    }

    pub(crate) fn draw(reason: impl std::fmt::Display) -> Self {
        Self::Draw { reason: reason.to_string() }
    }
}
