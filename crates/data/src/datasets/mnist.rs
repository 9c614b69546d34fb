//! MNIST: 28x28 grey digits, 60,000 for training and 10,000 for tests.

use std::path::{Path, PathBuf};

use super::{DataSetEntry, OpenRequest, Opened, find_folder, idx, remedy};
use crate::dataset::{Dataset, Fingerprint, Sample, Split, check_index};
use crate::error::{Error, Result};
use crate::image::Image;

/// A data set in the file format of MNIST.
pub(super) struct Kind {
    name: &'static str,
    /// The possible folders of its files, relative to the given folder.
    folders: Vec<&'static str>,
    classes: Vec<String>,
    /// The beginnings of the names of the files to train on and of those for tests.
    stems: [String; 2],
}

impl Kind {
    /// A data set whose files have MNIST's names.
    pub(super) fn new(name: &'static str, folders: &[&'static str], classes: &[&str]) -> Self {
        Self {
            name,
            folders: folders.to_vec(),
            classes: classes.iter().map(|&class| class.to_owned()).collect(),
            stems: ["train", "t10k"].map(str::to_owned),
        }
    }

    /// Sets the beginnings of the names of the files to train on and of those for tests.
    pub(super) fn stems(self, stems: [String; 2]) -> Self {
        Self { stems, ..self }
    }
}

const CLASSES: [&str; 10] = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"];

pub(super) fn entry() -> DataSetEntry {
    DataSetEntry::new("mnist", "handwritten digits, 28x28 grey, 10 classes", open)
        .lies_in(["mnist"])
        .fetched_as("mnist")
        .image_shape([1, 28, 28])
}

fn open(request: &OpenRequest) -> Result<Opened> {
    Ok(Mnist::open(request.data_dir.join("mnist"), request.split)?.into())
}

/// MNIST in memory, or another data set in its file format ([`Mnist::open_fashion`], or
/// [`Mnist::with_classes`]).
///
/// The files are `train-images-idx3-ubyte`, `train-labels-idx1-ubyte`, `t10k-images-idx3-ubyte` and
/// `t10k-labels-idx1-ubyte`, each with or without `.gz`. There is no validation part, so [`Split::Val`] and
/// [`Split::Test`] are both the 10,000 test images.
pub struct Mnist {
    split: Split,
    images: Vec<u8>,
    height: usize,
    width: usize,
    labels: Vec<u8>,
    classes: Vec<String>,
}

impl Mnist {
    /// Reads a split from `folder`, or from `mnist/` or `MNIST/raw/` in it.
    ///
    /// # Errors
    /// If a file is missing, is not an idx file or has another size than its header says, if the numbers of
    /// images and labels differ, or if a label is above 9.
    pub fn open(folder: impl AsRef<Path>, split: Split) -> Result<Self> {
        let kind = Kind::new("MNIST", &["", "mnist", "MNIST/raw"], &CLASSES);
        Self::open_kind(folder.as_ref(), split, kind)
    }

    pub(super) fn open_kind(root: &Path, split: Split, kind: Kind) -> Result<Self> {
        let stem = &kind.stems[usize::from(split != Split::Train)];
        let images = format!("{stem}-images-idx3-ubyte");
        let has_images = |folder: &Path| idx_file(folder, &images).is_some();
        let folder = find_folder(root, &kind.folders, has_images);
        let folder = folder.unwrap_or_else(|| root.to_path_buf());
        let images_path = required_file(&folder, &images, &kind)?;
        let labels = format!("{stem}-labels-idx1-ubyte");
        let labels_path = required_file(&folder, &labels, &kind)?;

        let images = idx::read(&images_path, 3)?;
        let labels = idx::read(&labels_path, 1)?.bytes;
        let invalid = |problem: String| Error::Invalid {
            path: labels_path.clone(),
            problem,
            remedy: "fetch both again".to_owned(),
        };
        if labels.len() != images.dims[0] {
            let count = images.dims[0];
            let problem = format!(
                "has {} labels for the {count} images of `{}`",
                labels.len(),
                images_path.display()
            );
            return Err(invalid(problem));
        }
        let most = kind.classes.len() - 1;
        if let Some(index) = labels.iter().position(|&label| usize::from(label) > most) {
            return Err(invalid(format!("has label {} at {index}, above {most}", labels[index])));
        }
        let (height, width) = (images.dims[1], images.dims[2]);
        Ok(Self { split, images: images.bytes, height, width, labels, classes: kind.classes })
    }

    /// The same images with other class names.
    ///
    /// # Errors
    /// If the number of names is not that of the classes.
    pub fn with_classes(mut self, names: &[&str]) -> Result<Self> {
        if names.len() != self.classes.len() {
            let reason = format!("must be {} names, not {}", self.classes.len(), names.len());
            return Err(Error::InvalidSetting { setting: "classes", reason });
        }
        self.classes = names.iter().map(|&name| name.to_owned()).collect();
        Ok(self)
    }

    /// The same images with rows and columns exchanged.
    pub(super) fn transposed(mut self) -> Self {
        let (height, width) = (self.height, self.width);
        for image in self.images.chunks_exact_mut(height * width) {
            let turned: Vec<u8> =
                (0..height * width).map(|i| image[i % height * width + i / height]).collect();
            image.copy_from_slice(&turned);
        }
        Self { height: width, width: height, ..self }
    }
}

impl std::fmt::Debug for Mnist {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut text = f.debug_struct("Mnist");
        text.field("split", &self.split).field("len", &self.len()).finish_non_exhaustive()
    }
}

impl Dataset for Mnist {
    fn len(&self) -> usize {
        self.labels.len()
    }

    fn sample(&self, index: usize) -> Result<Sample> {
        check_index(index, self.len())?;
        let area = self.height * self.width;
        let pixels = self.images[index * area..][..area].to_vec();
        let image = Image::new(self.width, self.height, 1, pixels)?;
        Ok(Sample { image, label: self.label(index), mask: None })
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn label(&self, index: usize) -> u32 {
        u32::from(self.labels[index])
    }

    fn name(&self, index: usize) -> String {
        format!("{}[{index}]", self.split)
    }

    fn fingerprint(&self) -> String {
        let sizes = Fingerprint::new("mnist").number(self.height as u64).number(self.width as u64);
        sizes.bytes(&self.labels).finish()
    }

    fn in_memory(&self) -> bool {
        true
    }

    fn is_cacheable(&self) -> bool {
        true
    }
}

/// The file called `name`: gzipped or not, and with a dot instead of the second dash or not.
fn idx_file(folder: &Path, name: &str) -> Option<PathBuf> {
    let dotted = name.replace("-idx", ".idx");
    let spellings = [name.to_owned(), format!("{name}.gz"), dotted.clone(), format!("{dotted}.gz")];
    spellings.into_iter().map(|spelling| folder.join(spelling)).find(|path| path.is_file())
}

fn required_file(folder: &Path, name: &str, kind: &Kind) -> Result<PathBuf> {
    idx_file(folder, name).ok_or_else(|| Error::NotFound {
        path: folder.join(name),
        expected: format!("a file of {}, with or without .gz", kind.name),
        remedy: remedy::FETCH.to_owned(),
    })
}
