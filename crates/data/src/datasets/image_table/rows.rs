//! The rows of a table, in any of its formats.

use std::path::Path;

use serde_json::{Map, Value};

use super::labelling::Label;
use super::{TableOptions, invalid};
use crate::datasets::csv::{self, Fault};
use crate::datasets::labelled_files::text_of;
use crate::error::Result;

const PATHS: [&str; 5] = ["path", "file_name", "filename", "file", "image"];
const LABELS: [&str; 4] = ["label", "labels", "class", "target"];
const SPLIT: &str = "split";

/// A row of a table.
#[derive(Clone, Debug)]
pub(super) struct Row {
    /// Counted from 1.
    pub(super) line: usize,
    pub(super) file: String,
    /// `None` if the table has no column of labels.
    pub(super) labels: Option<Vec<Label>>,
    pub(super) is_list: bool,
    pub(super) split: Option<String>,
}

/// All rows of a table.
pub(super) fn read(path: &Path, options: &TableOptions) -> Result<Vec<Row>> {
    read_rows(path, options, true)
}

/// All rows of a table that may lack the column of labels.
pub(super) fn read_with_or_without_labels(path: &Path, options: &TableOptions) -> Result<Vec<Row>> {
    read_rows(path, options, false)
}

fn read_rows(path: &Path, options: &TableOptions, needs_labels: bool) -> Result<Vec<Row>> {
    let text = text_of(path)?;
    let extension = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
    let rows = match extension.as_str() {
        "jsonl" | "ndjson" => of_json_lines(&text, options, needs_labels),
        "json" => of_json(&text, options, needs_labels),
        "tsv" | "tab" => of_columns(&text, b'\t', options, needs_labels),
        _ => of_columns(&text, delimiter(&text), options, needs_labels),
    };
    let rows = rows.map_err(|Fault { line, problem }| {
        let remedy = "correct it, or name the columns with `path` and `label`";
        invalid(path, format!("line {line} {problem}"), remedy)
    })?;
    if rows.is_empty() {
        return Err(invalid(path, "names no images", "add rows with a path and a label"));
    }
    // Many tables mark what has no label by -1. As a name it would be a class.
    let negative = |label: &&Label| matches!(label, Label::Name(name) if is_negative(name));
    let wrong = |row: &Row| Some((row.line, row.labels.iter().flatten().find(negative)?.clone()));
    match rows.iter().find_map(wrong).filter(|_| options.classes.is_none()) {
        None => Ok(rows),
        Some((line, label)) => {
            let problem = format!("line {line} has the label `{label}`: numbers count from 0");
            Err(invalid(path, problem, "remove the row, or name all classes with `classes`"))
        }
    }
}

fn is_negative(name: &str) -> bool {
    name.parse::<i64>().is_ok_and(|number| number < 0)
}

/// What stands between the columns, by the first line: a comma if it has one.
fn delimiter(text: &str) -> u8 {
    let header = text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    [b'\t', b';', b'|']
        .into_iter()
        .find(|delimiter| !header.contains(',') && header.as_bytes().contains(delimiter))
        .unwrap_or(b',')
}

fn one_of(asked: Option<&String>, usual: &[&str]) -> String {
    match asked {
        Some(name) => format!("`{name}`"),
        None => format!("one of `{}`", usual.join("`, `")),
    }
}

