//! The rows `table` and `huggingface` of the table of data sets.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::labelling::{Label, Labelling};
use super::rows::{self, Row};
use super::{ImageTable, TableOptions, invalid, split_called};
use crate::dataset::Split;
use crate::datasets::table::own_path;
use crate::datasets::{DataSetEntry, OpenRequest, Opened, folder, parquet_images};
use crate::error::{Error, Result};
use crate::subset::stratified_split;

const TABLE: &str = "table";
const HUGGING_FACE: &str = "huggingface";
const METADATA: [&str; 2] = ["metadata.csv", "metadata.jsonl"];

pub(in crate::datasets) fn entry() -> DataSetEntry {
    let summary =
        "your own list of image files and labels, one or several per image: CSV or JSON lines";
    DataSetEntry::new(TABLE, summary, open_table).lies_at_path().has_test_images_if(|request| {
        let path = own_path(request, TABLE)?;
        let options = options(request, TABLE)?;
        if options.test.is_some() {
            return Ok(true);
        }
        let rows = rows::read(path, &options)?;
        Ok(rows.iter().any(|row| split_of(row) == Some(Split::Test)))
    })
}

/// A row of the table of data sets for Hugging Face's layouts.
pub(in crate::datasets) fn huggingface() -> DataSetEntry {
    let summary = "a data set in Hugging Face's layouts: Parquet files, or folders with metadata.csv or \
                   metadata.jsonl";
    DataSetEntry::new(HUGGING_FACE, summary, open_hugging_face).lies_at_path().has_test_images_if(
        |request| {
            let path = own_path(request, HUGGING_FACE)?;
            if parquet_images::holds_parquet(path) {
                return parquet_images::has_test(request);
            }
            Ok(tables_in(path).contains_key("test"))
        },
    )
}

/// The settings, with paths that are relative to the folder of the table.
fn options(request: &OpenRequest, name: &str) -> Result<TableOptions> {
    let mut options: TableOptions = request.settings(name)?;
    let path = own_path(request, name)?;
    let folder = if path.is_dir() { Some(path) } else { path.parent() };
    let folder = folder.unwrap_or(Path::new(""));
    for path in [&mut options.val, &mut options.test, &mut options.root].into_iter().flatten() {
        *path = folder.join(&*path);
    }
    if let Some(super::ClassList::File(file)) = &mut options.classes {
        *file = folder.join(&*file);
    }
    Ok(options)
}

fn open_table(request: &OpenRequest) -> Result<Opened> {
    let path = own_path(request, TABLE)?;
    let options = options(request, TABLE)?;
    let rows = rows::read(path, &options)?;
    check_splits(path, &rows)?;
    let has_splits = rows.iter().any(|row| row.split.is_some());
    let is_multi = rows.iter().any(|row| row.is_list);
    // The classes are those of the training images in every split.
    let is_trained = |row: &&Row| !has_splits || split_of(row) == Some(Split::Train);
    let trained = rows.iter().filter(is_trained).map(|row| &row.labels);
    let labelling = Labelling::new(path, &options, trained)?.multi_label(is_multi);
    let other = match request.split {
        Split::Train => None,
        Split::Val => options.val.as_ref(),
        Split::Test => options.test.as_ref(),
    };
    if let Some(other) = other {
        let rows = rows::read(other, &options)?;
        return opened(ImageTable::of_rows(other, rows, &labelling, &options)?, request);
    }
    let rows = if has_splits {
        rows.into_iter().filter(|row| split_of(row) == Some(request.split)).collect()
    } else if options.val.is_some() && request.split == Split::Train {
        rows
    } else {
        let first = |row: &Row| {
            let labels = labelling.labels(path, row.line, &row.labels)?;
            Ok(labels.first().copied().unwrap_or(labelling.classes().len() as u32))
        };
        let labels = rows.iter().map(first).collect::<Result<Vec<u32>>>()?;
        let chosen = rest_of(&labels, request)?;
        let mut rows: Vec<Option<Row>> = rows.into_iter().map(Some).collect();
        chosen.into_iter().filter_map(|index| rows[index].take()).collect()
    };
    if rows.is_empty() {
        let problem = format!("has no rows for the split `{}`", request.split);
        return Err(invalid(path, problem, "add them, or name another table for the split"));
    }
    opened(ImageTable::of_rows(path, rows, &labelling, &options)?, request)
}

fn opened(table: ImageTable, request: &OpenRequest) -> Result<Opened> {
    let table = table.with_read_options(request.read);
    let remarks = table.remarks().to_vec();
    Ok(Opened { remarks, ..Opened::from(table) })
}

fn split_of(row: &Row) -> Option<Split> {
    split_called(row.split.as_deref()?)
}

/// Checks that every row has a split that is known, if any row has one.
fn check_splits(path: &Path, rows: &[Row]) -> Result<()> {
    let has_splits = rows.iter().any(|row| row.split.is_some());
    match rows.iter().find(|row| has_splits && split_of(row).is_none()) {
        None => Ok(()),
        Some(row) => {
            let split = row.split.as_deref().unwrap_or_default();
            let problem = format!("line {} has the split `{split}`", row.line);
            Err(invalid(path, problem, "write `train`, `val` or `test`"))
        }
    }
}

