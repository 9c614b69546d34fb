//! Images in folders that are named after their classes.

mod layout;
mod left_out;
mod list;
mod names;
mod readable;
mod scan;
mod walk;

use std::path::{Path, PathBuf};

pub use layout::FolderLayout;
pub use left_out::LeftOut;
pub(crate) use names::{class_name, is_system_file, is_system_folder, split_called};
pub use readable::is_image;
pub(crate) use scan::check_is_folder;
pub(super) use scan::class_names;
use scan::{Scan, scan};
pub(crate) use walk::{Entered, Entry, entries};
use walk::{ImageFile, images_below};

use crate::dataset::{Dataset, Fingerprint, Sample, Split, check_index};
use crate::error::{Error, Result};
use crate::image::{ChoosePart, Image, ReadOptions};
use crate::subset::stratified_split;

/// Images in folders that are named after their classes, as torchvision's `ImageFolder`.
///
/// Classes are sorted by name, and the images of a class by path. Images may lie at any depth, and links are
/// followed. A file counts as an image by its extension, or by its content if it has no extension (see
/// [`is_image`]). All other files and folders are left out and counted ([`ImageFolder::left_out`]), including
/// hidden and system ones.
///
/// Accents in a class name may be composed (NFC) or decomposed (NFD). Both mean the same class, and the name is
/// stored as NFC.
///
/// # Example
/// ```no_run
/// use candle_vision_data::{Dataset, FolderSplit, ImageFolder, Split};
///
/// let train = ImageFolder::open("photos", Split::Train, FolderSplit::default())?;
/// println!("{} images of {:?}; left out: {}", train.len(), train.classes(), train.left_out());
/// # Ok::<(), candle_vision_data::Error>(())
/// ```
pub struct ImageFolder {
    folder: PathBuf,
    files: Vec<(ImageFile, u32)>,
    classes: Vec<String>,
    left_out: LeftOut,
    remarks: Vec<String>,
    options: ReadOptions,
}

/// How one folder of classes is divided into splits. The same seed gives the same splits.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct FolderSplit {
    /// Share of each class for [`Split::Val`], in `0.0..1.0`.
    pub val: f64,
    /// Share of each class for [`Split::Test`], in `0.0..1.0`.
    pub test: f64,
    /// The seed that chooses the images of each split.
    pub seed: u64,
}

impl FolderSplit {
    /// A fifth of each class for validation and nothing for tests.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the share of each class for [`Split::Val`], in `0.0..1.0`.
    pub fn val(self, val: f64) -> Self {
        Self { val, ..self }
    }

    /// Sets the share of each class for [`Split::Test`], in `0.0..1.0`.
    pub fn test(self, test: f64) -> Self {
        Self { test, ..self }
    }

    /// Sets the seed that chooses the images of each split.
    pub fn seed(self, seed: u64) -> Self {
        Self { seed, ..self }
    }
}

impl Default for FolderSplit {
    fn default() -> Self {
        Self { val: 0.2, test: 0.0, seed: 0 }
    }
}

impl ImageFolder {
    /// All images of one folder of classes.
    ///
    /// # Errors
    /// If the folder is missing or holds no class folders, or a class has no image.
    pub fn new(folder: impl AsRef<Path>) -> Result<Self> {
        Ok(Self::from_scan(scan(folder.as_ref())?))
    }

    /// All images of one folder of classes. The labels are indices into `classes`, for instance those of a
    /// checkpoint.
    ///
    /// # Errors
    /// Those of [`ImageFolder::new`], or if the folder has a class that is not among `classes`, or whose name several of
    /// them have. The folder may lack some of `classes`; [`ImageFolder::remarks`] names them.
    pub fn with_classes(folder: impl AsRef<Path>, classes: &[String]) -> Result<Self> {
        Self::with_class_ids(folder, classes, &[])
    }

    /// The same, but a class folder may also be called by one of `ids`: other names of the classes in the same order, such
    /// as the WordNet identifiers of ImageNet's. Two folders of one class are merged, with a remark.
    ///
    /// # Errors
    /// Those of [`ImageFolder::with_classes`].
    pub fn with_class_ids(
        folder: impl AsRef<Path>,
        classes: &[String],
        ids: &[String],
    ) -> Result<Self> {
        let mut found = scan(folder.as_ref())?;
        found.relabel(classes, ids)?;
        Ok(Self::from_scan(found))
    }

