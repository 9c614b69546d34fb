//! What the targets of an image may say.

use std::fmt;

use candle_vision_data::DataLoader;

/// What the targets of an image say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum TargetKind {
    /// One class: a label.
    Label,
    /// Shares of the classes, which add up to 1: several images mixed into one.
    Shares,
    /// A number in `0.0..=1.0` for each class by itself: an image of several labels or none.
    SeveralLabels,
}

impl TargetKind {
    /// What the targets of this loader's batches say.
    pub fn of(loader: &DataLoader) -> Self {
        match (loader.dataset().is_multi_label(), loader.batch_transforms()) {
            (true, _) => Self::SeveralLabels,
            (false, []) => Self::Label,
            (false, _) => Self::Shares,
        }
    }
}

/// The end of "targets are ...".
impl fmt::Display for TargetKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Label => "one label for each image",
            Self::Shares => "shares of several classes (batch transforms mix images)",
            Self::SeveralLabels => "several labels or none for each image",
        })
    }
}
