//! Data sets that are lists of image files with labels, in memory only the list.

use std::path::{Path, PathBuf};

use super::Samples;
use crate::dataset::Fingerprint;
use crate::error::{Error, Result};
use crate::image::{Image, ReadOptions};

/// Image files with labels.
pub(super) struct LabelledFiles<'a> {
    /// The kind of the data set, for the fingerprint.
    pub(super) kind: &'static str,
    /// The folder of the data. Its path is no part of the fingerprint, so that a copy of the data counts as the same
    /// data.
    pub(super) folder: &'a Path,
    pub(super) classes: Vec<String>,
    /// The files with their labels.
    pub(super) rows: Vec<(PathBuf, u32)>,
    /// What says that the files are there, for messages.
    pub(super) list: &'a Path,
}

impl LabelledFiles<'_> {
    /// The data set.
    ///
    /// # Errors
    /// If there are no files, a file is missing, or a label is not that of a class.
    pub(super) fn open(self, options: ReadOptions) -> Result<Samples<PathBuf>> {
        let invalid = |problem: String, remedy: &str| Error::Invalid {
            path: self.list.to_path_buf(),
            problem,
            remedy: remedy.to_owned(),
        };
        if self.rows.is_empty() {
            return Err(invalid("names no images".to_owned(), super::remedy::AGAIN));
        }
        let count = self.classes.len();
        if let Some((file, label)) = self.rows.iter().find(|(_, label)| *label as usize >= count) {
            let problem = format!(
                "gives `{}` label {label}, but there are {count} classes, labelled from 0",
                file.display()
            );
            return Err(invalid(problem, "correct the label or the list of classes"));
        }
        let mut hash = Fingerprint::new(self.kind);
        hash = self.classes.iter().fold(hash, |hash, class| hash.text(class));
        let (mut missing, mut first) = (0, None);
        for (file, label) in &self.rows {
            let size = match file.metadata() {
                Ok(metadata) if metadata.is_file() => metadata.len(),
                _ => {
                    missing += 1;
                    first = first.or(Some(file));
                    0
                }
            };
            let name = file.strip_prefix(self.folder).unwrap_or(file).to_string_lossy();
            hash = hash.text(&name).number(size).number(u64::from(*label));
        }
        if let Some(first) = first {
            let problem = format!(
                "names `{}`, which is no file; {missing} of {} images are not there",
                first.display(),
                self.rows.len()
            );
            return Err(invalid(problem, super::remedy::AGAIN));
        }
        Ok(Samples::of_files(self.classes, self.rows, options).with_fingerprint(hash.finish()))
    }
}

impl Samples<PathBuf> {
    /// Image files with labels, read with these options.
    pub(super) fn of_files(
        classes: Vec<String>,
        rows: Vec<(PathBuf, u32)>,
        options: ReadOptions,
    ) -> Self {
        Self::new(classes, rows, move |file| Image::open_with(file, &options))
            .with_parts(move |file, choose| Image::open_part_with(file, &options, choose))
            .with_names(|file| file.display().to_string())
            .with_exif_orientation(options.exif_orientation)
            .cacheable()
    }
}

/// The text of a file of a known data set.
pub(super) fn text_of(path: &Path) -> Result<String> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(Error::NotFound {
                path: path.to_path_buf(),
                expected: "a list of the data set".to_owned(),
                remedy: super::remedy::FETCH.to_owned(),
            });
        }
        Err(error) => return Err(Error::io(path)(error)),
    };
    utf8(path, bytes)
}

/// The text of a file with these bytes.
pub(super) fn utf8(path: &Path, bytes: Vec<u8>) -> Result<String> {
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        Error::Invalid {
            path: path.to_path_buf(),
            problem: format!("is no text in UTF-8: byte {at} is not"),
            remedy: "save it as UTF-8".to_owned(),
        }
    })
}

/// The class names in a file, one in each line, or `usual` if the file is missing.
///
/// # Errors
/// If the file has another number of names.
pub(super) fn names_in(path: &Path, usual: Vec<String>) -> Result<Vec<String>> {
    if !path.is_file() {
        return Ok(usual);
    }
    let text = text_of(path)?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let names: Vec<String> = lines.map(str::to_owned).collect();
    if names.len() == usual.len() {
        return Ok(names);
    }
    let problem = format!("names {} classes, not {}", names.len(), usual.len());
    let remedy = "correct or remove it".to_owned();
    Err(Error::Invalid { path: path.to_path_buf(), problem, remedy })
}
