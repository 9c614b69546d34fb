//! A folder of images with a list of their classes, as ImageNet's validation images come.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use super::super::csv::{self, Fault};
use super::left_out::LeftOut;
use super::names::{ClassLabels, last_name, listed, split_called};
use super::scan::{Scan, check_is_folder};
use super::walk::{ImageFile, images_below};
use crate::dataset::Split;
use crate::error::{Error, Result};

/// The list of ImageNet's validation images on Kaggle.
const KAGGLE: &str = "LOC_val_solution.csv";
/// First fields of a first line that names the columns.
const HEADERS: [&str; 8] =
    ["imageid", "image_id", "image", "file", "filename", "file_name", "name", "path"];

/// The list of the images in `folder`, if it lies there or beside the folder under a usual name: `val.txt` for a folder
/// `val`, and [`KAGGLE`] except for images to test on.
pub(super) fn find(folder: &Path) -> Option<PathBuf> {
    let own = last_name(folder);
    let mut names = vec![format!("{own}.txt"), format!("{own}.csv")];
    if !matches!(split_called(&own), Some(Split::Train | Split::Test)) {
        names.extend(["val.txt".to_owned(), KAGGLE.to_owned()]);
    }
    let places = [Some(folder), folder.parent()];
    let paths = places.into_iter().flatten().flat_map(|place| names.iter().map(|n| place.join(n)));
    paths.into_iter().find(|path| path.is_file())
}

/// The images of `folder` that `list` names, with its labels. `ids` are other names of the classes, in their order, or
/// empty.
pub(super) fn read(folder: &Path, list: &Path, classes: &[String], ids: &[String]) -> Result<Scan> {
    check_is_folder(folder)?;
    let rows = rows(list)?;
    let labels = labels(list, &rows, classes, ids)?;
    let mut left_out = LeftOut::default();
    let images = images_below(folder, &mut left_out)?;
    let count = images.len();
    let mut files = chosen(folder, list, &rows, images)?;
    let mut remarks = Vec::new();
    if files.len() < count {
        remarks.push(format!(
            "left out: {} of {count} images in `{}` are not in the list `{}`",
            count - files.len(),
            folder.display(),
            list.display()
        ));
    }
    let mut labelled: Vec<(ImageFile, u32)> = files.drain(..).zip(labels).collect();
    labelled.sort_by(|(a, of_a), (b, of_b)| (of_a, &a.path).cmp(&(of_b, &b.path)));
    let with_images = labelled.chunk_by(|(_, a), (_, b)| a == b).count();
    if with_images < classes.len() {
        let of = format!("{with_images} of {} classes", classes.len());
        remarks.push(format!("`{}` has images of {of}", list.display()));
    }
    Ok(Scan {
        folder: folder.to_path_buf(),
        files: labelled,
        classes: classes.to_vec(),
        left_out,
        remarks,
    })
}

/// A line of a list.
struct Row {
    /// Counted from 1.
    line: usize,
    file: String,
    label: String,
}

fn invalid(list: &Path, problem: String, remedy: &str) -> Error {
    Error::Invalid { path: list.to_path_buf(), problem, remedy: remedy.to_owned() }
}

fn rows(list: &Path) -> Result<Vec<Row>> {
    let bytes = fs::read(list).map_err(Error::io(list))?;
    let such_as = "take a list with a file and its class in each line, such as `val.txt` or `LOC_val_solution.csv`";
    let text = String::from_utf8(bytes)
        .map_err(|_| invalid(list, "is no text in UTF-8".to_owned(), such_as))?;
    let has_commas = list.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("csv"));
    let rows = if has_commas { of_commas(&text) } else { of_words(&text) };
    let rows = rows.map_err(|Fault { line, problem }| {
        invalid(list, format!("line {line} {problem}"), such_as)
    })?;
    if rows.is_empty() {
        return Err(invalid(list, "names no image".to_owned(), such_as));
    }
    Ok(rows)
}

/// `FILE LABEL` in each line. The label is the last word, so a file may have spaces in its name.
fn of_words(text: &str) -> Result<Vec<Row>, Fault> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let lines = text.lines().enumerate().map(|(i, text)| (i + 1, text.trim()));
    let row = |(line, text): (usize, &str)| match text.rsplit_once(char::is_whitespace) {
        Some((file, label)) => {
            Ok(Row { line, file: file.trim_end().to_owned(), label: label.to_owned() })
        }
        // The devkit's ground truth.
        None if text.parse::<u32>().is_ok() => Err(Fault {
            line,
            problem: format!(
                "has the number {text} without a file (numbers of ILSVRC's ground truth count the classes in another \
                 order than networks do)"
            ),
        }),
        None => Err(Fault { line, problem: format!("has no class beside `{text}`") }),
    };
    lines.filter(|(_, text)| !text.is_empty()).map(row).collect()
}