    /// The images of a folder without class folders, whose classes a list names, as ImageNet's validation images come.
    ///
    /// Each line of the list names a file and its class: `val.txt` (`ILSVRC2012_val_00000001.JPEG 65`), Kaggle's
    /// `LOC_val_solution.csv` (`ILSVRC2012_val_00000001,n01751748 111 108 441 193`), or any list of words or of CSV. The
    /// files go by their names or paths, with or without an ending. The classes go by the names in `classes`, by those in
    /// `ids` (other names in the same order, or none), or by their numbers from 0. Images that the list does not name
    /// are left out, with a remark.
    ///
    /// # Errors
    /// If the list cannot be read, names an image that is not there or the same one twice, or has an unknown class. A
    /// list of bare numbers, such as the ground truth of ILSVRC's development kit, does not say which image is meant.
    pub fn with_list(
        folder: impl AsRef<Path>,
        list: impl AsRef<Path>,
        classes: &[String],
        ids: &[String],
    ) -> Result<Self> {
        Ok(Self::from_scan(list::read(folder.as_ref(), list.as_ref(), classes, ids)?))
    }

    /// These images of `folder` with their labels.
    pub(super) fn of_rows(
        folder: &Path,
        rows: Vec<(PathBuf, u32)>,
        classes: &[String],
    ) -> Result<Self> {
        let file = |(path, label): (PathBuf, u32)| {
            let size = path.metadata().map_err(Error::io(&path))?.len();
            Ok((ImageFile { path, size }, label))
        };
        let mut files = rows.into_iter().map(file).collect::<Result<Vec<_>>>()?;
        // Class after class, as in every other image folder.
        files.sort_by_key(|(_, label)| *label);
        Ok(Self::from_scan(Scan {
            folder: folder.to_path_buf(),
            files,
            classes: classes.to_vec(),
            left_out: LeftOut::default(),
            remarks: Vec::new(),
        }))
    }

    /// The list of the images in `folder`, if that has images but no class folders, and a list lies in it or beside it
    /// under a usual name: `val.txt` or `val.csv` for a folder `val`, or Kaggle's `LOC_val_solution.csv`.
    pub fn find_list(folder: impl AsRef<Path>) -> Option<PathBuf> {
        let folder = folder.as_ref();
        layout::is_flat(folder).then(|| list::find(folder)).flatten()
    }

    /// One split of `root`. [`FolderLayout::find`] determines the layout.
    ///
    /// If the split has its own folder, its images are those of that folder. Otherwise one folder of classes is
    /// divided as `shares` says. That folder is `root`, or the training folder if there is no validation
    /// folder.
    ///
    /// In every split the classes are those of the training images.
    ///
    /// # Errors
    /// Those of [`FolderLayout::find`] and [`ImageFolder::new`]. Also if there is only one class, if the split
    /// has neither a folder nor a share, or if it has a class that the training folder lacks.
    pub fn open(root: impl AsRef<Path>, split: Split, shares: FolderSplit) -> Result<Self> {
        Self::open_layout(&FolderLayout::find(&root)?, split, shares)
    }

    /// The same for a layout that was found before.
    ///
    /// # Errors
    /// Those of [`ImageFolder::open`].
    pub fn open_layout(layout: &FolderLayout, split: Split, shares: FolderSplit) -> Result<Self> {
        if !layout.is_split() {
            return Self::deal_out(layout.root(), split, shares);
        }
        let Some(train) = layout.split(Split::Train) else {
            return Err(Self::no_folder(layout, Split::Train));
        };
        match (split, layout.split(split)) {
            (Split::Train, _) if layout.split(Split::Val).is_some() => {
                let found = scan(train)?;
                check_several_classes(train, &found.classes)?;
                Ok(Self::from_scan(found))
            }
            (Split::Train, _) => Self::deal_out(train, split, without_test(layout, shares)),
            (_, Some(folder)) => {
                let trained = class_names(train)?;
                check_several_classes(train, &trained)?;
                match layout.list(split) {
                    Some(list) => Self::with_list(folder, list, &trained, &[]),
                    None => Self::with_classes(folder, &trained),
                }
            }
            (Split::Val, None) => Self::deal_out(train, split, without_test(layout, shares)),
            (Split::Test, None) => Err(Self::no_folder(layout, split)),
        }
    }

