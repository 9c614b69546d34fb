//! A data set from your own rows: a list in memory or a CSV file.

use std::fmt;
use std::path::{Path, PathBuf};

use super::csv::{self, Record};
use crate::dataset::{Dataset, Fingerprint, Sample, check_index};
use crate::error::{Error, Result};
use crate::image::{ChoosePart, Image, ReadOptions, part_of};

type Read<R> = dyn Fn(&R) -> Result<Image> + Send + Sync;
type ReadPart<R> = dyn Fn(&R, &mut ChoosePart<'_>) -> Result<Image> + Send + Sync;
type Name<R> = dyn Fn(&R) -> String + Send + Sync;

/// A data set from your own rows, each with a label, and a function that makes the image of a row.
///
/// [`Samples::from_csv`] reads a list of image files and classes.
///
/// # Example
/// ```
/// use candle_vision_data::{Dataset, Image, Samples};
///
/// // Squares of a grey level, which could as well be rows of a data base, or files.
/// let rows = [(10, 0), (20, 0), (200, 1)];
/// let set = Samples::new(["dark", "bright"], rows, |level| Image::new(8, 8, 1, vec![*level; 64]));
/// assert_eq!((set.len(), set.label(2)), (3, 1));
/// assert_eq!(set.sample(2)?.image.pixel(0, 0), [200]);
/// # Ok::<(), candle_vision_data::Error>(())
/// ```
pub struct Samples<R> {
    classes: Vec<String>,
    rows: Vec<(R, u32)>,
    image: Box<Read<R>>,
    part: Option<Box<ReadPart<R>>>,
    /// `None` names each sample by its index.
    name: Option<Box<Name<R>>>,
    fingerprint: Option<String>,
    is_cacheable: bool,
    exif_orientation: bool,
}

impl<R: Send + Sync> Samples<R> {
    /// A data set of these classes. `rows` are rows with their labels, and the function makes the image of a
    /// row.
    ///
    /// The function may return another image each time. So the loader keeps no images, unless
    /// [`Samples::cacheable`] allows it. A resumed run treats the rows as another data set if the labels
    /// differ, or the [fingerprint](Samples::with_fingerprint).
    pub fn new<C: Into<String>>(
        classes: impl IntoIterator<Item = C>,
        rows: impl IntoIterator<Item = (R, u32)>,
        image: impl Fn(&R) -> Result<Image> + Send + Sync + 'static,
    ) -> Self {
        Self {
            classes: classes.into_iter().map(Into::into).collect(),
            rows: rows.into_iter().collect(),
            image: Box::new(image),
            part: None,
            name: None,
            fingerprint: None,
            is_cacheable: false,
            exif_orientation: false,
        }
    }

    /// Sets how a part of a row's image is read, if that is faster than the whole image ([`Dataset::sample_part`]).
    pub fn with_parts(
        self,
        part: impl Fn(&R, &mut ChoosePart<'_>) -> Result<Image> + Send + Sync + 'static,
    ) -> Self {
        Self { part: Some(Box::new(part)), ..self }
    }

    /// Sets the names of samples in messages.
    pub fn with_names(self, name: impl Fn(&R) -> String + Send + Sync + 'static) -> Self {
        Self { name: Some(Box::new(name)), ..self }
    }

    /// Sets a text that identifies the data. A resumed run treats the rows as other data if the text differs.
    pub fn with_fingerprint(self, fingerprint: impl Into<String>) -> Self {
        Self { fingerprint: Some(fingerprint.into()), ..self }
    }

    /// States that a row always has the same image, so that the loader may keep it.
    pub fn cacheable(self) -> Self {
        Self { is_cacheable: true, ..self }
    }

    /// States whether images are turned upright as their EXIF data says ([`Dataset::exif_orientation`]).
    pub fn with_exif_orientation(self, exif_orientation: bool) -> Self {
        Self { exif_orientation, ..self }
    }

    /// The rows with their labels.
    pub fn rows(&self) -> &[(R, u32)] {
        &self.rows
    }
}

impl Samples<PathBuf> {
    /// Reads image files and classes from a CSV file, with the default [`ReadOptions`].
    ///
    /// # Errors
    /// Those of [`Samples::from_csv_with`].
    pub fn from_csv(path: impl AsRef<Path>) -> Result<Self> {
        Self::from_csv_with(path, ReadOptions::default())
    }

    /// Reads image files and classes from a CSV file with the columns `path` and `label`.
    ///
    /// If the first line contains `path` and `label`, it is a header. The two may come in either order and next
    /// to other columns. Without a header, the first column is the path and the second the class. Classes are
    /// sorted by name. Relative paths are relative to the CSV file's folder. Fields may be quoted.
    ///
    /// # Errors
    /// If the file cannot be read or has no rows, or if a row has no path, no class, or the path of a missing
    /// file. Messages name file and line.
    pub fn from_csv_with(path: impl AsRef<Path>, options: ReadOptions) -> Result<Self> {
        let path = path.as_ref();
        let text = std::fs::read_to_string(path).map_err(Error::io(path))?;
        let invalid = |problem: String, remedy: &str| Error::Invalid {
            path: path.to_path_buf(),
            problem,
            remedy: remedy.to_owned(),
        };
        let records = csv::records(&text).map_err(|fault| {
            invalid(format!("line {} {}", fault.line, fault.problem), "correct the quotes")
        })?;
        let (columns, records) = Columns::of(&records);
        if records.is_empty() {
            return Err(invalid("names no images".to_owned(), "add lines `path,label`"));
        }
        let folder = path.parent().unwrap_or(Path::new(""));
        let mut files = Vec::with_capacity(records.len());
        for record in records {
            let (file, class) = columns.take(record).ok_or_else(|| {
                let problem = format!("has no path and label in line {}", record.line);
                invalid(problem, "write `path,label` in each line")
            })?;
            let file = folder.join(file);
            if !file.is_file() {
                let problem =
                    format!("names `{}` in line {}, which is no file", file.display(), record.line);
                return Err(invalid(problem, "correct the path or remove the line"));
            }
            files.push((file, class));
        }
        let mut classes: Vec<String> = files.iter().map(|(_, class)| (*class).to_owned()).collect();
        classes.sort();
        classes.dedup();
        let mut hash = Fingerprint::new("csv");
        hash = classes.iter().fold(hash, |hash, class| hash.text(class));
        hash = files.iter().fold(hash, |hash, (file, class)| {
            // The path of the folder is left out, so that a copy of the data counts as the same data.
            let name = file.strip_prefix(folder).unwrap_or(file).to_string_lossy();
            let size = file.metadata().map_or(0, |metadata| metadata.len());
            hash.text(&name).number(size).text(class)
        });
        let label = |class: &str| classes.partition_point(|known| known.as_str() < class) as u32;
        let rows: Vec<_> = files.into_iter().map(|(file, class)| (file, label(class))).collect();
        let samples = Self::new(classes, rows, move |file| Image::open_with(file, &options))
            .with_parts(move |file, choose| Image::open_part_with(file, &options, choose));
        let named = samples.with_names(|file| file.display().to_string()).cacheable();
        let exif_orientation = options.exif_orientation;
        Ok(Self { exif_orientation, ..named.with_fingerprint(hash.finish()) })
    }
}

/// The columns of path and label.
struct Columns {
    path: usize,
    label: usize,
}

impl Columns {
    /// Reads the columns from the header, if the first record is one. Also returns the records without the
    /// header.
    fn of(records: &[Record]) -> (Self, &[Record]) {
        let found = records.first().and_then(|first| {
            let place =
                |name: &str| first.fields.iter().position(|field| field.eq_ignore_ascii_case(name));
            Some(Self { path: place("path")?, label: place("label")? })
        });
        match found {
            Some(columns) => (columns, &records[1..]),
            None => (Self { path: 0, label: 1 }, records),
        }
    }

    fn take<'a>(&self, record: &'a Record) -> Option<(&'a str, &'a str)> {
        let field = |place: usize| record.fields.get(place).filter(|field| !field.is_empty());
        Some((field(self.path)?, field(self.label)?))
    }
}

impl<R: Send + Sync> Dataset for Samples<R> {
    fn len(&self) -> usize {
        self.rows.len()
    }

    fn sample(&self, index: usize) -> Result<Sample> {
        check_index(index, self.len())?;
        let (row, label) = &self.rows[index];
        Ok(Sample::new((self.image)(row)?, *label))
    }

    fn sample_part(&self, index: usize, choose: &mut ChoosePart<'_>) -> Result<Sample> {
        check_index(index, self.len())?;
        let (row, label) = &self.rows[index];
        let image = match &self.part {
            Some(part) => part(row, choose)?,
            None => part_of(&(self.image)(row)?, choose)?,
        };
        Ok(Sample::new(image, *label))
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn label(&self, index: usize) -> u32 {
        self.rows[index].1
    }

    fn name(&self, index: usize) -> String {
        let name = self.name.as_ref().map(|name| name(&self.rows[index].0));
        name.unwrap_or_else(|| format!("sample[{index}]"))
    }

    fn fingerprint(&self) -> String {
        let known = self.fingerprint.as_deref().unwrap_or_default();
        let hash = Fingerprint::new("samples").text(known);
        let hash = self.classes.iter().fold(hash, |hash, class| hash.text(class));
        self.rows.iter().fold(hash, |hash, (_, label)| hash.number(u64::from(*label))).finish()
    }

    fn exif_orientation(&self) -> bool {
        self.exif_orientation
    }

    fn is_cacheable(&self) -> bool {
        self.is_cacheable
    }
}

impl<R> fmt::Debug for Samples<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let len = self.rows.len();
        f.debug_struct("Samples").field("classes", &self.classes).field("len", &len).finish()
    }
}
