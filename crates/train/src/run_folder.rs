//! The folder of a run: its settings, measurements and checkpoints.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::environment::Environment;
use crate::gradient_norms::{GradientRecord, gradients_csv, read_gradients};
use crate::history_file::{batches_csv, metrics_csv, read_history};
use crate::record::History;
use crate::run_lock::RunLock;
use crate::{Error, Result, atomic_file};

/// The folder of a run, `runs/NAME/NNN`. It holds these files:
///
/// | file | what |
/// |---|---|
/// | `config.toml` | all settings |
/// | `environment.json` | program, machine, command line and time of the start, and what the program adds |
/// | `metrics.csv`, `batches.csv` | results of every epoch, losses of every batch |
/// | `gradients.csv` | norms of gradients, if they are recorded |
/// | `best.safetensors` | the network after the best epoch |
/// | `last.safetensors` | the network as it is now, and what is needed to resume |
///
/// Every file is written completely under another name and then renamed. Opening a run changes nothing in
/// its folder. [`Trainer::run`](crate::Trainer::run) locks the folder with an advisory lock on
/// `environment.json`, so that two processes cannot train one run. It also removes the temporary files of a
/// killed process.
#[derive(Debug, Clone)]
pub struct RunFolder {
    path: PathBuf,
    /// The lock of a folder that was opened to resume.
    lock: Option<Arc<RunLock>>,
}

impl RunFolder {
    /// Makes the next folder of the runs called `name`. Two processes that do so at the same time get two
    /// folders.
    ///
    /// - `config`: text of `config.toml`
    ///
    /// # Errors
    /// If the name is not allowed, or the folder cannot be made or written to.
    ///
    /// # Example
    /// ```
    /// use candle_vision_train::RunFolder;
    ///
    /// let runs = tempfile::tempdir()?;
    /// let run = RunFolder::create(runs.path(), "resnet18", "epochs = 10")?;
    /// assert!(run.path().ends_with("resnet18/001"));
    /// assert_eq!(RunFolder::latest(runs.path(), "resnet18")?.path(), run.path());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn create(runs_root: impl AsRef<Path>, name: &str, config: &str) -> Result<Self> {
        Self::create_with(runs_root, name, config, &serde_json::Value::Null)
    }

    /// As [`RunFolder::create`], with facts of the program's own in `environment.json`: the entries of an object.
    ///
    /// # Errors
    /// As `create`.
    pub fn create_with(
        runs_root: impl AsRef<Path>,
        name: &str,
        config: &str,
        facts: &serde_json::Value,
    ) -> Result<Self> {
        let group = group_folder(runs_root.as_ref(), name)?;
        fs::create_dir_all(&group).map_err(Error::io("create", &group))?;
        let path = create_next(&group)?;
        let run = Self { path, lock: None };
        run.write("config.toml", config.as_bytes())?;
        run.write("environment.json", Environment::now(facts).to_json().as_bytes())?;
        Ok(run)
    }

    /// Opens the folder of an existing run to read it. Nothing in the folder changes, even while another
    /// process trains the run.
    ///
    /// # Errors
    /// If there is no such folder.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref().to_path_buf();
        if !path.is_dir() {
            return Err(Error::NoRun { folder: path });
        }
        Ok(Self { path, lock: None })
    }

    /// Opens the folder of an existing run to resume it. No other process can write to the run until this
    /// value and its clones are dropped. So the checkpoint that is read now is still the last one when
    /// training begins.
    ///
    /// # Errors
    /// If there is no such folder, it cannot be written to, or another process trains the run
    /// ([`Error::RunInUse`]).
    ///
    /// # Example
    /// ```
    /// use candle_vision_train::RunFolder;
    ///
    /// let runs = tempfile::tempdir()?;
    /// let run = RunFolder::create(runs.path(), "resnet18", "epochs = 10")?;
    /// let held = RunFolder::open_to_resume(run.path())?;
    /// assert!(RunFolder::open_to_resume(run.path()).is_err());
    /// assert!(RunFolder::open(run.path()).is_ok());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn open_to_resume(path: impl AsRef<Path>) -> Result<Self> {
        let run = Self::open(path)?;
        Ok(Self { lock: Some(run.hold()?), ..run })
    }

    /// Locks the folder, unless this value already holds its lock, and removes leftover files.
    pub(crate) fn hold(&self) -> Result<Arc<RunLock>> {
        if let Some(lock) = &self.lock {
            return Ok(Arc::clone(lock));
        }
        let lock = RunLock::acquire(&self.path)?;
        candle_vision_files::remove_leftovers(&self.path)
            .map_err(Error::io("remove what a killed process left in", &self.path))?;
        Ok(Arc::new(lock))
    }

    /// The run called `name` with the highest number.
    ///
    /// # Errors
    /// If there is none.
    pub fn latest(runs_root: impl AsRef<Path>, name: &str) -> Result<Self> {
        let group = group_folder(runs_root.as_ref(), name)?;
        match numbers(&group)?.into_iter().max_by_key(|(number, _)| *number) {
            Some((_, path)) => Self::open(path),
            None => Err(Error::NoRun { folder: group }),
        }
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Path of the network after the best epoch. The file need not exist yet.
    pub fn best(&self) -> PathBuf {
        self.path.join("best.safetensors")
    }

    /// Path of the latest network with the state of the run. The file need not exist yet.
    pub fn last(&self) -> PathBuf {
        self.path.join("last.safetensors")
    }

    /// Writes a file of the run. At any moment it is either as before or completely new.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<PathBuf> {
        let path = self.path.join(name);
        atomic_file::write_atomically(&path, bytes)?;
        Ok(path)
    }

    /// Writes `metrics.csv` and `batches.csv`.
    ///
    /// # Errors
    /// If one cannot be written.
    pub fn write_history(&self, history: &History) -> Result<()> {
        self.write("metrics.csv", metrics_csv(history).as_bytes())?;
        self.write("batches.csv", batches_csv(history).as_bytes())?;
        Ok(())
    }

    /// The contents of `metrics.csv` and `batches.csv`. A missing file counts as empty.
    ///
    /// # Errors
    /// [`Error::DamagedTable`] if a row does not have the form that [`RunFolder::write_history`] writes.
    pub fn history(&self) -> Result<History> {
        read_history(&self.path.join("metrics.csv"), &self.path.join("batches.csv"))
    }

    /// Writes `gradients.csv`.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write_gradients(&self, records: &[GradientRecord]) -> Result<()> {
        self.write("gradients.csv", gradients_csv(records).as_bytes()).map(|_| ())
    }

    /// The contents of `gradients.csv`. A missing file counts as empty.
    ///
    /// # Errors
    /// [`Error::DamagedTable`] if a row does not have the form that [`RunFolder::write_gradients`] writes.
    pub fn gradients(&self) -> Result<Vec<GradientRecord>> {
        read_gradients(&self.path.join("gradients.csv"))
    }
}