/// The samples of a split if nothing says which they are: a share of each class is for validation.
pub(in crate::datasets) fn rest_of(labels: &[u32], request: &OpenRequest) -> Result<Vec<usize>> {
    let shares = folder::shares(request);
    if request.split == Split::Test || !(0.0..1.0).contains(&shares.val) {
        let reason = format!("has no share: `val_fraction` is {}", shares.val);
        return Err(Error::InvalidSetting { setting: request.split.name(), reason });
    }
    if shares.val == 0.0 {
        let reason = "is 0, and nothing else says which images are for validation".to_owned();
        return Err(Error::InvalidSetting { setting: "val_fraction", reason });
    }
    // A class with a single image has it in the training part.
    let mut counts = BTreeMap::<u32, usize>::new();
    labels.iter().for_each(|label| *counts.entry(*label).or_default() += 1);
    let (large, single): (Vec<usize>, Vec<usize>) =
        (0..labels.len()).partition(|&index| counts[&labels[index]] > 1);
    let of_large: Vec<u32> = large.iter().map(|&index| labels[index]).collect();
    let mut parts = stratified_split(&of_large, &[1.0 - shares.val, shares.val], shares.seed)?;
    let mut part: Vec<usize> =
        parts.swap_remove(request.split as usize).into_iter().map(|index| large[index]).collect();
    if request.split == Split::Train {
        part.extend(single);
        part.sort_unstable();
    }
    Ok(part)
}

fn open_hugging_face(request: &OpenRequest) -> Result<Opened> {
    let path = own_path(request, HUGGING_FACE)?;
    if parquet_images::holds_parquet(path) {
        return parquet_images::open(request);
    }
    let tables = tables_in(path);
    if tables.is_empty() {
        // Without metadata the names of folders are the classes.
        request.no_settings(HUGGING_FACE)?;
        return folder::split_of(path, request);
    }
    let mut options = options(request, HUGGING_FACE)?;
    let Some(train) = tables.get(Split::Train.name()) else {
        return Err(invalid(
            path,
            "has no metadata.csv or metadata.jsonl in its folder or in `train`",
            "add it, or name the folder of the data set",
        ));
    };
    let has_splits = tables.len() > 1;
    let of_split = match tables.get(request.split.name()) {
        Some(table) => table,
        None if request.split == Split::Val && !has_splits => train,
        None => {
            let expected = "metadata.csv or metadata.jsonl with the images of the split".to_owned();
            let remedy = "add it, or name a folder with one table to have it split".to_owned();
            return Err(Error::NotFound {
                path: path.join(request.split.name()),
                expected,
                remedy,
            });
        }
    };
    // `file_name` is Hugging Face's name of the column.
    options.path.get_or_insert_with(|| "file_name".to_owned());
    let trained = labelled(train, &options)?;
    let is_multi = trained.iter().any(|row| row.is_list);
    let labels = trained.iter().map(|row| &row.labels);
    let labelling = Labelling::new(train, &options, labels)?.multi_label(is_multi);
    let mut rows = labelled(of_split, &options)?;
    if !has_splits {
        let first = |row: &Row| {
            Ok(labelling.labels(train, row.line, &row.labels)?.first().copied().unwrap_or(0))
        };
        let labels = rows.iter().map(first).collect::<Result<Vec<u32>>>()?;
        let chosen = rest_of(&labels, request)?;
        let mut all: Vec<Option<Row>> = rows.into_iter().map(Some).collect();
        rows = chosen.into_iter().filter_map(|index| all[index].take()).collect();
    }
    opened(ImageTable::of_rows(of_split, rows, &labelling, &options)?, request)
}

/// The rows of Hugging Face's metadata. Without a column of labels, the folder of a file names its class.
fn labelled(path: &Path, options: &TableOptions) -> Result<Vec<Row>> {
    let mut rows = rows::read_with_or_without_labels(path, options)?;
    for row in rows.iter_mut().filter(|row| row.labels.is_none()) {
        let folder = Path::new(&row.file).parent().and_then(Path::file_name);
        let Some(folder) = folder.and_then(|name| name.to_str()) else {
            let problem =
                format!("line {} has no label, and `{}` lies in no folder", row.line, row.file);
            return Err(invalid(path, problem, "add a column, or name it with `label`"));
        };
        row.labels = Some(vec![Label::Name(folder.to_owned())]);
    }
    Ok(rows)
}

/// The tables of metadata of a folder by split. A table in the folder itself is that of the training images.
fn tables_in(path: &Path) -> BTreeMap<&'static str, PathBuf> {
    let table = |folder: &Path| METADATA.iter().map(|name| folder.join(name)).find(|p| p.is_file());
    if let Some(table) = table(path) {
        return BTreeMap::from([(Split::Train.name(), table)]);
    }
    // Some repositories have the folders of the splits in `data`.
    let places = [path.to_path_buf(), path.join("data")];
    let folders = places.iter().filter_map(|place| std::fs::read_dir(place).ok()).flatten();
    let mut folders: Vec<PathBuf> =
        folders.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| path.is_dir()).collect();
    folders.sort();
    let mut tables = BTreeMap::new();
    for folder in folders {
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if let (Some(split), Some(table)) = (split_called(&name), table(&folder)) {
            tables.entry(split.name()).or_insert(table);
        }
    }
    tables
}
