//! The measurements of a run as tables that any other program reads too.

use std::io;
use std::path::Path;

use crate::record::{BatchRecord, EpochRecord, History};
use crate::{Error, Result};

pub(crate) fn metrics_csv(history: &History) -> String {
    let mut text = String::from(
        "epoch,train_loss,train_accuracy,val_loss,val_accuracy,lr,seconds,images_per_second\n",
    );
    for record in &history.epochs {
        text += &format!(
            "{},{:.6},{:.6},{:.6},{:.6},{:e},{:.3},{:.2}\n",
            record.epoch,
            record.train_loss,
            record.train_accuracy,
            record.val_loss,
            record.val_accuracy,
            record.lr,
            record.seconds,
            record.images_per_second
        );
    }
    text
}

pub(crate) fn batches_csv(history: &History) -> String {
    let mut text = String::from("step,epoch,loss,lr\n");
    for record in &history.batches {
        text += &format!("{},{},{:.6},{:e}\n", record.step, record.epoch, record.loss, record.lr);
    }
    text
}

/// Reads the two tables; one that is missing is empty.
pub(crate) fn read_history(metrics: &Path, batches: &Path) -> Result<History> {
    let epoch = |row: &[f64]| match *row {
        [epoch, train_loss, train_accuracy, val_loss, val_accuracy, lr, seconds, speed] => {
            Some(EpochRecord {
                epoch: epoch as usize,
                train_loss,
                train_accuracy,
                val_loss,
                val_accuracy,
                lr,
                seconds,
                images_per_second: speed,
            })
        }
        _ => None,
    };
    let batch = |row: &[f64]| match *row {
        [step, epoch, loss, lr] => {
            Some(BatchRecord { step: step as usize, epoch: epoch as usize, loss, lr })
        }
        _ => None,
    };
    Ok(History { epochs: rows(metrics, epoch)?, batches: rows(batches, batch)? })
}

/// The rows under the header.
fn rows<T>(path: &Path, record: impl Fn(&[f64]) -> Option<T>) -> Result<Vec<T>> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::io("read", path)(error)),
    };
    let row = |(number, line): (usize, &str)| {
        let values: Option<Vec<f64>> = line.split(',').map(|value| value.parse().ok()).collect();
        let parsed = values.as_deref().and_then(&record);
        parsed.ok_or_else(|| Error::DamagedTable { path: path.to_path_buf(), line: number + 1 })
    };
    text.lines().enumerate().skip(1).map(row).collect()
}

#[cfg(test)]
mod tests {
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