    fn no_folder(layout: &FolderLayout, split: Split) -> Error {
        Error::NotFound {
            path: layout.root().join(split.name()),
            expected: format!("a folder of classes for the split `{split}` ({layout})"),
            remedy: "add it, or name one folder of classes to have it split".to_owned(),
        }
    }

    /// A part of one folder of classes, without the classes `left_out`.
    pub(super) fn divided(
        root: &Path,
        split: Split,
        shares: FolderSplit,
        left_out: &[&str],
    ) -> Result<Self> {
        let mut whole = scan(root)?;
        left_out.iter().for_each(|class| whole.remove_class(class));
        Self::part_of(whole, root, split, shares)
    }

    fn deal_out(root: &Path, split: Split, shares: FolderSplit) -> Result<Self> {
        Self::part_of(scan(root)?, root, split, shares)
    }

    fn part_of(mut whole: Scan, root: &Path, split: Split, shares: FolderSplit) -> Result<Self> {
        check_several_classes(root, &whole.classes)?;
        let fractions = [1.0 - shares.val - shares.test, shares.val, shares.test];
        let part = split as usize;
        // NaN is rejected by the division into splits itself.
        if fractions[part] <= 0.0 {
            let reason = format!(
                "of `{}` has no share: train {}, val {}, test {}",
                root.display(),
                fractions[0],
                fractions[1],
                fractions[2]
            );
            return Err(Error::InvalidSetting { setting: split.name(), reason });
        }
        let indices = dealt(&mut whole, &fractions, shares.seed)?.swap_remove(part);
        if indices.is_empty() {
            return Err(Error::Invalid {
                path: root.to_path_buf(),
                problem: format!("has too few images of each class for the split `{split}`"),
                remedy: "add images: at least two of a class".to_owned(),
            });
        }
        whole.files = indices.iter().map(|&index| whole.files[index].clone()).collect();
        Ok(Self::from_scan(whole))
    }

    fn from_scan(Scan { folder, files, classes, left_out, remarks }: Scan) -> Self {
        Self { folder, files, classes, left_out, remarks, options: ReadOptions::default() }
    }

    /// The same images, whose classes get other names, in the order of their labels: for instance words for the
    /// identifiers that the folders are called by.
    ///
    /// # Errors
    /// If there are more or fewer names than classes.
    pub fn with_class_names(self, names: &[String]) -> Result<Self> {
        if names.len() != self.classes.len() {
            return Err(Error::Invalid {
                path: self.folder,
                problem: format!(
                    "has {} classes, for which there are {} names",
                    self.classes.len(),
                    names.len()
                ),
                remedy: "give one name for each class".to_owned(),
            });
        }
        Ok(Self { classes: names.to_vec(), ..self })
    }

    /// The same images, read with these options.
    pub fn with_read_options(self, options: ReadOptions) -> Self {
        Self { options, ..self }
    }

    /// The folder that contains the class folders.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The files and folders that were left out.
    pub fn left_out(&self) -> &LeftOut {
        &self.left_out
    }

    /// How many files and folders were left out.
    pub fn ignored(&self) -> usize {
        self.left_out.total()
    }

    /// Remarks for the user, one line each: classes without images in this split, and class folders that were
    /// merged into one class.
    pub fn remarks(&self) -> &[String] {
        &self.remarks
    }

    /// The file of sample `index`.
    ///
    /// # Panics
    /// If there is no such sample.
    pub fn path(&self, index: usize) -> &Path {
        &self.files[index].0.path
    }
}

/// Finds all images in a folder and below it. Returns them sorted by path, and what was left out.
///
/// # Errors
/// If the folder cannot be read.
pub fn find_images(folder: impl AsRef<Path>) -> Result<(Vec<PathBuf>, LeftOut)> {
    let mut left_out = LeftOut::default();
    let files = images_below(folder.as_ref(), &mut left_out)?;
    Ok((files.into_iter().map(|file| file.path).collect(), left_out))
}

/// If there is a folder for tests, the training folder is divided only between training and validation.
fn without_test(layout: &FolderLayout, shares: FolderSplit) -> FolderSplit {
    let test = if layout.split(Split::Test).is_some() { 0.0 } else { shares.test };
    FolderSplit { test, ..shares }
}

