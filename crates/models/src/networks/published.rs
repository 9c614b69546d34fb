//! Weights that somebody trained and published.

use std::sync::{Arc, LazyLock};

/// One line a class, in the order of the logits: the names in torchvision's
/// `torchvision/models/_meta.py` (`_IMAGENET_CATEGORIES`, BSD-3-Clause).
const IMAGENET_CLASSES: &str = include_str!("imagenet_classes.txt");

/// One line a class: WordNet's identifiers in their order, which is that of the classes (ILSVRC 2012).
const IMAGENET_SYNSETS: &str = include_str!("imagenet_synsets.txt");

/// Weights that somebody trained and published, as plain facts.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct PublishedWeights {
    /// What the publisher calls them, such as `IMAGENET1K_V1`.
    pub name: String,
    /// The name of the file here, without the extension: `weights/FILE.safetensors` in the data folder.
    pub file: String,
    /// Where the publisher keeps them.
    pub url: String,
    /// The SHA-256 of the file at the address in hexadecimal digits, or as many of its first ones as the
    /// publisher names. It is empty for files of the Hugging Face hub, which names it when a file is fetched.
    pub sha256: String,
    /// Who published them, and under which licence.
    pub source: String,
    /// Top-1 accuracy on the publisher's validation set, a fraction in `0.0..=1.0`; 0 where it is not known.
    pub accuracy: f64,
    /// Top-5 accuracy, a fraction in `0.0..=1.0`; 0 where it is not known.
    pub top5_accuracy: f64,
    /// Size of the file at the address in bytes, to three digits; 0 where it is not known.
    pub bytes: u64,
    /// Learned numbers of the network with these classes; 0 where it is not known.
    pub parameters: usize,
    /// Multiply-adds of one image of the preprocessing's size; 0 where it is not known.
    pub multiply_adds: u64,
    /// Number of classes that they tell apart; 0 for a backbone without a head.
    pub num_classes: usize,
    /// What images go through before the network sees them.
    pub preprocessing: EvalPreprocessing,
}

/// What images go through before a network is evaluated on them. Values are in the order red, green, blue.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct EvalPreprocessing {
    /// The shorter side after resizing, in pixels.
    pub resize: usize,
    /// Height and width of the middle that is cut out, in pixels.
    pub crop: usize,
    /// How pixels are made when the image is resized.
    pub interpolation: ResizeInterpolation,
    /// What is taken off each channel, whose values are in `0.0..=1.0`.
    pub mean: [f64; 3],
    /// What each channel is then divided by.
    pub std: [f64; 3],
}

/// How pixels are made when an image is resized; both are widened when it shrinks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ResizeInterpolation {
    /// A triangle of the pixels around.
    Bilinear,
    /// A cubic of the pixels around.
    Bicubic,
}

impl EvalPreprocessing {
    /// torchvision's `ImageClassification` for ImageNet: the shorter side to 256 (bilinear), the middle
    /// 224x224, ImageNet's mean and standard deviation.
    pub const IMAGENET: Self = Self {
        resize: 256,
        crop: 224,
        interpolation: ResizeInterpolation::Bilinear,
        mean: [0.485, 0.456, 0.406],
        std: [0.229, 0.224, 0.225],
    };

    /// Sets the shorter side after resizing and the side of the middle that is cut out, in pixels.
    pub fn sizes(self, resize: usize, crop: usize) -> Self {
        Self { resize, crop, ..self }
    }

    /// Sets how pixels are made when the image is resized.
    pub fn interpolation(self, interpolation: ResizeInterpolation) -> Self {
        Self { interpolation, ..self }
    }

    /// Sets what is taken off each channel, and what it is then divided by.
    pub fn normalize(self, mean: [f64; 3], std: [f64; 3]) -> Self {
        Self { mean, std, ..self }
    }
}

impl PublishedWeights {
    /// Weights called `name` in `file`, which tell `num_classes` classes apart and want ImageNet's
    /// preprocessing.
    pub fn new(name: &str, file: &str, num_classes: usize) -> Self {
        Self {
            name: name.to_owned(),
            file: file.to_owned(),
            url: String::new(),
            sha256: String::new(),
            source: String::new(),
            accuracy: 0.0,
            top5_accuracy: 0.0,
            bytes: 0,
            parameters: 0,
            multiply_adds: 0,
            num_classes,
            preprocessing: EvalPreprocessing::IMAGENET,
        }
    }

    /// Sets where the publisher keeps them, and the SHA-256 of that file or its first digits.
    pub fn url(mut self, url: &str, sha256: &str) -> Self {
        (self.url, self.sha256) = (url.to_owned(), sha256.to_owned());
        self
    }

    /// Sets who published them, and under which licence.
    pub fn source(mut self, source: &str) -> Self {
        self.source = source.to_owned();
        self
    }

    /// Sets the top-1 accuracy, a fraction in `0.0..=1.0`.
    pub fn accuracy(mut self, accuracy: f64) -> Self {
        self.accuracy = accuracy;
        self
    }

    /// Sets the top-5 accuracy, a fraction in `0.0..=1.0`.
    pub fn top5_accuracy(mut self, accuracy: f64) -> Self {
        self.top5_accuracy = accuracy;
        self
    }

