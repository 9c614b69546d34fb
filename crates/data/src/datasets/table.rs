//! Data sets by name.

use std::borrow::Cow;
use std::fmt;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_vision_registry::{Description, Entry, Table, TableError};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::{FolderLayout, ImageFolder, LeftOut, Remote};
use crate::dataset::{Dataset, Split};
use crate::error::{Error, Result};
use crate::image::ReadOptions;

/// The part of a data set to open, and the settings. Each data set uses only the settings that it needs.
///
/// ```
/// use candle_vision_data::{OpenRequest, Split};
///
/// let request = OpenRequest::new("data", Split::Train).path("photos").val_fraction(0.1);
/// assert_eq!(request.path.as_deref(), Some("photos".as_ref()));
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct OpenRequest {
    /// The folder that contains the folders of known data sets.
    pub data_dir: PathBuf,
    /// The part to open.
    pub split: Split,
    /// The run's seed, for data sets that are drawn.
    pub seed: u64,
    /// How image files are read.
    pub read: ReadOptions,
    /// The path of the user's own data.
    pub path: Option<PathBuf>,
    /// The list that names the classes of an image folder's validation images, if these lie in no class folders
    /// ([`ImageFolder::with_list`]).
    pub val_list: Option<PathBuf>,
    /// The share of an image folder without validation images that is kept for validation, in `0.0..1.0`.
    pub val_fraction: f64,
    /// Number of training images, for a data set that is drawn.
    pub train_images: usize,
    /// Number of images of each other split, for a data set that is drawn.
    pub val_images: usize,
    /// Width and height of drawn images, in pixels.
    pub image_size: usize,
    /// Settings of a data set's own, by name: the table `[data.options]` of a recipe.
    pub options: Map<String, Value>,
    /// How files on servers are opened, for data sets that may lie there.
    pub remote: Option<Remote>,
}

impl OpenRequest {
    /// The defaults of recipes: 800 drawings of 128 pixels for training and 200 for each other split, and a
    /// fifth of a folder for validation.
    pub fn new(data_dir: impl Into<PathBuf>, split: Split) -> Self {
        Self {
            data_dir: data_dir.into(),
            split,
            seed: 0,
            read: ReadOptions::default(),
            path: None,
            val_list: None,
            val_fraction: 0.2,
            train_images: 800,
            val_images: 200,
            image_size: 128,
            options: Map::new(),
            remote: None,
        }
    }

    /// Sets the split.
    pub fn split(self, split: Split) -> Self {
        Self { split, ..self }
    }

    /// Sets the seed.
    pub fn seed(self, seed: u64) -> Self {
        Self { seed, ..self }
    }

    /// Sets how image files are read.
    pub fn read(self, read: ReadOptions) -> Self {
        Self { read, ..self }
    }

    /// Sets the path of the user's own data.
    pub fn path(self, path: impl Into<PathBuf>) -> Self {
        Self { path: Some(path.into()), ..self }
    }

    /// Sets the list of the classes of the validation images.
    pub fn val_list(self, list: impl Into<PathBuf>) -> Self {
        Self { val_list: Some(list.into()), ..self }
    }

    /// Sets the share that is kept for validation.
    pub fn val_fraction(self, val_fraction: f64) -> Self {
        Self { val_fraction, ..self }
    }

    /// Sets the numbers of drawings, and their width and height in pixels.
    pub fn drawings(self, train_images: usize, val_images: usize, image_size: usize) -> Self {
        Self { train_images, val_images, image_size, ..self }
    }

    /// Sets how files on servers are opened.
    pub fn remote(self, remote: Remote) -> Self {
        Self { remote: Some(remote), ..self }
    }

    /// Adds a setting of a data set's own.
    pub fn option(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.options.insert(name.to_owned(), value.into());
        self
    }

