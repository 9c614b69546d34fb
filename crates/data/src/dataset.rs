//! What a data set is: labelled pictures that can be asked for by index, from any thread.

use crate::error::{Error, Result};
use crate::picture::Picture;

/// A picture with its class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// The picture as stored, before any transform.
    pub picture: Picture,
    /// Index into [`Dataset::classes`].
    pub label: u32,
    /// Where the subject is, if known: grey, of the picture's size, 255 on the subject, 0 off it.
    pub mask: Option<Picture>,
}

/// Labelled pictures that can be asked for by index, from any thread.
///
/// # Example
/// ```
/// use candle_vision_data::{Dataset, Insects, InsectsConfig, Split};
///
/// let insects = Insects::new(Split::Train, InsectsConfig { size: 48, count: 10, seed: 0 })?;
/// let sample = insects.sample(3)?;
/// assert_eq!(insects.classes()[sample.label as usize], "bees");
/// # Ok::<(), candle_vision_data::Error>(())
/// ```
pub trait Dataset: Send + Sync {
    /// Number of samples.
    fn len(&self) -> usize;

    /// Whether there are no samples.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Reads sample `index`.
    ///
    /// # Errors
    /// If there is no such sample, or its file is missing or damaged.
    fn sample(&self, index: usize) -> Result<Sample>;

    /// Names of the classes; a label is an index into it.
    fn classes(&self) -> &[String];

    /// Label of sample `index`, without reading its picture.
    ///
    /// # Panics
    /// If there is no such sample.
    fn label(&self, index: usize) -> u32;

    /// What to call sample `index` in messages: a path, or `test[17]`.
    fn name(&self, index: usize) -> String;

    /// A short hash of the samples' names, sizes and labels, to notice that a data set is another
    /// one than a checkpoint was trained on. It reads no pictures, so changed pixels go unseen.
    fn fingerprint(&self) -> String;

    /// Whether the pictures lie in memory already, so that a cache would gain nothing.
    fn in_memory(&self) -> bool {
        false
    }
}

/// The part of a data set that is trained on, chosen by, or tested on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Split {
    /// What is trained on.
    Train,
    /// What decides which epoch was best.
    Val,
    /// What is looked at once, at the end.
    Test,
}

impl Split {
    /// `train`, `val` or `test`: the name of its folder and in messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Val => "val",
            Self::Test => "test",
        }
    }
}

impl std::fmt::Display for Split {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// The labels of all samples, in order.
pub fn labels(dataset: &dyn Dataset) -> Vec<u32> {
    (0..dataset.len()).map(|index| dataset.label(index)).collect()
}

/// How many samples each class has, in the order of [`Dataset::classes`].
pub fn class_counts(dataset: &dyn Dataset) -> Vec<usize> {
    let mut counts = vec![0; dataset.classes().len()];
    for label in labels(dataset) {
        counts[label as usize] += 1;
    }
    counts
}

/// Checks an index before a data set uses it.
pub(crate) fn check_index(index: usize, len: usize) -> Result<()> {
    if index < len { Ok(()) } else { Err(Error::NoSuchSample { index, len }) }
}

/// FNV-1a over what a data set is made of: unlike the standard library's hasher it is the same in
/// every version, and collisions on purpose do not matter here.
pub(crate) struct Fingerprint(u64);

impl Fingerprint {
    pub(crate) fn new(kind: &str) -> Self {
        Self(0xCBF2_9CE4_8422_2325).text(kind)
    }

    pub(crate) fn text(self, text: &str) -> Self {
        // The length first, so that ("ab", "c") and ("a", "bc") differ.
        self.number(text.len() as u64).bytes(text.as_bytes())
    }

    pub(crate) fn number(self, number: u64) -> Self {
        self.bytes(&number.to_le_bytes())
    }

    pub(crate) fn bytes(self, bytes: &[u8]) -> Self {
        Self(bytes.iter().fold(self.0, |hash, &byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3)
        }))
    }

    pub(crate) fn finish(self) -> String {
        format!("{:016x}", self.0)
    }
}
