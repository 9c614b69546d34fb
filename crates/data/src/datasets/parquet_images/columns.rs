//! The two columns of a Parquet file that matter: images and labels.

use std::fs::File;
use std::path::{Path, PathBuf};

use parquet::basic::Type;
use parquet::column::reader::get_typed_column_reader;
use parquet::data_type::{ByteArray, ByteArrayType, DataType, Int32Type, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};
use serde_json::Value;

use super::{footer, pages};
use crate::datasets::image_table::labelling::Label;
use crate::error::{Error, Result};
use crate::foreign;

/// Rows that any file may have. Beyond them, a file has at most one for each of its bytes: a row has an image, and a header
/// may state two thousand million rows in a few bytes.
const SPARE_ROWS: u64 = 1 << 16;

/// The images of a row group, as the bytes of their files.
pub(super) struct Images(Vec<Option<ByteArray>>);

impl Images {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.0.iter().flatten().map(ByteArray::len).sum()
    }

    /// The bytes of an image. Empty if the row has none.
    pub(super) fn get(&self, row: usize) -> Option<&[u8]> {
        self.0.get(row)?.as_ref().map(ByteArray::data)
    }
}

/// A Parquet file and the places of its columns.
pub(super) struct Columns {
    path: PathBuf,
    /// The same file, to look at the headers of its pages.
    file: File,
    reader: SerializedFileReader<File>,
    image: usize,
    label: usize,
    label_name: String,
}

impl Columns {
    pub(super) fn open(path: &Path, image: &str, label: &str) -> Result<Self> {
        let file = File::open(path).map_err(Error::io(path))?;
        let most = file.metadata().map_err(Error::io(path))?.len().saturating_add(SPARE_ROWS);
        let again = file.try_clone().map_err(Error::io(path))?;
        let reader = guarded(path, || {
            footer::check(&file)?;
            SerializedFileReader::new(again)
        })?;
        let groups = reader.metadata().row_groups().iter();
        // A negative number is larger than any here.
        let rows = groups.fold(0_u64, |sum, group| sum.saturating_add(group.num_rows() as u64));
        if rows > most {
            return Err(Error::Invalid {
                path: path.to_path_buf(),
                problem: format!("states {rows} rows, more than it has bytes"),
                remedy: "fetch it again".to_owned(),
            });
        }
        let schema = reader.metadata().file_metadata().schema_descr_ptr();
        let leaves: Vec<String> =
            schema.columns().iter().map(|column| column.path().string()).collect();
        let place = |name: &str| leaves.iter().position(|leaf| leaf == name);
        let missing = |name: &str, remedy: &str| Error::Invalid {
            path: path.to_path_buf(),
            problem: format!("has no column `{name}`; its columns are `{}`", leaves.join("`, `")),
            remedy: remedy.to_owned(),
        };
        let image_at = place(&format!("{image}.bytes")).or_else(|| place(image));
        let image_at = image_at.ok_or_else(|| missing(image, "name it with `options.image`"))?;
        let label_at =
            place(label).ok_or_else(|| missing(label, "name it with `options.label`"))?;
        if schema.column(image_at).physical_type() != Type::BYTE_ARRAY {
            return Err(Error::Invalid {
                path: path.to_path_buf(),
                problem: format!("has a column `{image}` that holds no bytes of image files"),
                remedy: "name the column of images with `options.image`".to_owned(),
            });
        }
        let (path, label_name) = (path.to_path_buf(), label.to_owned());
        Ok(Self { path, file, reader, image: image_at, label: label_at, label_name })
    }

    /// The number of row groups.
    pub(super) fn groups(&self) -> usize {
        self.reader.num_row_groups()
    }

    /// The names of the classes in Hugging Face's metadata.
    pub(super) fn class_names(&self) -> Option<Vec<String>> {
        let metadata = self.reader.metadata().file_metadata().key_value_metadata()?;
        let text = metadata.iter().find(|pair| pair.key == "huggingface")?.value.as_deref()?;
        let value: Value = serde_json::from_str(text).ok()?;
        let names = value.pointer("/info/features")?.get(&self.label_name)?.get("names")?;
        names.as_array()?.iter().map(|name| name.as_str().map(str::to_owned)).collect()
    }

