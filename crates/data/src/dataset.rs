//! What a data set is: labelled images that can be asked for by index, from any thread.

use crate::error::{Error, Result};
use crate::image::Image;

/// An image with its class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// The image as stored, before any transform.
    pub image: Image,
    /// Index into [`Dataset::classes`].
    pub label: u32,
    /// Where the subject is, if known: grey, of the image's size, 255 on the subject, 0 off it.
    pub mask: Option<Image>,
}

/// Labelled images that can be asked for by index, from any thread.
///
/// # What a sample may depend on
/// The seed of a run decides its result, bit for bit and with any number of workers, if
/// [`Dataset::sample`] depends on the index alone. Random changes belong into
/// [`transforms`](crate::transforms), which draw from a generator of their own for each sample and
/// epoch. A data set may all the same give another sample each time it is asked, by a generator of its
/// own or by what is in a file by now; then such a run cannot be repeated. The loader asks for each
/// sample once an epoch, unless [`Dataset::is_cacheable`] says that once is enough. Length, labels,
/// classes and names must not change.
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

    /// Reads sample `index`. Its label must be [`Dataset::label`]'s.
    ///
    /// # Errors
    /// If there is no such sample, or its file is missing or damaged.
    fn sample(&self, index: usize) -> Result<Sample>;

    /// Names of the classes; a label is an index into it, so every label is below their number.
    fn classes(&self) -> &[String];

    /// Label of sample `index`, without reading its image.
    ///
    /// # Panics
    /// If there is no such sample.
    fn label(&self, index: usize) -> u32;

    /// What to call sample `index` in messages: a path, or `test[17]`.
    fn name(&self, index: usize) -> String;

    /// A short hash of the samples' names, sizes and labels, to notice that a data set is another
    /// one than a checkpoint was trained on. It reads no images, so changed pixels go unseen.
    fn fingerprint(&self) -> String;

    /// Whether images are turned upright as their EXIF data says. A checkpoint notes it, so that
    /// other images are shown to the network in the same way.
    fn exif_orientation(&self) -> bool {
        false
    }

    /// Whether the images lie in memory already, so that a cache would gain nothing.
    fn in_memory(&self) -> bool {
        false
    }

    /// Whether [`Dataset::sample`] gives the same sample whenever it is asked for an index, so that a
    /// [`DataLoader`](crate::DataLoader) may keep what it has read for later epochs
    /// ([`LoaderConfig::cache_bytes`](crate::LoaderConfig)). It is `false` unless a data set says
    /// otherwise: what is random must stay so. Say `true` for files that are decoded, which is most of
    /// the work of loading; the data sets of this crate do.
    fn is_cacheable(&self) -> bool {
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

/// How many samples each class has, in the order of [`Dataset::classes`]. Labels of no class are not
/// counted; [`check_labels`] finds them.
pub fn class_counts(dataset: &dyn Dataset) -> Vec<usize> {
    let mut counts = vec![0; dataset.classes().len()];
    for label in labels(dataset) {
        if let Some(count) = counts.get_mut(label as usize) {
            *count += 1;
        }
    }
    counts
}

/// Checks that every label is that of a class, without reading an image.
///
/// # Errors
/// [`Error::Label`] with the first sample whose label is not below the number of classes.
pub fn check_labels(dataset: &dyn Dataset) -> Result<()> {
    let classes = dataset.classes().len();
    (0..dataset.len())
        .try_for_each(|index| check_label(dataset, index, dataset.label(index), classes))
}

/// Checks one label of a data set against the number of classes.
///
/// # Errors
/// [`Error::Label`], which names the sample.
pub fn check_label(dataset: &dyn Dataset, index: usize, label: u32, classes: usize) -> Result<()> {
    if (label as usize) < classes {
        return Ok(());
    }
    Err(Error::Label { index, name: dataset.name(index), label, classes })
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
