//! Event files for TensorBoard.
//!
//! The format is small: records of length, bytes and checksums around messages of a few fields. So it is
//! written here, without a protobuf compiler.

mod message;
mod record;

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use candle_vision_train::{Callback, Control, Event};

use crate::{Error, Result};
use message::{Summary, event, version_event};
use record::write_record;

/// Number of file names to try. Each process that starts in the same second needs its own.
const MOST_NAMES: u32 = 1000;

/// Writes one TensorBoard event file.
///
/// Each writer begins its own file. A resumed run therefore adds a file to the folder, and TensorBoard
/// joins the files. After a kill, every record up to the last [`flush`](EventWriter::flush) is whole.
///
/// ```
/// use candle_vision_report::EventWriter;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// let mut events = EventWriter::create(folder.path())?;
/// events.scalar("loss/train", 1, 0.69)?;
/// events.text("settings", 0, "lr = 0.001")?;
/// events.flush()?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct EventWriter {
    path: PathBuf,
    file: BufWriter<File>,
}

impl EventWriter {
    /// Begins a new file `events.out.tfevents.SECONDS.HOST.PROCESS.NUMBER` in `folder`. If the folder is
    /// missing, it is made.
    ///
    /// # Errors
    /// If the file cannot be created.
    pub fn create(folder: impl AsRef<Path>) -> Result<Self> {
        let folder = folder.as_ref();
        std::fs::create_dir_all(folder).map_err(Error::write(folder))?;
        let (path, file) = new_file(folder)?;
        let mut writer = Self { path, file: BufWriter::new(file) };
        writer.write(&version_event(now()))?;
        writer.flush()?;
        Ok(writer)
    }

    /// The path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Adds a number. TensorBoard groups tags by the text before their first `/`.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn scalar(&mut self, tag: &str, step: usize, value: f64) -> Result<()> {
        self.summary(step, &Summary::scalar(tag, value as f32))
    }

    /// Adds an image: a PNG file of `width` x `height` pixels.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn image(
        &mut self,
        tag: &str,
        step: usize,
        png: &[u8],
        (width, height): (usize, usize),
    ) -> Result<()> {
        self.summary(step, &Summary::image(tag, png, (width, height)))
    }

    /// Adds a text, which TensorBoard shows as Markdown.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn text(&mut self, tag: &str, step: usize, text: &str) -> Result<()> {
        self.summary(step, &Summary::text(tag, text))
    }

    /// Hands all records so far to the operating system.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn flush(&mut self) -> Result<()> {
        self.file.flush().map_err(Error::write(&self.path))
    }

    fn summary(&mut self, step: usize, summary: &Summary) -> Result<()> {
        self.write(&event(now(), step, summary))
    }

    fn write(&mut self, message: &[u8]) -> Result<()> {
        write_record(&mut self.file, message).map_err(Error::write(&self.path))
    }
}

fn now() -> f64 {
    // A clock before 1970 is the machine's mistake, and no reason to lose a run.
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

/// Creates a file that did not exist before. Readers remember how far they have read in a file of each
/// name.
fn new_file(folder: &Path) -> Result<(PathBuf, File)> {
    let stem = format!(
        "events.out.tfevents.{:010.0}.{}.{}",
        now().floor(),
        host_name(),
        std::process::id()
    );
    let mut number = 0;
    loop {
        let path = folder.join(format!("{stem}.{number}"));
        match OpenOptions::new().write(true).create_new(true).open(&path) {
            Ok(file) => return Ok((path, file)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && number < MOST_NAMES => {
                number += 1;
            }
            Err(error) => return Err(Error::write(&path)(error)),
        }
    }
}

/// TensorBoard ignores the host name. It tells runs of several machines in one folder apart.
fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let name = name.or_else(|| std::env::var("HOSTNAME").ok());
    let name = name.or_else(|| std::env::var("COMPUTERNAME").ok()).unwrap_or_default();
    let allowed = |c: &char| c.is_ascii_alphanumeric() || *c == '-';
    let name: String = name.trim().chars().filter(allowed).collect();
    if name.is_empty() { "localhost".to_owned() } else { name }
}

/// A callback that writes the numbers of a run for TensorBoard.
///
/// The file is flushed after each epoch.
///
/// | tag | written after each |
/// |---|---|
/// | `batch/loss`, `batch/lr` | step |
/// | `loss/train`, `loss/validation` | epoch |
/// | `accuracy/train`, `accuracy/validation` (fractions) | epoch |
/// | `lr`, `images_per_second`, `peak_memory` (bytes, if it is known) | epoch |
/// | `waiting` (the share of the steps that several processes waited for each other) | epoch |
#[derive(Debug)]
pub struct TensorBoard {
    events: EventWriter,
}

impl TensorBoard {
    /// Begins an event file in `folder`.
    ///
    /// # Errors
    /// If the file cannot be created.
    pub fn create(folder: impl AsRef<Path>) -> Result<Self> {
        Ok(Self { events: EventWriter::create(folder)? })
    }

    /// The event file, to add images and texts to it.
    pub fn events(&mut self) -> &mut EventWriter {
        &mut self.events
    }

    fn record(&mut self, event: &Event<'_>) -> Result<()> {
        let events = &mut self.events;
        match event {
            Event::BatchEnd { record, .. } => {
                events.scalar("batch/loss", record.step, record.loss)?;
                events.scalar("batch/lr", record.step, record.lr)
            }
            Event::EpochEnd { record, .. } => {
                let step = record.epoch;
                events.scalar("loss/train", step, record.train_loss)?;
                events.scalar("loss/validation", step, record.val_loss)?;
                events.scalar("accuracy/train", step, record.train_accuracy)?;
                events.scalar("accuracy/validation", step, record.val_accuracy)?;
                events.scalar("lr", step, record.lr)?;
                events.scalar("images_per_second", step, record.images_per_second)?;
                if let Some(bytes) = record.peak_memory {
                    events.scalar("peak_memory", step, bytes as f64)?;
                }
                if let Some(share) = record.waiting {
                    events.scalar("waiting", step, share)?;
                }
                events.flush()
            }
            Event::RunEnd { .. } => events.flush(),
            _ => Ok(()),
        }
    }
}

impl Callback for TensorBoard {
    fn on_event(&mut self, event: &Event<'_>) -> candle_vision_train::Result<Control> {
        let written = self.record(event);
        written.map_err(|e| candle_vision_train::Error::callback("writing events", e))?;
        Ok(Control::Continue)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_writer_has_its_own_file() -> Result<()> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let first = EventWriter::create(folder.path())?;
        let second = EventWriter::create(folder.path())?;
        assert_ne!(first.path(), second.path());
        let name = first.path().file_name().and_then(|name| name.to_str()).expect("a name");
        let seconds = name.strip_prefix("events.out.tfevents.").expect("TensorBoard's prefix");
        assert!(seconds.split('.').next().is_some_and(|s| s.len() == 10), "{name}");
        Ok(())
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("file");
        std::fs::write(&file, "").expect("writable");
        let error = EventWriter::create(file.join("run")).expect_err("a file is no folder");
        assert!(error.to_string().contains("file/run"), "{error}");
    }
}
