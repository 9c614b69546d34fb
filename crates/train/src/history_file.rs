//! The measurements of a run as CSV tables, which other programs can read too.

use std::io;
use std::path::Path;

use crate::record::{BatchRecord, EpochRecord, History};
use crate::{Error, Result};

/// The columns that every run has.
const COLUMNS: &str =
    "epoch,train_loss,train_accuracy,val_loss,val_accuracy,lr,seconds,images_per_second";

/// The columns behind them, each if an epoch has such a value: the memory that was in use, and the share of the steps that
/// processes waited for each other. Older runs do not have them.
const OPTIONAL: [Optional; 2] = [
    Optional {
        name: "peak_memory_bytes",
        get: |record| record.peak_memory.map(|bytes| bytes.to_string()),
        set: |record, value| record.peak_memory = Some(value as u64),
    },
    Optional {
        name: "waiting",
        get: |record| record.waiting.map(|share| format!("{share:.4}")),
        set: |record, value| record.waiting = Some(value),
    },
];

/// A column that not every run has.
struct Optional {
    name: &'static str,
    get: fn(&EpochRecord) -> Option<String>,
    set: fn(&mut EpochRecord, f64),
}

pub(crate) fn metrics_csv(history: &History) -> String {
    let metrics = history.metric_names();
    let is_there = |column: &&Optional| history.epochs.iter().any(|e| (column.get)(e).is_some());
    let optional: Vec<&Optional> = OPTIONAL.iter().filter(is_there).collect();
    let mut text = String::from(COLUMNS);
    optional.iter().for_each(|column| text += &format!(",{}", column.name));
    metrics.iter().for_each(|name| text += &format!(",{}", column(name)));
    text += "\n";
    for record in &history.epochs {
        text += &format!(
            "{},{:.6},{:.6},{:.6},{:.6},{:e},{:.3},{:.2}",
            record.epoch,
            record.train_loss,
            record.train_accuracy,
            record.val_loss,
            record.val_accuracy,
            record.lr,
            record.seconds,
            record.images_per_second
        );
        for column in &optional {
            text += &format!(",{}", (column.get)(record).as_deref().unwrap_or("NaN"));
        }
        for name in &metrics {
            // A metric that was not finite has no value.
            let value = record.metrics.get(*name).copied().unwrap_or(f64::NAN);
            text += &format!(",{value:.6}");
        }
        text += "\n";
    }
    text
}

/// A metric's name as the name of a column.
fn column(name: &str) -> String {
    name.replace([',', '\n', '\r', '"'], " ")
}

pub(crate) fn batches_csv(history: &History) -> String {
    let mut text = String::from("step,epoch,loss,lr\n");
    for record in &history.batches {
        text += &format!("{},{},{:.6},{:e}\n", record.step, record.epoch, record.loss, record.lr);
    }
    text
}

/// Reads the two tables. A missing table counts as empty.
pub(crate) fn read_history(metrics: &Path, batches: &Path) -> Result<History> {
    let columns = more_columns(metrics)?;
    let mut names = columns.as_slice();
    let mut optional = Vec::new();
    for column in &OPTIONAL {
        if let Some((_, rest)) = names.split_first().filter(|(name, _)| *name == column.name) {
            optional.push(column);
            names = rest;
        }
    }
    let epoch = |row: &[f64]| {
        let (
            &[epoch, train_loss, train_accuracy, val_loss, val_accuracy, lr, seconds, speed],
            more,
        ) = row.split_first_chunk::<8>()?;
        let (given, more) = more.split_at_checked(optional.len())?;
        let measured = names.iter().cloned().zip(more.iter().copied());
        let mut record = EpochRecord {
            train_loss,
            train_accuracy,
            val_loss,
            val_accuracy,
            lr,
            seconds,
            images_per_second: speed,
            metrics: measured.filter(|(_, value)| !value.is_nan()).collect(),
            ..EpochRecord::new(epoch as usize)
        };
        for (column, value) in optional.iter().zip(given).filter(|(_, value)| value.is_finite()) {
            (column.set)(&mut record, *value);
        }
        (more.len() == names.len()).then_some(record)
    };
    let batch = |row: &[f64]| match *row {
        [step, epoch, loss, lr] => {
            Some(BatchRecord { step: step as usize, epoch: epoch as usize, loss, lr })
        }
        _ => None,
    };
    Ok(History { epochs: rows(metrics, epoch)?, batches: rows(batches, batch)? })
}

/// The columns that the header names after those of every run.
fn more_columns(path: &Path) -> Result<Vec<String>> {
    let text = read(path)?;
    let header = text.lines().next().and_then(|header| header.strip_prefix(COLUMNS));
    Ok(header.map_or_else(Vec::new, |more| more.split(',').skip(1).map(str::to_owned).collect()))
}