    /// The settings of the data set `name` as its own struct.
    ///
    /// # Errors
    /// If a setting is missing, of another type, or unknown to a struct with `deny_unknown_fields`.
    ///
    /// # Example
    /// ```
    /// use candle_vision_data::{OpenRequest, Split};
    ///
    /// #[derive(serde::Deserialize)]
    /// #[serde(deny_unknown_fields)]
    /// struct Options { window: usize }
    ///
    /// let request = OpenRequest::new("data", Split::Train).option("window", 7);
    /// assert_eq!(request.settings::<Options>("my set")?.window, 7);
    /// # Ok::<(), candle_vision_data::Error>(())
    /// ```
    pub fn settings<T: DeserializeOwned>(&self, name: &str) -> Result<T> {
        Ok(self.description(name).settings()?)
    }

    /// For a data set without settings of its own: that none is given.
    ///
    /// # Errors
    /// If there is a setting.
    pub fn no_settings(&self, name: &str) -> Result<()> {
        Ok(self.description(name).no_settings()?)
    }

    fn description(&self, name: &str) -> Description {
        Description { name: name.to_owned(), settings: self.options.clone() }
    }
}

/// An opened data set, with remarks for the user.
#[derive(Clone)]
#[non_exhaustive]
pub struct Opened {
    /// The data set.
    pub dataset: Arc<dyn Dataset>,
    /// Remarks for the user, one line each.
    pub remarks: Vec<String>,
    /// The folder that was searched for images, and the counts of what was left out of it.
    pub left_out: Option<(PathBuf, LeftOut)>,
}

impl<D: Dataset + 'static> From<D> for Opened {
    fn from(dataset: D) -> Self {
        Self { dataset: Arc::new(dataset), remarks: Vec::new(), left_out: None }
    }
}

impl Opened {
    /// An image folder with its remarks and what it left out.
    pub fn folder(folder: ImageFolder) -> Self {
        let left_out = Some((folder.folder().to_path_buf(), folder.left_out().clone()));
        Self { remarks: folder.remarks().to_vec(), left_out, ..Self::from(folder) }
    }
}

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = f.debug_struct("Opened");
        text.field("len", &self.dataset.len()).field("remarks", &self.remarks);
        text.finish_non_exhaustive()
    }
}

/// The place of a data set on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Place {
    /// Its folder or file.
    pub path: PathBuf,
    /// Whether the user named it. If not, it is inside the data folder.
    pub is_own: bool,
    /// Whether the path may be a pattern of paths or an address, so that the file system cannot say whether it exists.
    pub is_pattern: bool,
}

impl Place {
    /// Whether nothing is known to be missing there. Patterns and addresses are looked up when they are opened.
    pub fn exists(&self) -> bool {
        self.is_pattern || self.path.exists()
    }
}

type Open = dyn Fn(&OpenRequest) -> Result<Opened> + Send + Sync;
type HasTest = dyn Fn(&OpenRequest) -> Result<bool> + Send + Sync;

/// Where the files of a data set are searched.
#[derive(Clone, Debug)]
enum Lies {
    /// The data set has no files, because it is drawn or computed.
    Nowhere,
    /// In the first of these folders of the data folder that exists.
    In(Vec<Cow<'static, str>>),
    /// At [`OpenRequest::path`].
    AtPath,
    /// At [`OpenRequest::path`], which may be a pattern of paths or an address.
    AtPattern,
}

/// One data set in a table of [`DataSets`].
///
/// ```
/// use candle_vision_data::{DataSetEntry, DataSets, Image, OpenRequest, Samples, Split};
///
/// let entry = DataSetEntry::new("levels", "grey levels", |request| {
///     let count = if request.split == Split::Train { 20 } else { 5 };
///     let rows = (0..count).map(|level: u8| (level, u32::from(level % 2)));
///     Ok(Samples::new(["even", "odd"], rows, |l| Image::new(8, 8, 1, vec![*l; 64])).into())
/// });
/// let mut data_sets = DataSets::standard();
/// data_sets.add(entry.image_shape([1, 8, 8]))?;
/// let opened = data_sets.get("levels")?.open(&OpenRequest::new("data", Split::Val))?;
/// assert_eq!(opened.dataset.len(), 5);
/// # Ok::<(), candle_vision_data::Error>(())
/// ```
#[derive(Clone)]
pub struct DataSetEntry {
    name: Cow<'static, str>,
    summary: Cow<'static, str>,
    open: Arc<Open>,
    lies: Lies,
    is_image_folder: bool,
    fetched_as: Option<Cow<'static, str>>,
    image_shape: Option<[usize; 3]>,
    has_test: Option<Arc<HasTest>>,
}

impl DataSetEntry {
    /// A data set that the function `open` opens. By default it has no place on disk and cannot be downloaded.
    pub fn new(
        name: impl Into<Cow<'static, str>>,
        summary: impl Into<Cow<'static, str>>,
        open: impl Fn(&OpenRequest) -> Result<Opened> + Send + Sync + 'static,
    ) -> Self {
        Self {
            name: name.into(),
            summary: summary.into(),
            open: Arc::new(open),
            lies: Lies::Nowhere,
            is_image_folder: false,
            fetched_as: None,
            image_shape: None,
            has_test: None,
        }
    }

