//! The trait of data sets: labelled images, read by index from any thread.

use crate::error::{Error, Result};
use crate::image::{ChoosePart, Image, part_of};

/// An image with its class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// The image as stored, before any transform.
    pub image: Image,
    /// The class, as an index into [`Dataset::classes`].
    pub label: u32,
    /// A mask of the subject, if known: a grey image of the same size, 255 on the subject and 0 elsewhere.
    pub mask: Option<Image>,
}

impl Sample {
    /// A sample of this class without a mask.
    pub fn new(image: Image, label: u32) -> Self {
        Self { image, label, mask: None }
    }

    /// The same sample with a mask of the subject.
    pub fn with_mask(self, mask: Image) -> Self {
        Self { mask: Some(mask), ..self }
    }
}

/// The beginning of [`Dataset::fingerprint`] for a data set that cannot be recognised.
pub const UNRECOGNISED: &str = "unrecognised";

/// Labelled images, read by index from any thread.
///
/// Length, samples and classes are required. Everything else has a default. [`Samples`](crate::Samples) makes a
/// data set from a list and a function, without implementing the trait.
///
/// # What a sample may depend on
/// If [`Dataset::sample`] depends only on the index, the seed of a run determines its result, bit for bit and
/// with any number of workers. Random changes belong in [`transforms`](crate::transforms), which get their own
/// generator for each sample and epoch.
///
/// A data set may nevertheless return another sample each time. Then its runs cannot be repeated. The loader
/// reads each sample once an epoch, unless [`Dataset::is_cacheable`] says that once is enough. Length, labels,
/// classes and names must not change.
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

    /// Reads sample `index`. Its label must equal [`Dataset::label`].
    ///
    /// # Errors
    /// If there is no such sample, or its file is missing or damaged.
    fn sample(&self, index: usize) -> Result<Sample>;

    /// Reads sample `index`, of whose image only a part is needed. `choose` must be called once, with height and width of the
    /// image.
    ///
    /// The default reads the whole sample. Override it if a part can be read faster, for instance with
    /// [`Image::open_part_with`].
    ///
    /// # Errors
    /// Those of [`Dataset::sample`], or if the part is empty or not inside the image.
    fn sample_part(&self, index: usize, choose: &mut ChoosePart<'_>) -> Result<Sample> {
        let sample = self.sample(index)?;
        let image = part_of(&sample.image, choose)?;
        Ok(Sample { image, mask: None, ..sample })
    }

    /// Names of the classes. A label is an index into this list, so every label is below its length.
    fn classes(&self) -> &[String];

    /// Whether there are no samples.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Label of sample `index`.
    ///
    /// The default reads the whole sample. If that fails, it returns [`u32::MAX`], which is not a class.
    /// Override it if the label is known without the image, because a trainer asks for every label before it
    /// starts.
    ///
    /// # Panics
    /// A data set may panic if there is no such sample.
    fn label(&self, index: usize) -> u32 {
        self.sample(index).map_or(u32::MAX, |sample| sample.label)
    }

    /// All labels of sample `index`, if a sample may have several ([`Dataset::is_multi_label`]).
    ///
    /// The default is [`Dataset::label`] alone. [`multi_hot`] makes targets of these labels for a loss.
    fn label_set(&self, index: usize) -> Vec<u32> {
        vec![self.label(index)]
    }

    /// Whether a sample may have several labels or none. Then [`Dataset::label`] is the first of them, or 0.
    fn is_multi_label(&self) -> bool {
        false
    }

    /// The image file of sample `index`, byte for byte as it is stored. `None` if the image does not come from a file of its own or an
    /// entry of a larger one, which is the default.
    ///
    /// # Errors
    /// If there is no such sample, or its file cannot be read. Whether the bytes are an image is not checked.
    fn image_file(&self, index: usize) -> Result<Option<Vec<u8>>> {
        check_index(index, self.len())?;
        Ok(None)
    }

    /// The samples in a random order that suits the data set. `None` for any order, which is the default.
    ///
    /// A [`DataLoader`](crate::DataLoader) that shuffles uses it. Data that is fast only when it is read from front to back
    /// is shuffled within a window here. Each index must come once, and the order may depend only on seed and epoch.
    fn shuffled_order(&self, seed: u64, epoch: usize) -> Option<Vec<usize>> {
        let _ = (seed, epoch);
        None
    }

    /// The same for `ranks` processes that share an epoch: an order for each, so that each reads files of its own. `None` if they
    /// may share any order, which is the default.
    ///
    /// Each index must come once in all of them together, and their lengths may differ by one, the longer first.
    fn shuffled_orders(&self, seed: u64, epoch: usize, ranks: usize) -> Option<Vec<Vec<usize>>> {
        let _ = (seed, epoch, ranks);
        None
    }

    /// The number of files, or parts of files, that are read from front to back, if [`Dataset::shuffled_orders`] gives each
    /// process its own.
    fn shuffled_files(&self) -> Option<usize> {
        None
    }

    /// The name of sample `index` in messages: a path, or `test[17]`.
    fn name(&self, index: usize) -> String {
        format!("sample[{index}]")
    }

    /// A short text by which a resumed run notices that the data set is not the one it was trained on.
    /// [`Fingerprint`] makes such a text from names, sizes and labels.
    ///
    /// The default begins with [`UNRECOGNISED`] and contains the number of samples and a hash of the classes.
    /// It cannot distinguish two data sets that agree in these.
    fn fingerprint(&self) -> String {
        let classes = self.classes().iter();
        let hash =
            classes.fold(Fingerprint::new("classes"), |hash, class| hash.text(class)).finish();
        format!("{UNRECOGNISED}: {} samples of classes {hash}", self.len())
    }

    /// Whether images are turned upright as their EXIF data says. A checkpoint stores the answer, so that later
    /// images are shown to the network in the same way.
    fn exif_orientation(&self) -> bool {
        false
    }

    /// Whether the images are already in memory. A cache would then gain nothing.
    fn in_memory(&self) -> bool {
        false
    }

    /// Whether [`Dataset::sample`] returns the same sample every time for an index. Then a
    /// [`DataLoader`](crate::DataLoader) may keep samples for later epochs
    /// ([`LoaderConfig::cache_bytes`](crate::LoaderConfig)).
    ///
    /// The default is `false`. A cache would silently freeze a random data set, whereas decoding again each
    /// epoch is only slow. Return `true` for files that are decoded, because decoding is most of the work of
    /// loading. The data sets of this crate do.
    fn is_cacheable(&self) -> bool {
        false
    }
}