    /// Sets how many numbers the network has learned, and how many multiply-adds an image takes.
    pub fn costs(mut self, parameters: usize, multiply_adds: u64) -> Self {
        (self.parameters, self.multiply_adds) = (parameters, multiply_adds);
        self
    }

    /// Sets the size of the file in bytes.
    pub fn bytes(mut self, bytes: u64) -> Self {
        self.bytes = bytes;
        self
    }

    /// Sets what images go through before the network sees them.
    pub fn preprocessing(mut self, preprocessing: EvalPreprocessing) -> Self {
        self.preprocessing = preprocessing;
        self
    }
}

/// What torchvision says of its ImageNet weights; `tests/reference/published.py` makes it.
const TORCHVISION_WEIGHTS: &str = include_str!("torchvision_weights.tsv");

/// A line of [`TORCHVISION_WEIGHTS`].
pub(super) struct TorchvisionWeights {
    pub(super) weights: PublishedWeights,
    /// Side of the smallest image that the network takes, in pixels.
    pub(super) smallest: usize,
}

impl TorchvisionWeights {
    /// Those of `network`, the best first.
    pub(super) fn of(network: &str) -> impl Iterator<Item = Self> {
        let lines = TORCHVISION_WEIGHTS.lines().filter(|line| !line.starts_with('#'));
        let lines = lines.map(|line| line.split('\t').collect::<Vec<_>>());
        let own = lines.filter(move |fields| fields[0] == network);
        own.map(|fields| Self::parse(&fields).expect("a test reads every line"))
    }

    fn parse(fields: &[&str]) -> Option<Self> {
        let [network, name, file, accuracy, top5, parameters, gmacs, mib, rest @ ..] = fields
        else {
            return None;
        };
        let [resize, crop, interpolation, smallest, mean, std] = rest else {
            return None;
        };
        let of_channels = |text: &str| -> Option<[f64; 3]> {
            let numbers: Option<Vec<f64>> = text.split(',').map(|n| n.parse().ok()).collect();
            numbers?.try_into().ok()
        };
        let interpolation = match *interpolation {
            "bilinear" => ResizeInterpolation::Bilinear,
            "bicubic" => ResizeInterpolation::Bicubic,
            _ => return None,
        };
        // torchvision's two oldest networks turn ImageNet's mean and standard deviation into those of their
        // first authors inside the network (`transform_input`).
        let (mean, std) = match *network {
            "googlenet" | "inception_v3" => ([0.5; 3], [0.5; 3]),
            _ => (of_channels(mean)?, of_channels(std)?),
        };
        let preprocessing = EvalPreprocessing { interpolation, ..EvalPreprocessing::IMAGENET }
            .sizes(resize.parse().ok()?, crop.parse().ok()?)
            .normalize(mean, std);
        let (stem, _) = file.rsplit_once('.')?;
        let (_, sha256) = stem.rsplit_once('-')?;
        let local = match *name {
            "IMAGENET1K_V1" => (*network).to_owned(),
            _ => format!("{network}-{}", name.to_lowercase()),
        };
        let source = match name.contains("SWAG") {
            true => "Meta AI's SWAG by torchvision, CC-BY-NC 4.0",
            false => "torchvision, BSD-3-Clause",
        };
        let weights = PublishedWeights::new(name, &local, 1000)
            .url(&format!("https://download.pytorch.org/models/{file}"), sha256)
            .source(source)
            .accuracy(accuracy.parse::<f64>().ok()? / 100.0)
            .top5_accuracy(top5.parse::<f64>().ok()? / 100.0)
            .costs(parameters.parse().ok()?, (gmacs.parse::<f64>().ok()? * 1e9) as u64)
            .bytes((mib.parse::<f64>().ok()? * 1024.0 * 1024.0) as u64)
            .preprocessing(preprocessing);
        Some(Self { weights, smallest: smallest.parse().ok()? })
    }
}

/// The names of the 1000 classes of ImageNet-1k, in the order of the logits of networks trained on it:
/// those of torchvision.
///
/// ```
/// let names = candle_vision_models::imagenet_classes();
/// assert_eq!((names.len(), names[310].as_str()), (1000, "ant"));
/// assert_eq!(names[309], "bee");
/// ```
pub fn imagenet_classes() -> Arc<[String]> {
    static NAMES: LazyLock<Arc<[String]>> =
        LazyLock::new(|| IMAGENET_CLASSES.lines().map(str::to_owned).collect());
    NAMES.clone()
}

/// The WordNet identifiers of the 1000 classes of ImageNet-1k (`n01440764`, ...), in the order of
/// [`imagenet_classes`]: the names of the class folders in ImageNet's own layout.
///
/// ```
/// let synsets = candle_vision_models::imagenet_synsets();
/// assert_eq!((synsets.len(), synsets[309].as_str()), (1000, "n02206856"));
/// ```
pub fn imagenet_synsets() -> Arc<[String]> {
    static SYNSETS: LazyLock<Arc<[String]>> =
        LazyLock::new(|| IMAGENET_SYNSETS.lines().map(str::to_owned).collect());
    SYNSETS.clone()
}