/// The text of a table. It is empty if the file is missing.
fn read(path: &Path) -> Result<String> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(Error::io("read", path)(error)),
    }
}

/// The rows below the header.
fn rows<T>(path: &Path, record: impl Fn(&[f64]) -> Option<T>) -> Result<Vec<T>> {
    let text = read(path)?;
    let row = |(number, line): (usize, &str)| {
        let values: Option<Vec<f64>> = line.split(',').map(|value| value.parse().ok()).collect();
        let parsed = values.as_deref().and_then(&record);
        parsed.ok_or_else(|| Error::DamagedTable { path: path.to_path_buf(), line: number + 1 })
    };
    text.lines().enumerate().skip(1).map(row).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn history() -> History {
        let record = EpochRecord {
            epoch: 1,
            train_loss: 0.5,
            train_accuracy: 0.75,
            val_loss: 0.25,
            val_accuracy: 1.0,
            lr: 1e-3,
            seconds: 2.0,
            images_per_second: 100.0,
            peak_memory: None,
            waiting: None,
            metrics: BTreeMap::new(),
        };
        let batch = BatchRecord { step: 1, epoch: 1, loss: 0.5, lr: 1e-3 };
        History { epochs: vec![record], batches: vec![batch] }
    }

    #[test]
    fn tables_have_a_row_for_each_record() {
        let history = history();
        let metrics = metrics_csv(&history);
        let row = "1,0.500000,0.750000,0.250000,1.000000,1e-3,2.000,100.00";
        assert_eq!(metrics.lines().nth(1), Some(row));
        assert_eq!(batches_csv(&history), "step,epoch,loss,lr\n1,1,0.500000,1e-3\n");
    }

    #[test]
    fn what_was_written_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let [metrics, batches] =
            ["metrics.csv", "batches.csv"].map(|name| folder.path().join(name));
        assert_eq!(read_history(&metrics, &batches).unwrap(), History::default());
        std::fs::write(&metrics, metrics_csv(&history())).unwrap();
        std::fs::write(&batches, batches_csv(&history())).unwrap();
        assert_eq!(read_history(&metrics, &batches).unwrap(), history());
    }

    #[test]
    fn metrics_have_columns_of_their_own() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.csv");
        let mut history = History { batches: Vec::new(), ..history() };
        history.epochs[0].metrics.insert("top_5".to_owned(), 0.5);
        history.epochs.push(EpochRecord::new(2));
        let text = metrics_csv(&history);
        assert!(text.lines().next().is_some_and(|header| header.ends_with(",top_5")), "{text}");
        assert!(text.lines().nth(1).is_some_and(|row| row.ends_with(",0.500000")), "{text}");
        std::fs::write(&path, text).unwrap();
        assert_eq!(read_history(&path, Path::new("none")).unwrap(), history);
    }

    #[test]
    fn what_not_every_run_knows_has_a_column_where_it_is_known() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.csv");
        let mut history = History { batches: Vec::new(), ..history() };
        history.epochs[0].metrics.insert("top_5".to_owned(), 0.5);
        let text = metrics_csv(&history);
        assert!(text.starts_with(&format!("{COLUMNS},top_5\n")), "{text}");
        history.epochs.push(EpochRecord { waiting: Some(0.125), ..EpochRecord::new(2) });
        let check = |history: &History, columns: &str, rows: [&str; 2]| {
            let text = metrics_csv(history);
            assert!(text.starts_with(&format!("{COLUMNS},{columns}\n")), "{text}");
            assert!(rows.iter().all(|row| text.contains(&format!("{row}\n"))), "{text}");
            std::fs::write(&path, text).unwrap();
            assert_eq!(read_history(&path, Path::new("none")).unwrap(), *history);
        };
        check(&history, "waiting,top_5", [",NaN,0.500000", ",0.1250,NaN"]);
        history.epochs[1].peak_memory = Some(3 << 30);
        let rows = [",NaN,NaN,0.500000", ",3221225472,0.1250,NaN"];
        check(&history, "peak_memory_bytes,waiting,top_5", rows);
        history.epochs[1].waiting = None;
        check(&history, "peak_memory_bytes,top_5", [",NaN,0.500000", ",3221225472,NaN"]);
    }

    #[test]
    fn a_damaged_row_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("batches.csv");
        for row in ["2,1,0.5", "2,1,x,0.1", ""] {
            std::fs::write(&path, format!("step,epoch,loss,lr\n1,1,0.5,0.1\n{row}\n")).unwrap();
            let error = read_history(Path::new("none"), &path).unwrap_err().to_string();
            assert!(error.contains("batches.csv` line 3"), "{error}");
        }
    }
}