/// The part of a data set: for training, for validation or for the final test.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Split {
    /// The samples to train on.
    Train,
    /// The samples that decide which epoch was best.
    Val,
    /// The samples for a single test at the end.
    Test,
}

impl Split {
    /// `train`, `val` or `test`. Folders and messages use this name.
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

/// The number of samples of each class, in the order of [`Dataset::classes`]. A sample of several labels counts for each of
/// them. Labels that belong to no class are not counted. [`check_labels`] finds them.
pub fn class_counts(dataset: &dyn Dataset) -> Vec<usize> {
    let mut counts = vec![0; dataset.classes().len()];
    let mut count = |label: u32| {
        if let Some(count) = counts.get_mut(label as usize) {
            *count += 1;
        }
    };
    match dataset.is_multi_label() {
        true => (0..dataset.len()).flat_map(|i| dataset.label_set(i)).for_each(&mut count),
        false => labels(dataset).into_iter().for_each(&mut count),
    }
    counts
}

/// Targets for a loss on several labels per sample: 1 for each label of a sample, and 0 elsewhere.
///
/// # Shapes
/// - returns `[samples, classes]`, f32, on the CPU; [`Batch::indices`](crate::Batch) are the samples of a batch
///
/// # Errors
/// If a sample does not exist, or a label is not that of a class.
///
/// # Example
/// ```
/// use candle_vision_data::{Image, Samples, multi_hot};
///
/// let set = Samples::new(["a", "b", "c"], [((), 2), ((), 0)], |()| Image::new(1, 1, 1, vec![0]));
/// let targets = multi_hot(&set, &[1, 0])?;
/// assert_eq!(targets.to_vec2::<f32>()?, [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]);
/// # Ok::<(), candle_vision_data::Error>(())
/// ```
pub fn multi_hot(dataset: &dyn Dataset, samples: &[usize]) -> Result<candle_core::Tensor> {
    let shape = (samples.len(), dataset.classes().len());
    let targets = multi_hot_values(dataset, samples)?;
    Ok(candle_core::Tensor::from_vec(targets, shape, &candle_core::Device::Cpu)?)
}

/// The values of [`multi_hot`], row by row.
pub(crate) fn multi_hot_values(dataset: &dyn Dataset, samples: &[usize]) -> Result<Vec<f32>> {
    let classes = dataset.classes().len();
    let mut targets = vec![0_f32; samples.len() * classes];
    for (row, &index) in samples.iter().enumerate() {
        check_index(index, dataset.len())?;
        for label in dataset.label_set(index) {
            check_label(dataset, index, label, classes)?;
            targets[row * classes + label as usize] = 1.0;
        }
    }
    Ok(targets)
}

/// Checks that every label belongs to a class. Images are read only if the data set does not know its labels
/// without them. A broken image is not an error here: the loader reports or skips it.
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

/// Checks that one label of a data set is below the number of classes.
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

/// A short hash of the contents of a data set, for [`Dataset::fingerprint`].
///
/// The hash is FNV-1a with 64 bits. Unlike the standard library's hasher, it is the same in every version.
/// Intentional collisions do not matter here.
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
    /// Starts a hash for a kind of data set.
    pub fn new(kind: &str) -> Self {
        Self(0xCBF2_9CE4_8422_2325).text(kind)
    }

    /// Adds a text.
    pub fn text(self, text: &str) -> Self {
        // The length comes first, so that ("ab", "c") and ("a", "bc") differ.
        self.number(text.len() as u64).bytes(text.as_bytes())
    }

    /// Adds a number.
    pub fn number(self, number: u64) -> Self {
        self.bytes(&number.to_le_bytes())
    }

    /// Adds bytes.
    pub fn bytes(self, bytes: &[u8]) -> Self {
        Self(bytes.iter().fold(self.0, |hash, &byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3)
        }))
    }

    /// The hash as 16 hexadecimal digits.
    pub fn finish(self) -> String {
        format!("{:016x}", self.0)
    }
}