    /// The labels of a row group.
    pub(super) fn labels(&self, group: usize) -> Result<Vec<Label>> {
        let kind = self.reader.metadata().file_metadata().schema_descr_ptr();
        let kind = kind.column(self.label).physical_type();
        let labels: Vec<Option<Label>> = match kind {
            Type::INT64 => {
                let values = self.values::<Int64Type>(group, self.label)?;
                values.into_iter().map(|n| Some(Label::Number(n?.try_into().ok()?))).collect()
            }
            Type::INT32 => {
                let values = self.values::<Int32Type>(group, self.label)?;
                values.into_iter().map(|n| Some(Label::Number(n?.try_into().ok()?))).collect()
            }
            Type::BYTE_ARRAY => {
                let values = self.values::<ByteArrayType>(group, self.label)?;
                let name = |bytes: ByteArray| Some(Label::Name(bytes.as_utf8().ok()?.to_owned()));
                values.into_iter().map(|bytes| name(bytes?)).collect()
            }
            other => {
                let problem = format!("has labels of type {other} in column `{}`", self.label_name);
                return Err(self.invalid(problem, "name a column of whole numbers or names"));
            }
        };
        let missing = labels.iter().position(Option::is_none);
        labels.into_iter().collect::<Option<Vec<Label>>>().ok_or_else(|| {
            let row = missing.unwrap_or_default();
            let problem = format!("has no label from 0 on in row {row} of group {group}");
            self.invalid(problem, "remove the row or correct its label")
        })
    }

    /// The images of a row group.
    pub(super) fn images(&self, group: usize) -> Result<Images> {
        Ok(Images(self.values::<ByteArrayType>(group, self.image)?))
    }

    fn invalid(&self, problem: String, remedy: &str) -> Error {
        Error::Invalid { path: self.path.clone(), problem, remedy: remedy.to_owned() }
    }

    /// All values of a column of a row group. `None` where a row has none.
    fn values<T: DataType>(&self, group: usize, column: usize) -> Result<Vec<Option<T::T>>> {
        let descriptor = self.reader.metadata().file_metadata().schema_descr_ptr();
        let descriptor = descriptor.column(column);
        if descriptor.max_rep_level() > 0 {
            let problem = format!("has lists in column `{}`", descriptor.path());
            return Err(self.invalid(problem, "name a column with one value in each row"));
        }
        let full = descriptor.max_def_level();
        guarded(&self.path, || {
            let group = self.reader.get_row_group(group)?;
            let rows = group.metadata().num_rows();
            let chunk = group.metadata().column(column);
            let (start, length) = chunk.byte_range();
            pages::check(&self.file, start, length, chunk.compression())?;
            let mut reader = get_typed_column_reader::<T>(group.get_column_reader(column)?);
            let (mut levels, mut values) = (Vec::new(), Vec::new());
            let mut read = 0;
            while read < rows as usize {
                let levels = (full > 0).then_some(&mut levels);
                let (records, ..) =
                    reader.read_records(rows as usize - read, levels, None, &mut values)?;
                if records == 0 {
                    return Err(ParquetError::EOF(format!("{read} of {rows} rows are there")));
                }
                read += records;
            }
            if full == 0 {
                return Ok(values.into_iter().map(Some).collect());
            }
            let mut values = values.into_iter();
            Ok(levels
                .iter()
                .map(|&level| if level == full { values.next() } else { None })
                .collect())
        })
    }
}

/// Runs a function of the Parquet reader.
fn guarded<T>(path: &Path, read: impl FnOnce() -> Result<T, ParquetError>) -> Result<T> {
    const OTHER: &str = "write it with another compression, such as zstd or snappy";
    let (problem, remedy) = match foreign::guarded(read) {
        Some(Ok(value)) => return Ok(value),
        Some(Err(ParquetError::NYI(what))) => {
            (format!("cannot be read as Parquet ({what})"), OTHER)
        }
        Some(Err(error)) => (format!("cannot be read as Parquet ({error})"), "fetch it again"),
        None => ("is damaged: the Parquet reader gave up".to_owned(), "fetch it again"),
    };
    let problem = problem.split_whitespace().collect::<Vec<_>>().join(" ");
    Err(Error::Invalid { path: path.to_path_buf(), problem, remedy: remedy.to_owned() })
}