fn of_columns(
    text: &str,
    delimiter: u8,
    options: &TableOptions,
    needs_labels: bool,
) -> Result<Vec<Row>, Fault> {
    let mut records = csv::records_with(text, delimiter)?.into_iter();
    let Some(header) = records.next() else { return Ok(Vec::new()) };
    let place = |asked: Option<&String>, usual: &[&str]| {
        let is = |name: &str| header.fields.iter().position(|f| f.eq_ignore_ascii_case(name));
        match asked {
            Some(name) => is(name),
            None => usual.iter().find_map(|name| is(name)),
        }
    };
    let missing = |asked: Option<&String>, usual: &[&str]| Fault {
        line: header.line,
        problem: format!(
            "has no column {}; its columns are `{}`",
            one_of(asked, usual),
            header.fields.join("`, `")
        ),
    };
    let (path, label) = (options.path.as_ref(), options.label.as_ref());
    let path_at = place(path, &PATHS).ok_or_else(|| missing(path, &PATHS))?;
    let label_at = place(label, &LABELS);
    if label_at.is_none() && (needs_labels || label.is_some()) {
        return Err(missing(label, &LABELS));
    }
    let split_at = place(options.split.as_ref(), &[SPLIT]);
    if split_at.is_none() && options.split.is_some() {
        return Err(missing(options.split.as_ref(), &[]));
    }
    let row = |record: csv::Record| {
        let line = record.line;
        let field = |at: usize| record.fields.get(at).map(String::as_str);
        let fault = |problem: &str| Fault { line, problem: problem.to_owned() };
        let file = field(path_at).filter(|file| !file.is_empty());
        let file = file.ok_or_else(|| fault("has no path"))?.to_owned();
        let labels = match (label_at, &options.separator) {
            (None, _) => None,
            (Some(at), Some(separator)) => Some(
                field(at)
                    .unwrap_or_default()
                    .split(separator.as_str())
                    .map(str::trim)
                    .filter(|label| !label.is_empty())
                    .map(Label::of_text)
                    .collect(),
            ),
            (Some(at), None) => {
                let label = field(at).filter(|label| !label.is_empty());
                Some(vec![Label::of_text(label.ok_or_else(|| fault("has no label"))?)])
            }
        };
        let split = split_at.and_then(field).map(str::to_owned);
        Ok(Row { line, file, labels, is_list: options.separator.is_some(), split })
    };
    records.map(row).collect()
}

fn of_json_lines(
    text: &str,
    options: &TableOptions,
    needs_labels: bool,
) -> Result<Vec<Row>, Fault> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let row = |(i, line): (usize, &str)| {
        let object = serde_json::from_str(line).map_err(|error| Fault {
            line: i + 1,
            problem: format!("is no JSON object ({error})"),
        })?;
        of_object(i + 1, &object, options, needs_labels)
    };
    lines.map(row).collect()
}

fn of_json(text: &str, options: &TableOptions, needs_labels: bool) -> Result<Vec<Row>, Fault> {
    let objects: Vec<Map<String, Value>> = serde_json::from_str(text).map_err(|error| Fault {
        line: error.line(),
        problem: format!("shows that it is no JSON list of objects ({error})"),
    })?;
    // An object may take several lines, so they are counted themselves.
    objects
        .iter()
        .enumerate()
        .map(|(i, object)| of_object(i + 1, object, options, needs_labels))
        .collect()
}

fn of_object(
    line: usize,
    object: &Map<String, Value>,
    options: &TableOptions,
    needs_labels: bool,
) -> Result<Row, Fault> {
    let value = |asked: Option<&String>, usual: &[&str]| match asked {
        Some(name) => object.get(name),
        None => usual.iter().find_map(|name| object.get(*name)),
    };
    let fault = |problem: String| Fault { line, problem };
    let path = options.path.as_ref();
    let file = value(path, &PATHS).and_then(Value::as_str).filter(|file| !file.is_empty());
    let file = file.ok_or_else(|| fault(format!("has no path ({})", one_of(path, &PATHS))))?;
    let label = value(options.label.as_ref(), &LABELS).filter(|label| !label.is_null());
    if label.is_none() && needs_labels {
        let fields = object.keys().map(String::as_str).collect::<Vec<_>>().join("`, `");
        let wanted = one_of(options.label.as_ref(), &LABELS);
        return Err(fault(format!("has no label ({wanted}); its fields are `{fields}`")));
    }
    let (labels, is_list) = match (label, &options.separator) {
        (None, _) => (None, false),
        (Some(Value::Array(list)), _) => (Some(list.iter().map(Label::of_json).collect()), true),
        (Some(Value::String(text)), Some(separator)) => {
            let labels = text.split(separator.as_str()).map(str::trim);
            (
                Some(labels.filter(|l| !l.is_empty()).map(|l| Some(Label::of_text(l))).collect()),
                true,
            )
        }
        (Some(one), _) => (Some(vec![Label::of_json(one)]), options.separator.is_some()),
    };
    let wrong = || fault("has a label that is neither a name nor a whole number from 0".to_owned());
    let labels =
        labels.map(|all: Vec<_>| all.into_iter().collect::<Option<Vec<_>>>().ok_or_else(wrong));
    let split = value(options.split.as_ref(), &[SPLIT]).and_then(Value::as_str);
    let (file, split) = (file.to_owned(), split.map(str::to_owned));
    Ok(Row { line, file, labels: labels.transpose()?, is_list, split })
}
