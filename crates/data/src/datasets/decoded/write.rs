//! Decodes all images of a data set and writes them to a file.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::format::{Entry, Index, MARK};
use crate::dataset::{Dataset, Sample, check_label};
use crate::error::{Error, Result};
use crate::temporary::temporary;

/// Writes the file. It appears under its name when it is whole.
pub(super) fn write(
    path: &Path,
    fingerprint: &str,
    set: &dyn Dataset,
    threads: usize,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder).map_err(Error::io_write(folder))?;
    // Another process may write the same file, also one on another computer that has the same number there.
    let stem = path.file_stem().unwrap_or_default();
    let part = temporary(false).prefix(stem).suffix(".part").tempfile_in(folder);
    let mut part = part.map_err(Error::io_write(path))?;
    write_part(part.as_file_mut(), path, fingerprint, set, threads, progress)?;
    part.persist(path).map(|_| ()).map_err(|error| Error::io_write(path)(error.error))
}

fn write_part(
    part: &mut File,
    path: &Path,
    fingerprint: &str,
    set: &dyn Dataset,
    threads: usize,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<()> {
    let failed = || Error::io_write(path);
    let mut file = BufWriter::with_capacity(1 << 20, part);
    file.write_all(MARK).map_err(failed())?;
    let mut at = MARK.len() as u64;
    let mut entries = vec![Entry::default(); set.len()];
    let mut done = 0;
    each_sample(set, threads, &mut |index, sample| {
        done += 1;
        progress(done, set.len());
        let Some(Sample { image, label, mask: None }) = sample else { return Ok(()) };
        check_label(set, index, label, set.classes().len())?;
        let (width, height, channels) = (image.width(), image.height(), image.channels());
        entries[index] = Entry { offset: at, width, height, channels, label };
        at += image.pixels().len() as u64;
        file.write_all(image.pixels()).map_err(failed())
    })?;
    Index { entries }.write(&mut file, at, fingerprint).map_err(failed())?;
    let file = file.into_inner().map_err(|error| failed()(error.into_error()))?;
    file.sync_all().map_err(failed())
}

/// Reads all samples by several threads and gives them to `take`, in no particular order. It gets `None` for an image that
/// cannot be read: the data set says again what is wrong with it when it is needed.
fn each_sample(
    set: &dyn Dataset,
    threads: usize,
    take: &mut dyn FnMut(usize, Option<Sample>) -> Result<()>,
) -> Result<()> {
    let next = AtomicUsize::new(0);
    let threads = threads.max(1);
    std::thread::scope(|scope| {
        // One image for each thread waits, so few are in memory.
        let (send, receive) = crossbeam_channel::bounded(threads);
        for _ in 0..threads {
            let (send, next) = (send.clone(), &next);
            scope.spawn(move || {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    // After an error nobody takes samples any more.
                    if index >= set.len() || send.send((index, set.sample(index))).is_err() {
                        return;
                    }
                }
            });
        }
        drop(send);
        for (index, sample) in receive {
            match sample {
                Err(error) if !error.is_broken_image() => return Err(error),
                sample => take(index, sample.ok())?,
            }
        }
        Ok(())
    })
}