    /// Sets its place: the first of these folders of the data folder that exists.
    pub fn lies_in(self, folders: impl IntoIterator<Item = impl Into<Cow<'static, str>>>) -> Self {
        Self { lies: Lies::In(folders.into_iter().map(Into::into).collect()), ..self }
    }

    /// Sets its place to [`OpenRequest::path`], which must then be given.
    pub fn lies_at_path(self) -> Self {
        Self { lies: Lies::AtPath, ..self }
    }

    /// Sets its place to [`OpenRequest::path`], which may be a pattern of paths or an address on a server.
    pub fn lies_at_pattern(self) -> Self {
        Self { lies: Lies::AtPattern, ..self }
    }

    /// States that its place is an image folder, as [`FolderLayout`] describes it.
    pub fn as_image_folder(self) -> Self {
        Self { is_image_folder: true, ..self }
    }

    /// Sets the item in the catalog of `candle-vision-fetch` that downloads it.
    pub fn fetched_as(self, item: impl Into<Cow<'static, str>>) -> Self {
        Self { fetched_as: Some(item.into()), ..self }
    }

    /// States that there are images for a test apart from those for validation.
    pub fn has_test_images(self) -> Self {
        self.has_test_images_if(|_| Ok(true))
    }

    /// Sets how to find out whether there are images for a test apart from those for validation.
    pub fn has_test_images_if(
        self,
        has_test: impl Fn(&OpenRequest) -> Result<bool> + Send + Sync + 'static,
    ) -> Self {
        Self { has_test: Some(Arc::new(has_test)), ..self }
    }

    /// States that all stored images have this shape: channels, height, width.
    pub fn image_shape(self, shape: [usize; 3]) -> Self {
        Self { image_shape: Some(shape), ..self }
    }

    /// Opens the part that `request` names.
    ///
    /// # Errors
    /// If files are missing or damaged, or a setting is missing or wrong.
    pub fn open(&self, request: &OpenRequest) -> Result<Opened> {
        self.place(request)?;
        (self.open)(request)
    }

    /// The place of the data set, whether or not it exists. `None` if the data set has no place on disk.
    ///
    /// # Errors
    /// If the user has to name the place and [`OpenRequest::path`] is not given.
    pub fn place(&self, request: &OpenRequest) -> Result<Option<Place>> {
        let (path, is_own) = match &self.lies {
            Lies::Nowhere => return Ok(None),
            Lies::In(folders) => (in_data_dir(&request.data_dir, folders), false),
            Lies::AtPath | Lies::AtPattern => (own_path(request, &self.name)?.to_path_buf(), true),
        };
        Ok(Some(Place { path, is_own, is_pattern: matches!(self.lies, Lies::AtPattern) }))
    }

