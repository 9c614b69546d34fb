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

impl Sample {
    /// An image of a class.
    pub fn new(image: Image, label: u32) -> Self {
        Self { image, label, mask: None }
    }

    /// The same, with a mask of the subject.
    pub fn with_mask(self, mask: Image) -> Self {
        Self { mask: Some(mask), ..self }
    }
}

/// What [`Dataset::fingerprint`] begins with for a data set that cannot be recognised.
pub const UNRECOGNISED: &str = "unrecognised";

/// Labelled images that can be asked for by index, from any thread.
///
/// Length, samples and classes are required; everything else has a default. [`Samples`](crate::Samples)
/// makes a data set from a list and a function, without a trait.
///
/// # What a sample may depend on
/// The seed of a run decides its result, bit for bit and with any number of workers, if
/// [`Dataset::sample`] depends on the index alone. Random changes belong into
/// [`transforms`](crate::transforms), which draw from a generator of their own for each sample and
/// epoch. A data set may all the same give another sample each time it is asked. Then such a run cannot be
/// repeated. The loader asks for each sample once an epoch, unless [`Dataset::is_cacheable`] says that
/// once is enough. Length, labels, classes and names must not change.
///
/// # Example
/// ```
/// use candle_vision_data::{Dataset, Image, Result, Sample};
///
/// struct Levels { classes: Vec<String> }
///
/// impl Dataset for Levels {
///     fn len(&self) -> usize { 256 }
///     fn sample(&self, index: usize) -> Result<Sample> {
///         let image = Image::new(8, 8, 1, vec![index as u8; 64])?;
///         Ok(Sample::new(image, u32::from(index >= 128)))
///     }
///     fn classes(&self) -> &[String] { &self.classes }
/// }
///
/// let levels = Levels { classes: vec!["dark".to_owned(), "bright".to_owned()] };
/// assert_eq!((levels.label(200), levels.name(200).as_str()), (1, "sample[200]"));
/// # Ok::<(), candle_vision_data::Error>(())
/// ```
pub trait Dataset: Send + Sync {
    /// Number of samples.
    fn len(&self) -> usize;

    /// Reads sample `index`. Its label must be [`Dataset::label`]'s.
    ///
    /// # Errors
    /// If there is no such sample, or its file is missing or damaged.
    fn sample(&self, index: usize) -> Result<Sample>;

    /// Names of the classes; a label is an index into it, so every label is below their number.
    fn classes(&self) -> &[String];

    /// Whether there are no samples.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Label of sample `index`.
    ///
    /// The default reads the whole sample, and gives [`u32::MAX`], which is no class, if that fails.
    /// Override it where the label is known without the image: a trainer asks for every label before it
    /// begins.
    ///
    /// # Panics
    /// A data set may panic if there is no such sample.
    fn label(&self, index: usize) -> u32 {
        self.sample(index).map_or(u32::MAX, |sample| sample.label)
    }

    /// What to call sample `index` in messages: a path, or `test[17]`.
    fn name(&self, index: usize) -> String {
        format!("sample[{index}]")
    }

    /// A short text by which a resumed run notices that a data set is another one than it was trained
    /// on; [`Fingerprint`] makes one of names, sizes and labels.
    ///
    /// The default begins with [`UNRECOGNISED`] and says how many samples and which classes there are:
    /// it cannot tell two data sets apart that agree in these.
    fn fingerprint(&self) -> String {
        let classes = self.classes().iter();
        let hash =
            classes.fold(Fingerprint::new("classes"), |hash, class| hash.text(class)).finish();
        format!("{UNRECOGNISED}: {} samples of classes {hash}", self.len())
    }

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
    /// ([`LoaderConfig::cache_bytes`](crate::LoaderConfig)).
    ///
    /// It is `false` unless a data set says otherwise, because a cache would freeze a random data set
    /// without a sign of it, whereas a set that is decoded again each epoch is slow at worst. Say `true`
    /// for files that are decoded, which is most of the work of loading; the data sets of this crate do.
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

/// Checks that every label is that of a class. Images are read only if the data set does not know its
/// labels without them; a broken one is then left to the loader, which may skip it.
///
/// # Errors
/// [`Error::Label`] with the first sample whose label is not below the number of classes.
pub fn check_labels(dataset: &dyn Dataset) -> Result<()> {
    let classes = dataset.classes().len();
    (0..dataset.len()).try_for_each(|index| match dataset.label(index) {
        u32::MAX => match dataset.sample(index) {
            Err(error) if error.is_broken_image() => Ok(()),
            sample => check_label(dataset, index, sample?.label, classes),
        },
        label => check_label(dataset, index, label, classes),
    })
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

/// A short hash of what a data set is made of, for [`Dataset::fingerprint`].
///
/// It is FNV-1a with 64 bits. Unlike the standard library's hasher it is the same in every version, and
/// collisions on purpose do not matter here.
///
/// ```
/// use candle_vision_data::Fingerprint;
///
/// let rows = [("a.jpg", 0), ("b.jpg", 1)];
/// let hash = rows.iter().fold(Fingerprint::new("my set"), |hash, (name, label)| {
///     hash.text(name).number(*label)
/// });
/// assert_eq!(hash.finish().len(), 16);
/// ```
#[derive(Clone, Debug)]
pub struct Fingerprint(u64);

impl Fingerprint {
    /// Of a kind of data set.
    pub fn new(kind: &str) -> Self {
        Self(0xCBF2_9CE4_8422_2325).text(kind)
    }

    /// And of this text.
    pub fn text(self, text: &str) -> Self {
        // The length first, so that ("ab", "c") and ("a", "bc") differ.
        self.number(text.len() as u64).bytes(text.as_bytes())
    }

    /// And of this number.
    pub fn number(self, number: u64) -> Self {
        self.bytes(&number.to_le_bytes())
    }

    /// And of these bytes.
    pub fn bytes(self, bytes: &[u8]) -> Self {
        Self(bytes.iter().fold(self.0, |hash, &byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3)
        }))
    }

    /// All of it as 16 hexadecimal digits.
    pub fn finish(self) -> String {
        format!("{:016x}", self.0)
    }
}
