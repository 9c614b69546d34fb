//! What a classifier takes.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use candle_core::Tensor;
use candle_vision_data::Image;

/// What a [`Classifier`](crate::Classifier) takes: a file, an image, or a tensor that is prepared already.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Input<'i> {
    /// An image file.
    File(Cow<'i, Path>),
    /// An image as it was decoded.
    Image(&'i Image),
    /// `[channels, height, width]` or `[1, channels, height, width]`, preprocessed as in training.
    Tensor(&'i Tensor),
}

impl Input<'_> {
    /// The file's name, or what the input is.
    pub fn name(&self) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            Self::Image(_) => "the image".to_owned(),
            Self::Tensor(_) => "the tensor".to_owned(),
        }
    }
}

impl<'i> From<&'i Path> for Input<'i> {
    fn from(path: &'i Path) -> Self {
        Self::File(Cow::Borrowed(path))
    }
}

impl<'i> From<&'i PathBuf> for Input<'i> {
    fn from(path: &'i PathBuf) -> Self {
        Self::File(Cow::Borrowed(path))
    }
}

impl From<PathBuf> for Input<'_> {
    fn from(path: PathBuf) -> Self {
        Self::File(Cow::Owned(path))
    }
}

impl<'i> From<&'i str> for Input<'i> {
    fn from(path: &'i str) -> Self {
        Self::File(Cow::Borrowed(Path::new(path)))
    }
}

impl<'i> From<&'i Image> for Input<'i> {
    fn from(image: &'i Image) -> Self {
        Self::Image(image)
    }
}

impl<'i> From<&'i Tensor> for Input<'i> {
    fn from(tensor: &'i Tensor) -> Self {
        Self::Tensor(tensor)
    }
}