fn of_commas(text: &str) -> Result<Vec<Row>, Fault> {
    let mut rows = Vec::new();
    for (i, record) in csv::records(text)?.into_iter().enumerate() {
        let line = record.line;
        let [file, label, ..] = record.fields.as_slice() else {
            return Err(Fault { line, problem: "has no class".to_owned() });
        };
        let is_header = i == 0 && HEADERS.contains(&file.to_lowercase().as_str());
        if !is_header {
            rows.push(Row { line, file: file.clone(), label: label.clone() });
        }
    }
    Ok(rows)
}

/// The label of each row. Either all labels are names of classes, or all are numbers from 0: a class may be called `7`.
fn labels(list: &Path, rows: &[Row], classes: &[String], ids: &[String]) -> Result<Vec<u32>> {
    let known = ClassLabels::of(classes, ids);
    let named = |label: &str| known.get(label);
    // Kaggle's list has boxes behind the class.
    let first =
        |label: &str| label.split_whitespace().next().map(str::to_owned).unwrap_or_default();
    let by_name = |row: &Row| named(&row.label).or_else(|| named(&first(&row.label)));
    let by_number =
        |row: &Row| row.label.parse::<u32>().ok().filter(|label| (*label as usize) < classes.len());
    let are_names = rows.iter().any(|row| row.label.parse::<u32>().is_err())
        || rows.iter().all(|row| by_name(row).is_some());
    rows.iter()
        .map(|row| {
            let label = if are_names { by_name(row) } else { by_number(row) };
            label.ok_or_else(|| unknown(list, row, classes, ids, are_names))
        })
        .collect()
}

fn unknown(list: &Path, row: &Row, classes: &[String], ids: &[String], are_names: bool) -> Error {
    let Row { line, label, .. } = row;
    let count = classes.len();
    let known = if are_names {
        format!("which is the name of none of {count} classes ({})", listed(classes))
    } else {
        format!("but the {count} classes have the numbers 0 to {}", count.saturating_sub(1))
    };
    let identifiers = if ids.is_empty() { "" } else { ", their identifiers" };
    let remedy = format!("label all images by the classes' names{identifiers} or numbers");
    invalid(list, format!("line {line} has the label `{label}`, {known}"), &remedy)
}

/// The file of each row.
fn chosen(
    folder: &Path,
    list: &Path,
    rows: &[Row],
    images: Vec<ImageFile>,
) -> Result<Vec<ImageFile>> {
    // By path below the folder, by name, and by name without ending. `None` where several are called so.
    let mut places: HashMap<String, Option<usize>> = HashMap::new();
    for (i, image) in images.iter().enumerate() {
        let below = image.path.strip_prefix(folder).unwrap_or(&image.path);
        let path = below.to_string_lossy().into_owned();
        let name = last_name(&image.path);
        let stem = image.path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let mut keys = vec![path, name, stem];
        keys.dedup();
        for key in keys {
            places.entry(key).and_modify(|place| *place = None).or_insert(Some(i));
        }
    }
    let place = |file: &str| {
        let last = file.rsplit(['/', '\\']).next().unwrap_or(file);
        places.get(file).or_else(|| places.get(last)).copied()
    };
    let missing = |row: &&Row| place(&row.file).is_none();
    if let Some(first) = rows.iter().find(missing) {
        let problem = format!(
            "line {} names `{}`, which is not in `{}`; {} of {} images are not there",
            first.line,
            first.file,
            folder.display(),
            rows.iter().filter(missing).count(),
            rows.len()
        );
        return Err(invalid(
            list,
            problem,
            "name the folder of these images, or the list of this folder",
        ));
    }
    let mut seen: BTreeMap<usize, usize> = BTreeMap::new();
    let mut files = Vec::with_capacity(rows.len());
    for row in rows {
        let Some(index) = place(&row.file).flatten() else {
            let problem =
                format!("line {} names `{}`, and several images are called so", row.line, row.file);
            return Err(invalid(list, problem, "write their paths below the folder"));
        };
        if let Some(before) = seen.insert(index, row.line) {
            let problem = format!("names `{}` in line {before} and in line {}", row.file, row.line);
            return Err(invalid(list, problem, "keep one of the lines"));
        }
        files.push(images[index].clone());
    }
    Ok(files)
}