fn group_folder(runs_root: &Path, name: &str) -> Result<PathBuf> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    // A leading dot would also allow `..`.
    if name.is_empty() || name.starts_with('.') || !name.chars().all(plain) {
        return Err(Error::RunName { name: name.to_owned() });
    }
    Ok(runs_root.join(name))
}

/// Makes the folder with the first free number. The process that makes a folder owns its number.
fn create_next(group: &Path) -> Result<PathBuf> {
    let mut number = numbers(group)?.into_iter().map(|(number, _)| number).max().unwrap_or(0) + 1;
    loop {
        let path = group.join(format!("{number:03}"));
        match fs::create_dir(&path) {
            Ok(()) => return Ok(path),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
            Err(error) => return Err(Error::io("create", &path)(error)),
        }
    }
}

/// The numbered folders in a group. There are none if the group does not exist.
fn numbers(group: &Path) -> Result<Vec<(u32, PathBuf)>> {
    let entries = match fs::read_dir(group) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::io("read", group)(error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(Error::io("read", group))?.path();
        let number =
            path.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse().ok());
        if let Some(number) = number.filter(|_| path.is_dir()) {
            found.push((number, path));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_go_on_after_the_highest() {
        let runs = tempfile::tempdir().unwrap();
        fs::create_dir_all(runs.path().join("a/041")).unwrap();
        fs::create_dir_all(runs.path().join("a/notes")).unwrap();
        fs::write(runs.path().join("a/077"), "no folder").unwrap();
        let run = RunFolder::create(runs.path(), "a", "").unwrap();
        assert!(run.path().ends_with("a/042"), "{:?}", run.path());
        assert!(RunFolder::latest(runs.path(), "a").unwrap().path().ends_with("a/042"));
    }

    #[test]
    fn threads_that_start_together_get_a_folder_each() {
        let runs = tempfile::tempdir().unwrap();
        let create = || RunFolder::create(runs.path(), "a", "").unwrap().path().to_path_buf();
        let paths: std::collections::BTreeSet<PathBuf> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(create)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(paths.len(), 8);
    }

    #[test]
    fn a_name_cannot_leave_the_folder() {
        for name in ["", "..", "a/b", ".a", "a b", "\\a"] {
            let error = RunFolder::create("runs", name, "").unwrap_err();
            assert!(matches!(error, Error::RunName { .. }), "{name}: {error}");
        }
    }

    #[test]
    fn a_missing_run_is_named() {
        let runs = tempfile::tempdir().unwrap();
        let error = RunFolder::latest(runs.path(), "a").unwrap_err().to_string();
        assert!(error.starts_with("there is no run in `") && error.contains("/a`"), "{error}");
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn opening_a_run_to_read_it_changes_nothing_in_its_folder() {
        let runs = tempfile::tempdir().unwrap();
        let run = RunFolder::create(runs.path(), "a", "").unwrap();
        fs::write(run.path().join(".candle-vision-abc.tmp"), "half").unwrap();
        let before = names(run.path());
        RunFolder::open(run.path()).unwrap().history().unwrap();
        RunFolder::latest(runs.path(), "a").unwrap();
        assert_eq!(names(run.path()), before);
        RunFolder::open_to_resume(run.path()).unwrap();
        assert_eq!(names(run.path()), ["config.toml", "environment.json"]);
    }

    #[test]
    fn one_run_has_one_writer() {
        let runs = tempfile::tempdir().unwrap();
        let run = RunFolder::create(runs.path(), "a", "").unwrap();
        let held = RunFolder::open_to_resume(run.path()).unwrap();
        let error = run.hold().unwrap_err();
        assert!(matches!(error, Error::RunInUse { .. }), "{error}");
        assert!(error.to_string().contains("a/001` is being trained"), "{error}");
        // The holder itself may train, more than once.
        held.hold().unwrap();
        held.clone().hold().unwrap();
        drop(held);
        run.hold().unwrap();
    }

    #[test]
    fn settings_and_machine_are_written() {
        let runs = tempfile::tempdir().unwrap();
        let run = RunFolder::create(runs.path(), "a", "epochs = 3\n").unwrap();
        let read = |name| fs::read_to_string(run.path().join(name)).unwrap();
        assert_eq!(read("config.toml"), "epochs = 3\n");
        let environment: serde_json::Value =
            serde_json::from_str(&read("environment.json")).unwrap();
        assert_eq!(environment["candle_vision"], env!("CARGO_PKG_VERSION"));
    }
}
