//! The row `huggingface` of the table of data sets: Hugging Face's layouts.

use std::collections::HashSet;
use std::path::{Component, Path, PathBuf};

use candle_vision_registry::one_line;

use super::entry::{check_splits, divided, kept_for_validation, opened, options, split_of};
use super::labelling::{Label, Labelling};
use super::rows::{self, Row};
use super::{ImageTable, TableOptions, invalid, split_called};
use crate::dataset::Split;
use crate::datasets::table::own_path;
use crate::datasets::{
    DataSetEntry, FolderLayout, OpenRequest, Opened, find_images, folder, parquet_images,
};
use crate::error::{Error, Result};

const NAME: &str = "huggingface";
const METADATA: [&str; 2] = ["metadata.csv", "metadata.jsonl"];

/// A row of the table of data sets for Hugging Face's layouts.
pub(in crate::datasets) fn huggingface() -> DataSetEntry {
    let summary = "a data set in Hugging Face's layouts: Parquet files, or folders with metadata.csv or \
                   metadata.jsonl";
    DataSetEntry::new(NAME, summary, open).lies_at_path().has_test_images_if(has_test)
}

fn has_test(request: &OpenRequest) -> Result<bool> {
    let path = own_path(request, NAME)?;
    if parquet_images::holds_parquet(path) {
        return parquet_images::has_test(request);
    }
    let tables = tables_in(path);
    if tables.is_empty() {
        return Ok(FolderLayout::find(path)?.split(Split::Test).is_some());
    }
    Ok(rows_of(&tables, &settings(request)?)?.splits[Split::Test as usize].is_some())
}

fn settings(request: &OpenRequest) -> Result<TableOptions> {
    let mut options = options(request, NAME)?;
    // `file_name` is Hugging Face's name of the column.
    options.path.get_or_insert_with(|| "file_name".to_owned());
    Ok(options)
}

fn open(request: &OpenRequest) -> Result<Opened> {
    let path = own_path(request, NAME)?;
    if parquet_images::holds_parquet(path) {
        return parquet_images::open(request);
    }
    let tables = tables_in(path);
    if tables.is_empty() {
        // Without metadata the names of folders are the classes.
        request.no_settings(NAME)?;
        let mut opened = folder::split_of(path, request)?;
        let layout = FolderLayout::find(path)?;
        opened.remarks.push(format!("splits of {layout}"));
        if layout.split(Split::Val).is_none() {
            opened.remarks.push(kept_for_validation(request));
        }
        return Ok(opened);
    }
    let options = settings(request)?;
    let Rows { splits: [train, val, test], mut remarks } = rows_of(&tables, &options)?;
    let Some((table, trained)) = train else {
        return Err(invalid(
            path,
            "has no metadata.csv or metadata.jsonl in its folder or in `train`",
            "add it, or name the folder of the data set",
        ));
    };
    let is_multi = trained.iter().any(|row| row.is_list);
    let labels = trained.iter().map(|row| &row.labels);
    let labelling = Labelling::new(&table, &options, labels)?.multi_label(is_multi);
    let (of_split, rows) = match (request.split, val, test) {
        (Split::Train, Some(_), _) => (table, trained),
        (Split::Val, Some(val), _) => val,
        (Split::Test, _, Some(test)) => test,
        (Split::Test, _, None) => {
            return Err(Error::NotFound {
                path: path.join(request.split.name()),
                expected: "metadata.csv or metadata.jsonl with the images of the split".to_owned(),
                remedy: "add it, or train without test images".to_owned(),
            });
        }
        (_, None, _) => {
            let (rows, kept) = divided(&table, trained, &labelling, request)?;
            remarks.push(kept);
            (table, rows)
        }
    };
    let mut opened = opened(ImageTable::of_rows(&of_split, rows, &labelling, &options)?, request);
    opened.remarks.append(&mut remarks);
    Ok(opened)
}

/// The rows of each split with their table.
#[derive(Default)]
struct Rows {
    splits: [Option<(PathBuf, Vec<Row>)>; 3],
    remarks: Vec<String>,
}

fn rows_of(tables: &[(Option<Split>, PathBuf)], options: &TableOptions) -> Result<Rows> {
    let mut all = Rows::default();
    for (split, table) in tables {
        let rows = labelled(table, options)?;
        all.remarks.extend(without_row(table, &rows, options)?);
        if let Some(split) = split {
            all.splits[*split as usize].get_or_insert((table.clone(), rows));
            continue;
        }
        check_splits(table, &rows)?;
        let found: Option<Vec<Split>> =
            rows.iter().map(|row| split_of(row).or_else(|| split_in_path(row))).collect();
        // Folders may be classes, such as `test` among others.
        match found.filter(|found| found.contains(&Split::Train)) {
            Some(found) => {
                for (row, split) in rows.into_iter().zip(found) {
                    let part = &mut all.splits[split as usize];
                    part.get_or_insert_with(|| (table.clone(), Vec::new())).1.push(row);
                }
            }
            None => all.splits[Split::Train as usize] = Some((table.clone(), rows)),
        }
    }
    Ok(all)
}

/// The split that the first folder of a file says (`train/cat/1.png`, `data/train/1.png`).
fn split_in_path(row: &Row) -> Option<Split> {
    let folders = Path::new(&row.file).parent()?.components();
    let mut names = folders.filter(|part| *part != Component::CurDir).map(Component::as_os_str);
    let name = names.find(|name| *name != "data")?;
    split_called(name.to_str()?)
}

/// Says how many images beside a table are not in it.
fn without_row(table: &Path, rows: &[Row], options: &TableOptions) -> Result<Option<String>> {
    let folder = options.folder_of(table);
    let named: HashSet<PathBuf> = rows.iter().map(|row| folder.join(&row.file)).collect();
    let (images, _) = find_images(&folder)?;
    let without: Vec<&PathBuf> = images.iter().filter(|path| !named.contains(*path)).collect();
    let Some(first) = without.first() else { return Ok(None) };
    let line = format!(
        "left out: {} of {} images in `{}` have no row in `{}` (the first is `{}`)",
        without.len(),
        images.len(),
        folder.display(),
        table.file_name().unwrap_or_default().display(),
        first.display()
    );
    Ok(Some(one_line(&line).into_owned()))
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

/// The tables of metadata of a folder with their splits. A table in the folder itself has no split and is alone.
fn tables_in(path: &Path) -> Vec<(Option<Split>, PathBuf)> {
    let table = |folder: &Path| METADATA.iter().map(|name| folder.join(name)).find(|p| p.is_file());
    if let Some(table) = table(path) {
        return vec![(None, table)];
    }
    // Some repositories have the folders of the splits in `data`.
    let places = [path.to_path_buf(), path.join("data")];
    let folders = places.iter().filter_map(|place| std::fs::read_dir(place).ok()).flatten();
    let mut folders: Vec<PathBuf> =
        folders.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| path.is_dir()).collect();
    folders.sort();
    let of_folder = |folder: PathBuf| {
        let split = split_called(&folder.file_name()?.to_string_lossy())?;
        Some((Some(split), table(&folder)?))
    };
    folders.into_iter().filter_map(of_folder).collect()
}
