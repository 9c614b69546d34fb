//! The errors of finding, reading and transforming images.

use std::path::{Path, PathBuf};

use candle_vision_registry::{SettingsError, TableError, one_line};

use crate::image::Format;

/// The result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error while images are found, read or transformed.
///
/// Each message says what is wrong and where. If a remedy is known, the message names it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system could not read a file or folder.
    #[error("cannot read `{}`", shown(path.display()))]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },

    /// The operating system could not write a file or folder.
    #[error("cannot write `{}`", shown(path.display()))]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },

    /// A file or folder that a data set needs does not exist.
    #[error(
        "`{}` not found: {expected}; {remedy}",
        shown(path.display()), expected = shown(expected)
    )]
    NotFound {
        /// The path where it was searched.
        path: PathBuf,
        /// What should be there.
        expected: String,
        /// What to do.
        remedy: String,
    },

    /// A file of a data set does not have the size that its format requires.
    #[error(
        "`{}` has {found} bytes, expected {expected}; {remedy}",
        shown(path.display()), expected = shown(expected)
    )]
    FileSize {
        /// The file.
        path: PathBuf,
        /// Its size in bytes, after decompression if it is compressed.
        found: u64,
        /// The expected size, in words.
        expected: String,
        /// What to do.
        remedy: String,
    },

    /// The contents of a data set's file or folder are not valid.
    #[error("`{}` {problem}; {remedy}", shown(path.display()), problem = shown(problem))]
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
        "`{name}` is not a whole image: {reason}; replace or remove it, or turn on `skip_broken`",
        name = shown(name), reason = shown(reason)
    )]
    BrokenImage {
        /// Path or other name of the image.
        name: String,
        /// The reason that the decoder gave.
        reason: String,
    },

    /// A file holds an image in a format that is not supported.
    #[error(
        "`{name}` holds {format}, which cannot be read; convert it to JPEG or PNG, remove it, or \
         turn on `skip_broken`",
        name = shown(name)
    )]
    UnreadableFormat {
        /// Path or other name of the image.
        name: String,
        /// The format of its content.
        format: Format,
    },

    /// The header of an image states more pixels than allowed.
    #[error(
        "`{name}` is {width}x{height} pixels, {} in all, more than the {max_pixels} of \
         `max_pixels`; raise that, make the image smaller or remove it, or turn on `skip_broken`",
        width.saturating_mul(*height), name = shown(name)
    )]
    TooLarge {
        /// Path or other name of the image.
        name: String,
        /// Width in pixels.
        width: u64,
        /// Height in pixels.
        height: u64,
        /// The limit, [`ReadOptions::max_pixels`](crate::ReadOptions::max_pixels).
        max_pixels: u64,
    },

    /// The number of bytes does not match the width, height and channels.
    #[error(
        "an image of {width}x{height} pixels with {channels} channels cannot have {bytes} bytes"
    )]
    ImageShape {
        /// Width in pixels.
        width: usize,
        /// Height in pixels.
        height: usize,
        /// Number of channels. 1 and 3 are possible.
        channels: usize,
        /// Number of bytes given.
        bytes: usize,
    },

    /// A transform has arguments that are not possible, or is at a place in its list that is not possible.
    #[error("transform `{op}`: {reason}", op = shown(op), reason = shown(reason))]
    InvalidTransform {
        /// Its name in recipes, such as `random_crop`.
        op: String,
        /// What is wrong.
        reason: String,
    },

    /// A sample could not be transformed.
    #[error("cannot transform `{name}`", name = shown(name))]
    Sample {
        /// Path or other name of the sample.
        name: String,
        /// The reason.
        source: Box<Error>,
    },

    /// The transforms gave samples of one batch different shapes.
    #[error(
        "images of one batch differ in shape: `{first}` is {first_shape}, `{second}` is \
         {second_shape}; end the image transforms with one that gives a fixed size and number \
         of channels (`resize` with height and width, `center_crop`, `random_resized_crop`, `grayscale`)",
        first = shown(first), second = shown(second)
    )]
    MixedShapes {
        /// Name of the first sample of the batch.
        first: String,
        /// Its shape, height x width x channels.
        first_shape: String,
        /// Name of the sample with another shape.
        second: String,
        /// Its shape, height x width x channels.
        second_shape: String,
    },

    /// A setting has a value that is not possible.
    #[error("`{setting}` {reason}", reason = shown(reason))]
    InvalidSetting {
        /// Its name, such as `batch_size`.
        setting: &'static str,
        /// What is wrong.
        reason: String,
    },

    /// The data set has no sample with this index.
    #[error("sample {index} does not exist: the data set has {len}")]
    NoSuchSample {
        /// The requested index.
        index: usize,
        /// The number of samples.
        len: usize,
    },

    /// A label does not belong to a class.
    #[error(
        "sample {index} (`{name}`) has label {label}, but there are {classes} classes, labelled from 0; \
         correct the label or the list of classes",
        name = shown(name)
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

    /// A worker thread of a loader panicked.
    #[error(
        "a worker of the data loader panicked in batch {batch}: {message}",
        message = shown(message)
    )]
    WorkerPanicked {
        /// The number of the batch in its epoch, counted from 0.
        batch: usize,
        /// The message of the panic.
        message: String,
    },

    /// A table has no entry of a name, or two entries have the same name.
    #[error(transparent)]
    Table(#[from] TableError),

    /// The settings of a transform or data set are missing, unknown or wrong.
    #[error(transparent)]
    Settings(#[from] SettingsError),

    /// A data set or transform from outside this crate failed; see [`Error::other`].
    #[error(transparent)]
    Other(Box<dyn std::error::Error + Send + Sync>),

    /// candle could not make the tensors of a batch.
    #[error("cannot make the tensors of a batch")]
    Tensor(#[from] candle_core::Error),
}

impl Error {
    /// Whether the error concerns a single image, so that a loader may skip it.
    pub fn is_broken_image(&self) -> bool {
        matches!(
            self,
            Self::BrokenImage { .. }
                | Self::UnreadableFormat { .. }
                | Self::TooLarge { .. }
                | Self::Io { .. }
        )
    }

    /// What is wrong with an image, without its name and the remedy.
    pub(crate) fn reason(&self) -> String {
        match self {
            Self::BrokenImage { reason, .. } => reason.clone(),
            Self::Io { source, .. } => source.to_string(),
            Self::UnreadableFormat { format, .. } => {
                format!("it holds {format}, which cannot be read")
            }
            Self::TooLarge { width, height, max_pixels, .. } => {
                format!("{width}x{height} pixels are more than {max_pixels} (`max_pixels`)")
            }
            error => error.to_string(),
        }
    }

    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Io { path: path.to_path_buf(), source }
    }

    pub(crate) fn io_write(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Write { path: path.to_path_buf(), source }
    }

    /// An error of your own transform: a setting is wrong, or an image does not suit it. `op` is the name of
    /// the transform in recipes.
    pub fn transform(op: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::InvalidTransform { op: op.into(), reason: reason.into() }
    }

    /// An error of your own data set or transform.
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

/// A text or path from outside as a part of a message of one line.
fn shown(text: impl std::fmt::Display) -> String {
    one_line(&text.to_string()).into_owned()
}
