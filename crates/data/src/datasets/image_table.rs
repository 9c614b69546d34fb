//! Tables of image files and labels: CSV, TSV, JSON lines, and Hugging Face's `metadata.csv`.

mod entry;
mod hugging_face;
pub(super) mod labelling;
mod rows;

use std::path::{Path, PathBuf};

use candle_vision_registry::one_line;
pub(super) use entry::entry;
#[cfg(feature = "parquet")]
pub(super) use entry::{kept_for_validation, rest_of};
pub(super) use hugging_face::huggingface;
use labelling::Labelling;
use rows::Row;
use serde::Deserialize;

use crate::dataset::{Dataset, Fingerprint, Sample, Split, check_index};
use crate::error::{Error, Result};
use crate::image::{ChoosePart, Image, ReadOptions};

/// How a table of images is read: the table `[data.options]` of a recipe with `source = "table"`.
///
/// ```
/// use candle_vision_data::TableOptions;
///
/// let options = TableOptions::new().label("species").separator(";");
/// assert_eq!(options.label.as_deref(), Some("species"));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct TableOptions {
    /// The column of the paths. By default the first of `path`, `file_name`, `filename`, `file` and `image` that
    /// the table has.
    pub path: Option<String>,
    /// The column of the labels. By default the first of `label`, `labels`, `class` and `target` that the table
    /// has.
    pub label: Option<String>,
    /// The column that names the split of each row (`train`, `val`, `test` and their usual other names). By
    /// default `split`, if the table has it.
    pub split: Option<String>,
    /// What stands between several labels of one image, such as `|`. With it, an image may have several labels or
    /// none. Lists in JSON need no separator.
    pub separator: Option<String>,
    /// The names of the classes in the order of their labels, or a file with one name in each line. By default
    /// they are the names that occur, sorted; for whole numbers they are all numbers from 0 to the largest.
    pub classes: Option<ClassList>,
    /// The folder that relative paths are relative to. By default the folder of the table.
    pub root: Option<PathBuf>,
    /// The table of the validation images, if it is another file.
    pub val: Option<PathBuf>,
    /// The table of the test images, if it is another file.
    pub test: Option<PathBuf>,
    /// Whether rows whose file is missing are left out and counted. If not, they are an error.
    pub skip_missing: bool,
}

/// The names of classes, or the file that has them.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(untagged, expecting = "expected a list of names, or a file with one name in each line")]
pub enum ClassList {
    /// The names, in the order of the labels.
    Names(Vec<String>),
    /// A file with one name in each line.
    File(PathBuf),
}

impl TableOptions {
    /// The defaults: columns of usual names, one label per image.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the column of the paths.
    pub fn path(self, column: impl Into<String>) -> Self {
        Self { path: Some(column.into()), ..self }
    }

    /// Sets the column of the labels.
    pub fn label(self, column: impl Into<String>) -> Self {
        Self { label: Some(column.into()), ..self }
    }

    /// Sets what stands between several labels of one image.
    pub fn separator(self, separator: impl Into<String>) -> Self {
        Self { separator: Some(separator.into()), ..self }
    }

    /// Sets the names of the classes, in the order of their labels.
    pub fn classes<C: Into<String>>(self, classes: impl IntoIterator<Item = C>) -> Self {
        let names = classes.into_iter().map(Into::into).collect();
        Self { classes: Some(ClassList::Names(names)), ..self }
    }

    /// Sets the folder that relative paths are relative to.
    pub fn root(self, root: impl Into<PathBuf>) -> Self {
        Self { root: Some(root.into()), ..self }
    }

    /// Sets whether rows whose file is missing are left out and counted.
    pub fn skip_missing(self, skip_missing: bool) -> Self {
        Self { skip_missing, ..self }
    }

    /// The folder that the paths in a table are relative to.
    fn folder_of(&self, table: &Path) -> PathBuf {
        let own = || table.parent().unwrap_or(Path::new("")).to_path_buf();
        self.root.clone().unwrap_or_else(own)
    }
}

/// Image files and labels that a table lists: a CSV file (`.csv`), with tabs (`.tsv`), JSON lines (`.jsonl`,
/// `.ndjson`) or a JSON list of objects (`.json`).
///
/// A label is a name or a whole number from 0. With [`TableOptions::separator`], or with lists in JSON, an image may
/// have several labels or none: [`Dataset::label_set`] has all of them.
///
/// # Example
/// ```
/// use candle_vision_data::{Dataset, ImageTable, TableOptions};
///
/// # let folder = tempfile::tempdir()?;
/// let table = folder.path().join("train.csv");
/// std::fs::write(&table, "path,labels\na.ppm,cat|indoors\nb.ppm,\n")?;
/// # for name in ["a.ppm", "b.ppm"] { std::fs::write(folder.path().join(name), b"P6\n1 1\n255\nabc")?; }
/// let set = ImageTable::open(&table, &TableOptions::new().separator("|"))?;
/// assert_eq!(set.classes(), ["cat", "indoors"]);
/// assert_eq!((set.label_set(0), set.label_set(1)), (vec![0, 1], vec![]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct ImageTable {
    folder: PathBuf,
    files: Vec<PathBuf>,
    labels: Vec<Vec<u32>>,
    is_multi_label: bool,
    classes: Vec<String>,
    options: ReadOptions,
    remarks: Vec<String>,
}

