//! The row `table` of the table of data sets.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use super::labelling::Labelling;
use super::rows::{self, Row};
use super::{ImageTable, TableOptions, invalid, split_called};
use crate::dataset::Split;
use crate::datasets::table::own_path;
use crate::datasets::{DataSetEntry, FolderSplit, OpenRequest, Opened, folder};
use crate::error::{Error, Result};
use crate::stratified_sets::stratified_split_of_sets;
use crate::subset::stratified_split;

const TABLE: &str = "table";

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

/// The settings, with paths that are relative to the folder of the table.
pub(super) fn options(request: &OpenRequest, name: &str) -> Result<TableOptions> {
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
    let mut remarks = Vec::new();
    let mut part = |split: Split| -> Result<(&Path, Vec<Row>)> {
        let other = match split {
            Split::Train => None,
            Split::Val => options.val.as_deref(),
            Split::Test => options.test.as_deref(),
        };
        if let Some(other) = other {
            return Ok((other, rows::read(other, &options)?));
        }
        if has_splits {
            let is_meant = |row: &&Row| split_of(row) == Some(split);
            return Ok((path, rows.iter().filter(is_meant).cloned().collect()));
        }
        if options.val.is_some() && split == Split::Train {
            return Ok((path, rows.clone()));
        }
        let request = request.clone().split(split);
        let (rows, kept) = divided(path, rows.clone(), &labelling, &request)?;
        if !remarks.contains(&kept) {
            remarks.push(kept);
        }
        Ok((path, rows))
    };
    let (of_split, chosen) = part(request.split)?;
    if chosen.is_empty() {
        let problem = format!("has no rows for the split `{}`", request.split);
        return Err(invalid(path, problem, "add them, or name another table for the split"));
    }
    if request.split != Split::Train {
        let (of_train, trained) = part(Split::Train)?;
        let of_train = files(of_train, &trained, &options);
        let leaked = files(of_split, &chosen, &options);
        let count = leaked.intersection(&of_train).count();
        if count > 0 {
            remarks.push(format!(
                "{count} of {} {} images are also training images: what is measured on them is remembered, not learned",
                leaked.len(),
                request.split
            ));
        }
    }
    let mut opened = opened(ImageTable::of_rows(of_split, chosen, &labelling, &options)?, request);
    opened.remarks.append(&mut remarks);
    Ok(opened)
}

/// The files that the rows of a table name.
fn files(table: &Path, rows: &[Row], options: &TableOptions) -> HashSet<PathBuf> {
    let folder = options.folder_of(table);
    rows.iter().map(|row| folder.join(&row.file)).collect()
}

/// The rows of a split, where a share of each class is for validation, and a line that says so.
pub(super) fn divided(
    path: &Path,
    rows: Vec<Row>,
    labelling: &Labelling,
    request: &OpenRequest,
) -> Result<(Vec<Row>, String)> {
    let labels = |row: &Row| labelling.labels(path, row.line, &row.labels);
    let sets = rows.iter().map(labels).collect::<Result<Vec<_>>>()?;
    let chosen = rest_of_sets(&sets, labelling.classes().len(), request)?;
    let mut rows: Vec<Option<Row>> = rows.into_iter().map(Some).collect();
    let rows = chosen.into_iter().filter_map(|index| rows[index].take()).collect();
    Ok((rows, kept_for_validation(request)))
}

/// Says that images to train on are used for validation.
pub(in crate::datasets) fn kept_for_validation(request: &OpenRequest) -> String {
    format!("{} % of the images to train on are kept for validation", 100.0 * request.val_fraction)
}

pub(super) fn opened(table: ImageTable, request: &OpenRequest) -> Opened {
    let table = table.with_read_options(request.read);
    let remarks = table.remarks().to_vec();
    Opened { remarks, ..Opened::from(table) }
}

pub(super) fn split_of(row: &Row) -> Option<Split> {
    split_called(row.split.as_deref()?)
}

/// Checks that every row has a split that is known, if any row has one.
pub(super) fn check_splits(path: &Path, rows: &[Row]) -> Result<()> {
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
    let shares = shares(request)?;
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

/// As [`rest_of`], for samples with any number of labels.
fn rest_of_sets(sets: &[Vec<u32>], classes: usize, request: &OpenRequest) -> Result<Vec<usize>> {
    if sets.iter().all(|set| set.len() <= 1) {
        // Runs from before several labels were divided by all of them must find the same images when they go on. Samples without
        // a label are divided like a class of their own.
        let one = |set: &Vec<u32>| set.first().copied().unwrap_or(classes as u32);
        return rest_of(&sets.iter().map(one).collect::<Vec<_>>(), request);
    }
    let shares = shares(request)?;
    let fractions = [1.0 - shares.val, shares.val];
    let mut parts = stratified_split_of_sets(sets, &fractions, shares.seed)?;
    Ok(parts.swap_remove(request.split as usize))
}

/// The share of the images that is for validation, where nothing else says which they are.
fn shares(request: &OpenRequest) -> Result<FolderSplit> {
    let shares = folder::shares(request);
    if request.split == Split::Test || !(0.0..1.0).contains(&shares.val) {
        let reason = format!("has no share: `val_fraction` is {}", shares.val);
        return Err(Error::InvalidSetting { setting: request.split.name(), reason });
    }
    if shares.val == 0.0 {
        let reason = "is 0, and nothing else says which images are for validation".to_owned();
        return Err(Error::InvalidSetting { setting: "val_fraction", reason });
    }
    Ok(shares)
}
