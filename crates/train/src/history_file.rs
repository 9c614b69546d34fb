//! The measurements of a run as CSV tables, which other programs can read too.

use std::io;
use std::path::Path;

use crate::record::{BatchRecord, EpochRecord, History};
use crate::{Error, Result};

/// The columns that every run has.
const COLUMNS: &str =
    "epoch,train_loss,train_accuracy,val_loss,val_accuracy,lr,seconds,images_per_second";

/// The column behind them, if the system told how much memory was in use. Older runs do not have it.
const MEMORY: &str = "peak_memory_bytes";

pub(crate) fn metrics_csv(history: &History) -> String {
    let metrics = history.metric_names();
    let has_memory = history.peak_memory().is_some();
    let mut text = String::from(COLUMNS);
    if has_memory {
        text += &format!(",{MEMORY}");
    }
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
        if has_memory {
            text +=
                &record.peak_memory.map_or_else(|| ",NaN".to_owned(), |bytes| format!(",{bytes}"));
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
    let has_memory = columns.first().is_some_and(|first| first == MEMORY);
    let names = &columns[usize::from(has_memory)..];
    let epoch = |row: &[f64]| {
        let (
            &[epoch, train_loss, train_accuracy, val_loss, val_accuracy, lr, seconds, speed],
            more,
        ) = row.split_first_chunk::<8>()?;
        let (memory, more) = match has_memory {
            true => more.split_first()?,
            false => (&f64::NAN, more),
        };
        let measured = names.iter().cloned().zip(more.iter().copied());
        (more.len() == names.len()).then(|| EpochRecord {
            epoch: epoch as usize,
            train_loss,
            train_accuracy,
            val_loss,
            val_accuracy,
            lr,
            seconds,
            images_per_second: speed,
            peak_memory: memory.is_finite().then_some(*memory as u64),
            metrics: measured.filter(|(_, value)| !value.is_nan()).collect(),
        })
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
    fn memory_has_a_column_where_it_is_known() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.csv");
        let mut history = History { batches: Vec::new(), ..history() };
        history.epochs[0].metrics.insert("top_5".to_owned(), 0.5);
        assert!(!metrics_csv(&history).contains(MEMORY));
        history.epochs.push(EpochRecord { peak_memory: Some(3 << 30), ..EpochRecord::new(2) });
        let text = metrics_csv(&history);
        assert!(text.starts_with(&format!("{COLUMNS},{MEMORY},top_5\n")), "{text}");
        assert!(text.contains(",NaN,0.500000\n") && text.contains(",3221225472,NaN\n"), "{text}");
        std::fs::write(&path, text).unwrap();
        assert_eq!(read_history(&path, Path::new("none")).unwrap(), history);
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