    /// The layout of its folder in splits and classes. `None` if it is not an image folder.
    ///
    /// # Errors
    /// Those of [`DataSetEntry::place`] and [`FolderLayout::find`].
    pub fn layout(&self, request: &OpenRequest) -> Result<Option<FolderLayout>> {
        match self.place(request)?.filter(|_| self.is_image_folder) {
            Some(place) => {
                FolderLayout::find_with_list(place.path, request.val_list.as_deref()).map(Some)
            }
            None => Ok(None),
        }
    }

    /// Whether it has images for a test after training, apart from the validation images. MNIST and CIFAR-10
    /// have only two parts: the images that are not for training are for validation.
    ///
    /// # Errors
    /// Those of [`DataSetEntry::layout`].
    pub fn has_test(&self, request: &OpenRequest) -> Result<bool> {
        if let Some(has_test) = &self.has_test {
            return has_test(request);
        }
        let layout = self.layout(request)?;
        Ok(layout.is_some_and(|layout| layout.split(Split::Test).is_some()))
    }

    /// The item in the catalog of `candle-vision-fetch` that downloads it. `None` if there is none.
    pub fn catalog_item(&self) -> Option<&str> {
        self.fetched_as.as_deref()
    }

    /// Channels, height and width of its stored images. `None` if they differ.
    pub fn native_shape(&self) -> Option<[usize; 3]> {
        self.image_shape
    }
}

impl Entry for DataSetEntry {
    fn name(&self) -> &str {
        &self.name
    }

    fn summary(&self) -> &str {
        &self.summary
    }
}

impl fmt::Debug for DataSetEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = f.debug_struct("DataSetEntry");
        text.field("name", &self.name).field("lies", &self.lies).finish_non_exhaustive()
    }
}

/// Data sets by name, for recipes and commands: those of this crate and your own.
#[derive(Clone, Debug)]
pub struct DataSets(Table<DataSetEntry>);

impl DataSets {
    /// The data sets of this crate.
    pub fn standard() -> Self {
        Self(Table::of(
            "data set",
            [
                super::mnist::entry(),
                super::fashion_mnist::entry(),
                super::kmnist::entry(),
                super::emnist::entry(),
                super::cifar::entry(),
                super::cifar100::entry(),
                super::svhn::entry(),
                super::stl10::entry(),
                super::flowers102::entry(),
                super::oxford_iiit_pet::entry(),
                super::food101::entry(),
                super::caltech101::entry(),
                super::dtd::entry(),
                super::eurosat::entry(),
                super::imagenette::entry(),
                super::imagenet::entry(),
                super::hymenoptera::entry(),
                super::insects::entry(),
                super::folder::entry(),
                super::image_table::entry(),
                super::image_table::huggingface(),
                super::parquet_images::entry(),
                super::shards::entry(),
            ],
        ))
    }

    /// Adds a data set.
    ///
    /// # Errors
    /// If another data set has its name, or if the name cannot be written in a recipe.
    pub fn add(&mut self, entry: DataSetEntry) -> std::result::Result<&mut Self, TableError> {
        self.0.add(entry)?;
        Ok(self)
    }
}

impl Default for DataSets {
    fn default() -> Self {
        Self::standard()
    }
}

/// Gives the methods that look up, list and document the entries.
impl Deref for DataSets {
    type Target = Table<DataSetEntry>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

/// The first of these folders that exists, or else the first of all.
fn in_data_dir(data_dir: &Path, folders: &[Cow<'static, str>]) -> PathBuf {
    let mut paths = folders.iter().map(|folder| data_dir.join(folder.as_ref()));
    let there = paths.clone().find(|path| path.is_dir());
    there.or_else(|| paths.next()).unwrap_or_else(|| data_dir.to_path_buf())
}

/// The path that the user must give.
pub(super) fn own_path<'a>(request: &'a OpenRequest, name: &str) -> Result<&'a Path> {
    request.path.as_deref().ok_or_else(|| Error::InvalidSetting {
        setting: "path",
        reason: format!("is missing: the data set `{name}` is where you say, so name its folder"),
    })
}