/// Whether two names mean the same class, for instance one from a checkpoint and one from a folder. Accents may
/// be composed (NFC) or decomposed (NFD).
pub fn is_same_class(a: &str, b: &str) -> bool {
    a == b || names::class_name(a) == names::class_name(b)
}

fn check_several_classes(folder: &Path, classes: &[String]) -> Result<()> {
    match classes {
        [only] => Err(layout::single_class(folder, only)),
        _ => Ok(()),
    }
}

/// The sample indices of each part. A class with fewer images than there are parts gives one image to each of
/// the first parts.
fn dealt(whole: &mut Scan, fractions: &[f64], seed: u64) -> Result<Vec<Vec<usize>>> {
    let labels: Vec<u32> = whole.files.iter().map(|(_, label)| *label).collect();
    let mut counts = vec![0; whole.classes.len()];
    labels.iter().for_each(|&label| counts[label as usize] += 1);
    let filled: Vec<usize> = (0..fractions.len()).filter(|&part| fractions[part] > 0.0).collect();
    let is_small = |label: u32| counts[label as usize] < filled.len();
    let (small, large): (Vec<usize>, Vec<usize>) =
        (0..labels.len()).partition(|&index| is_small(labels[index]));
    let large_labels: Vec<u32> = large.iter().map(|&index| labels[index]).collect();
    let mut parts = stratified_split(&large_labels, fractions, seed)?;
    for index in parts.iter_mut().flatten() {
        *index = large[*index];
    }
    for samples in small.chunk_by(|&a, &b| labels[a] == labels[b]) {
        for (&index, &part) in samples.iter().zip(&filled) {
            parts[part].push(index);
        }
    }
    parts.iter_mut().for_each(|part| part.sort_unstable());
    let names: Vec<&String> = (0..whole.classes.len())
        .filter(|&label| is_small(label as u32))
        .map(|label| &whole.classes[label])
        .collect();
    if !names.is_empty() {
        whole.remarks.push(format!(
            "too few images to have some in each part: {}; the first go to training",
            names::listed(&names)
        ));
    }
    Ok(parts)
}

impl std::fmt::Debug for ImageFolder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut text = f.debug_struct("ImageFolder");
        text.field("folder", &self.folder).field("len", &self.len()).finish_non_exhaustive()
    }
}

impl Dataset for ImageFolder {
    fn len(&self) -> usize {
        self.files.len()
    }

    fn sample(&self, index: usize) -> Result<Sample> {
        check_index(index, self.len())?;
        let (file, label) = &self.files[index];
        Ok(Sample {
            image: Image::open_with(&file.path, &self.options)?,
            label: *label,
            mask: None,
        })
    }

    fn sample_part(&self, index: usize, choose: &mut ChoosePart<'_>) -> Result<Sample> {
        check_index(index, self.len())?;
        let (file, label) = &self.files[index];
        let image = Image::open_part_with(&file.path, &self.options, choose)?;
        Ok(Sample::new(image, *label))
    }

    fn image_file(&self, index: usize) -> Result<Option<Vec<u8>>> {
        check_index(index, self.len())?;
        let path = &self.files[index].0.path;
        std::fs::read(path).map(Some).map_err(Error::io(path))
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn label(&self, index: usize) -> u32 {
        self.files[index].1
    }

    fn name(&self, index: usize) -> String {
        self.files[index].0.path.display().to_string()
    }

    fn exif_orientation(&self) -> bool {
        self.options.exif_orientation
    }

    fn fingerprint(&self) -> String {
        // Turning changes the images, so it changes the fingerprint. The fingerprint without turning stays as
        // it always was.
        let kind = if self.options.exif_orientation { "upright folder" } else { "folder" };
        let classes = self.classes.iter().fold(Fingerprint::new(kind), |f, c| f.text(c));
        let add_file = |hash: Fingerprint, (file, label): &(ImageFile, u32)| {
            // The path of the folder is left out, so that a copy of the data counts as the same data.
            let name = file.path.file_name().unwrap_or_default().to_string_lossy();
            hash.text(&name).number(file.size).number(u64::from(*label))
        };
        self.files.iter().fold(classes, add_file).finish()
    }

    fn is_cacheable(&self) -> bool {
        true
    }
}
