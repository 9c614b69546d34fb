//! What can go wrong while images are found, read and transformed.

use std::path::{Path, PathBuf};

use candle_vision_registry::{SettingsError, TableError};

use crate::image::Format;

/// The result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong while images are found, read and transformed.
///
/// Each message says what is wrong, where, and, if known, what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused to read a file or folder.
    #[error("cannot read `{}`", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },

    /// A file or folder that a data set needs is not there.
    #[error("`{}` not found: {expected}; {remedy}", path.display())]
    NotFound {
        /// Where it was looked for.
        path: PathBuf,
        /// What should be there.
        expected: String,
        /// What to do.
        remedy: String,
    },

    /// A file of a data set has another size than its format asks for.
    #[error("`{}` has {found} bytes, expected {expected}; {remedy}", path.display())]
    FileSize {
        /// The file.
        path: PathBuf,
        /// Its size in bytes, after decompression where it is compressed.
        found: u64,
        /// The size it should have, in words.
        expected: String,
        /// What to do.
        remedy: String,
    },

    /// The contents of a data set's file or folder make no sense.
    #[error("`{}` {problem}; {remedy}", path.display())]
    Invalid {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
        /// What to do.
        remedy: String,
    },

    /// An image cannot be decoded, or only in part.
    #[error(
        "`{name}` is not a whole image: {reason}; replace or remove it, or turn on `skip_broken`"
    )]
    BrokenImage {
        /// Path or other name of the image.
        name: String,
        /// What the decoder found.
        reason: String,
    },

    /// A file holds an image of a format that is not read.
    #[error(
        "`{name}` holds {format}, which cannot be read; convert it to JPEG or PNG, remove it, or \
         turn on `skip_broken`"
    )]
    UnreadableFormat {
        /// Path or other name of the image.
        name: String,
        /// What its content is.
        format: Format,
    },

    /// An image's header announces more pixels than are allowed.
    #[error(
        "`{name}` is {width}x{height} pixels, {} in all, more than the {max_pixels} of \
         `max_pixels`; raise that, make the image smaller or remove it, or turn on `skip_broken`",
        width.saturating_mul(*height)
    )]
    TooLarge {
        /// Path or other name of the image.
        name: String,
        /// Width in pixels.
        width: u64,
        /// Height in pixels.
        height: u64,
        /// The limit that it exceeds, [`ReadOptions::max_pixels`](crate::ReadOptions::max_pixels).
        max_pixels: u64,
    },

    /// A buffer of pixels does not fit its width, height and channels.
    #[error(
        "an image of {width}x{height} pixels with {channels} channels cannot have {bytes} bytes"
    )]
    ImageShape {
        /// Width in pixels.
        width: usize,
        /// Height in pixels.
        height: usize,
        /// Channels asked for; 1 and 3 are possible.
        channels: usize,
        /// Bytes given.
        bytes: usize,
    },

    /// A transform has impossible arguments, or stands at an impossible place in its list.
    #[error("transform `{op}`: {reason}")]
    InvalidTransform {
        /// Its name in recipes, such as `random_crop`.
        op: String,
        /// What is wrong.
        reason: String,
    },

    /// A sample could not be transformed.
    #[error("cannot transform `{name}`")]
    Sample {
        /// Path or other name of the sample.
        name: String,
        /// Why.
        source: Box<Error>,
    },

    /// Samples of one batch came out of the transforms with different shapes.
    #[error(
        "images of one batch differ in shape: `{first}` is {first_shape}, `{second}` is \
         {second_shape}; end the image transforms with one that gives a fixed size and number \
         of channels (`resize` with height and width, `center_crop`, `random_resized_crop`, `grayscale`)"
    )]
    MixedShapes {
        /// Name of the batch's first sample.
        first: String,
        /// Its height x width x channels.
        first_shape: String,
        /// Name of the sample that differs.
        second: String,
        /// Its height x width x channels.
        second_shape: String,
    },

    /// A setting is impossible.
    #[error("`{setting}` {reason}")]
    InvalidSetting {
        /// Its name, such as `batch_size`.
        setting: &'static str,
        /// What is wrong.
        reason: String,
    },

    /// A sample was asked for that the data set does not have.
    #[error("sample {index} does not exist: the data set has {len}")]
    NoSuchSample {
        /// The index asked for.
        index: usize,
        /// The number of samples.
        len: usize,
    },

    /// A label is of no class.
    #[error(
        "sample {index} (`{name}`) has label {label}, but there are {classes} classes, labelled from 0; \
         correct the label or the list of classes"
    )]
    Label {
        /// Index of the sample.
        index: usize,
        /// Its path or other name.
        name: String,
        /// Its label.
        label: u32,
        /// The number of classes.
        classes: usize,
    },

    /// A loader's worker thread panicked.
    #[error("a worker of the data loader panicked in batch {batch}: {message}")]
    WorkerPanicked {
        /// Number of the batch in its epoch.
        batch: usize,
        /// The panic's message.
        message: String,
    },

    /// A table has no part of a name, or two.
    #[error(transparent)]
    Table(#[from] TableError),

    /// A part's settings are not its settings.
    #[error(transparent)]
    Settings(#[from] SettingsError),

    /// A data set or transform from outside this crate failed; see [`Error::other`].
    #[error(transparent)]
    Other(Box<dyn std::error::Error + Send + Sync>),

    /// candle could not make a batch's tensors.
    #[error("cannot make the tensors of a batch")]
    Tensor(#[from] candle_core::Error),
}

impl Error {
    /// Whether a single image is to blame, so that a loader may leave it out and go on.
    pub fn is_broken_image(&self) -> bool {
        matches!(
            self,
            Self::BrokenImage { .. }
                | Self::UnreadableFormat { .. }
                | Self::TooLarge { .. }
                | Self::Io { .. }
        )
    }

    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Io { path: path.to_path_buf(), source }
    }

    /// What is wrong with a transform or with the image it is given, for transforms of one's own. `op`
    /// is its name in recipes.
    pub fn transform(op: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::InvalidTransform { op: op.into(), reason: reason.into() }
    }

    /// An error of a data set or transform of one's own.
    pub fn other(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Other(error.into())
    }

    pub(crate) fn mixed_shapes(first: (&str, [usize; 3]), second: (&str, [usize; 3])) -> Self {
        let text = |[height, width, channels]: [usize; 3]| format!("{height}x{width}x{channels}");
        Self::MixedShapes {
            first: first.0.to_owned(),
            first_shape: text(first.1),
            second: second.0.to_owned(),
            second_shape: text(second.1),
        }
    }
}