impl ImageTable {
    /// All rows of a table.
    ///
    /// # Errors
    /// If the table cannot be read, lacks a column or has no rows, or if a row has no path, a label that is no class,
    /// or the path of a missing file. Messages name file and line.
    pub fn open(path: impl AsRef<Path>, options: &TableOptions) -> Result<Self> {
        let path = path.as_ref();
        let rows = rows::read(path, options)?;
        let is_multi = rows.iter().any(|row| row.is_list);
        let labels = rows.iter().map(|row| &row.labels);
        let labelling = Labelling::new(path, options, labels)?.multi_label(is_multi);
        Self::of_rows(path, rows, &labelling, options)
    }

    fn of_rows(
        path: &Path,
        rows: Vec<Row>,
        labelling: &Labelling,
        options: &TableOptions,
    ) -> Result<Self> {
        let folder = options.folder_of(path);
        let (mut files, mut labels) = (Vec::new(), Vec::new());
        let (mut missing, mut first, count) = (0, None, rows.len());
        for row in rows {
            let file = folder.join(&row.file);
            if file.is_file() {
                labels.push(labelling.labels(path, row.line, &row.labels)?);
                files.push(file);
            } else {
                missing += 1;
                first = first.or(Some((row.line, file)));
            }
        }
        let mut remarks = Vec::new();
        if let Some((line, file)) = first {
            let of = format!("{missing} of {count} images are not there");
            let (file, table) = (file.display(), path.display());
            if options.skip_missing && !files.is_empty() {
                let remark =
                    format!("left out of `{table}`: {of} (the first in line {line}, `{file}`)");
                remarks.push(one_line(&remark).into_owned());
            } else {
                let problem = format!("names `{file}` in line {line}, which is no file; {of}");
                let remedy = "correct the path, set `root` to the folder of the images, or turn on `skip_missing`";
                return Err(invalid(path, problem, remedy));
            }
        }
        Ok(Self {
            folder,
            files,
            labels,
            is_multi_label: labelling.is_multi_label(),
            classes: labelling.classes().to_vec(),
            options: ReadOptions::default(),
            remarks,
        })
    }

    /// The same images, read with these options.
    pub fn with_read_options(self, options: ReadOptions) -> Self {
        Self { options, ..self }
    }

    /// Remarks for the user, one line each: rows that were left out.
    pub fn remarks(&self) -> &[String] {
        &self.remarks
    }

    /// The file of sample `index`.
    ///
    /// # Panics
    /// If there is no such sample.
    pub fn path(&self, index: usize) -> &Path {
        &self.files[index]
    }
}

/// An error about a table.
fn invalid(path: &Path, problem: impl Into<String>, remedy: impl Into<String>) -> Error {
    Error::Invalid { path: path.to_path_buf(), problem: problem.into(), remedy: remedy.into() }
}

/// The split that a word means.
fn split_called(word: &str) -> Option<Split> {
    super::image_folder::split_called(word)
}

impl std::fmt::Debug for ImageTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut text = f.debug_struct("ImageTable");
        text.field("folder", &self.folder).field("len", &self.len()).finish_non_exhaustive()
    }
}

impl Dataset for ImageTable {
    fn len(&self) -> usize {
        self.files.len()
    }

    fn sample(&self, index: usize) -> Result<Sample> {
        check_index(index, self.len())?;
        let image = Image::open_with(&self.files[index], &self.options)?;
        Ok(Sample::new(image, self.label(index)))
    }

    fn sample_part(&self, index: usize, choose: &mut ChoosePart<'_>) -> Result<Sample> {
        check_index(index, self.len())?;
        let image = Image::open_part_with(&self.files[index], &self.options, choose)?;
        Ok(Sample::new(image, self.label(index)))
    }

    fn image_file(&self, index: usize) -> Result<Option<Vec<u8>>> {
        check_index(index, self.len())?;
        let path = &self.files[index];
        std::fs::read(path).map(Some).map_err(Error::io(path))
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn label(&self, index: usize) -> u32 {
        self.labels[index].first().copied().unwrap_or(0)
    }

    fn label_set(&self, index: usize) -> Vec<u32> {
        self.labels[index].clone()
    }

    fn is_multi_label(&self) -> bool {
        self.is_multi_label
    }

    fn name(&self, index: usize) -> String {
        self.files[index].display().to_string()
    }

    fn fingerprint(&self) -> String {
        let kind = if self.options.exif_orientation { "upright table" } else { "table" };
        let hash = self.classes.iter().fold(Fingerprint::new(kind), |hash, class| hash.text(class));
        let row = |hash: Fingerprint, (file, labels): (&PathBuf, &Vec<u32>)| {
            // The path of the folder is left out, so that a copy of the data counts as the same data.
            let name = file.strip_prefix(&self.folder).unwrap_or(file).to_string_lossy();
            let size = file.metadata().map_or(0, |metadata| metadata.len());
            let hash = hash.text(&name).number(size).number(labels.len() as u64);
            labels.iter().fold(hash, |hash, &label| hash.number(u64::from(label)))
        };
        self.files.iter().zip(&self.labels).fold(hash, row).finish()
    }

    fn exif_orientation(&self) -> bool {
        self.options.exif_orientation
    }

    fn is_cacheable(&self) -> bool {
        true
    }
}
