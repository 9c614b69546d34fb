//! What can go wrong with a classifier.

use std::path::PathBuf;

/// What can go wrong with a [`Classifier`](crate::Classifier).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An image file holds no whole image.
    #[error("`{}` is not a whole image: {reason}; replace it", path.display())]
    BrokenImage {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// An image cannot be prepared for the network.
    #[error("`{image}` cannot be prepared for the network")]
    Preparation {
        /// The file, or what the image is.
        image: String,
        /// Why not.
        source: Box<Error>,
    },
    /// A tensor was explained, and there is no image to draw the map on.
    #[error("a tensor is no image to draw on; explain the image file, or draw the map yourself")]
    NoImage,
    /// The network takes another number of channels than an image can have.
    #[error("the network takes images of {channels} channels; a photograph has 1 or 3")]
    Channels {
        /// What the network takes.
        channels: usize,
    },
    /// The network's output is no number.
    #[error(
        "the network's output is {value}: its weights are damaged or diverged; use another checkpoint"
    )]
    NotFinite {
        /// The output.
        value: f64,
    },
    /// A class goes by another name.
    #[error("{0}")]
    UnknownClass(String),
    /// A network has no published weights of this name.
    #[error("{0}")]
    NotPublished(String),
    /// A data set or an image.
    #[error(transparent)]
    Data(#[from] candle_vision_data::Error),
    /// A checkpoint.
    #[error(transparent)]
    Train(Box<candle_vision_train::Error>),
    /// An explanation.
    #[error(transparent)]
    Explain(Box<candle_vision_explain::Error>),
    /// A drawing.
    #[error(transparent)]
    Report(#[from] candle_vision_report::Error),
    /// A network or its weights.
    #[error(transparent)]
    Network(#[from] candle_core::Error),
    /// A name that no table has, or a name twice.
    #[error(transparent)]
    Table(#[from] candle_vision_registry::TableError),
}

// Boxed, because results with large errors are slow to move.
impl From<candle_vision_train::Error> for Error {
    fn from(error: candle_vision_train::Error) -> Self {
        Self::Train(Box::new(error))
    }
}

impl From<candle_vision_explain::Error> for Error {
    fn from(error: candle_vision_explain::Error) -> Self {
        Self::Explain(Box::new(error))
    }
}

/// The result of a [`Classifier`](crate::Classifier).
pub type Result<T> = std::result::Result<T, Error>;
