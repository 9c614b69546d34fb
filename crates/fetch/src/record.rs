//! The record of a fetched folder: the sum, the length and the time of each file when it was fetched.
//!
//! An archive is verified as a whole and then deleted, so its files could not be compared with anything.
//! Therefore the folder itself holds a record, `.candle-vision-files`, with one line per file:
//!
//! ```text
//! SHA256 BYTES NANOSECONDS_OF_LAST_CHANGE PATH
//! ```
//!
//! A quick check compares lengths and times. It reads only files whose time differs, for example in a copy
//! of the folder. A full check reads every byte. Only fetching writes a record. A folder without a record
//! comes from an earlier version or was made by hand, and is accepted as it is.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use crate::checksum::sha256_of_file;
use crate::disk;
use crate::error::{Error, Result};
use crate::item::Depth;

/// Name of the record file, which lies in the folder it describes.
pub(crate) const RECORD_FILE: &str = ".candle-vision-files";
/// Largest length of a record. It takes only a few bytes per file.
const MAX_BYTES: u64 = 256 << 20;

/// One line of a record.
struct Entry {
    sha256: String,
    bytes: u64,
    /// Modification time in nanoseconds since 1970. It is 0 if not known.
    changed: u128,
    path: String,
}

/// Whether `folder` has a record.
pub(crate) fn is_there(folder: &Path) -> bool {
    folder.join(RECORD_FILE).is_file()
}

/// Writes the record of all files in `folder`.
pub(crate) fn write(folder: &Path) -> Result<()> {
    let mut text = String::new();
    for path in files_below(folder)? {
        // Names in a form that archives may not have are left out.
        let Some(name) = relative(folder, &path) else { continue };
        let metadata = fs::metadata(&path).map_err(Error::io("read", &path))?;
        let sum = sha256_of_file(&path)?;
        text += &format!("{sum} {} {} {name}\n", metadata.len(), changed(&metadata));
    }
    disk::write(&folder.join(RECORD_FILE), text.as_bytes())
}

/// Checks the files of `folder` against its record. Without a record there is nothing to check.
///
/// # Errors
/// [`Error::Mismatch`] for the first file, in the record's order, that is missing or changed.
pub(crate) fn check(folder: &Path, depth: Depth) -> Result<()> {
    differences(folder, depth)?.into_iter().next().map_or(Ok(()), Err)
}

/// All differences that [`check`] looks for.
pub(crate) fn differences(folder: &Path, depth: Depth) -> Result<Vec<Error>> {
    let mut found = Vec::new();
    for entry in read(folder)? {
        match entry.check(&folder.join(&entry.path), depth) {
            Err(error @ Error::Mismatch { .. }) => found.push(error),
            checked => checked?,
        }
    }
    Ok(found)
}

impl Entry {
    fn check(&self, path: &Path, depth: Depth) -> Result<()> {
        let metadata = match fs::metadata(path) {
            Ok(metadata) if metadata.is_file() => metadata,
            Ok(_) => return Err(differs(path, "kind", "a file".into(), "a folder".into())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(differs(path, "file", "there".into(), "missing".into()));
            }
            Err(error) => return Err(Error::io("read", path)(error)),
        };
        if metadata.len() != self.bytes {
            let bytes = |bytes| format!("{bytes} bytes");
            return Err(differs(path, "length", bytes(self.bytes), bytes(metadata.len())));
        }
        if depth == Depth::Quick && self.changed != 0 && changed(&metadata) == self.changed {
            return Ok(());
        }
        let sum = sha256_of_file(path)?;
        if sum == self.sha256 {
            return Ok(());
        }
        Err(differs(path, "sha256", self.sha256.clone(), sum))
    }
}

fn differs(path: &Path, what: &str, expected: String, found: String) -> Error {
    Error::Mismatch {
        path: path.to_path_buf(),
        what: what.to_owned(),
        expected,
        found,
        remedy: format!(
            "fetch it again to have it repaired, or delete `{RECORD_FILE}` in the fetched folder if \
             you changed the folder on purpose"
        ),
    }
}

/// The entries of a folder's record. There are none if there is no record.
fn read(folder: &Path) -> Result<Vec<Entry>> {
    let path = folder.join(RECORD_FILE);
    let damaged = || Error::Mismatch {
        path: path.clone(),
        what: "form".to_owned(),
        expected: "one line for each file".to_owned(),
        found: "damaged".to_owned(),
        remedy: "delete it and fetch the folder again".to_owned(),
    };
    match fs::metadata(&path) {
        Ok(metadata) if metadata.len() <= MAX_BYTES => {}
        Ok(_) => return Err(damaged()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::io("read", &path)(error)),
    }
    let text = fs::read(&path).map_err(Error::io("read", &path))?;
    let text = String::from_utf8(text).map_err(|_| damaged())?;
    text.lines().map(|line| parse(line).ok_or_else(damaged)).collect()
}

fn parse(line: &str) -> Option<Entry> {
    let mut words = line.splitn(4, ' ');
    let sha256 = words.next().filter(|sum| sum.len() == 64)?.to_owned();
    let (bytes, changed) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    let path = words.next()?;
    let is_plain = |part: &str| !matches!(part, "" | "." | "..");
    path.split('/').all(is_plain).then(|| Entry { sha256, bytes, changed, path: path.to_owned() })
}

fn changed(metadata: &fs::Metadata) -> u128 {
    let changed = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    changed.map_or(0, |changed| changed.as_nanos())
}

/// The path below `folder` with slashes, if it is text that fits into a line.
fn relative(folder: &Path, path: &Path) -> Option<String> {
    let parts = path.strip_prefix(folder).ok()?.iter().map(|part| part.to_str());
    let name = parts.collect::<Option<Vec<&str>>>()?.join("/");
    (!name.contains(char::is_control) && name != RECORD_FILE).then_some(name)
}

/// All files in a folder and its subfolders, sorted.
fn files_below(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).map_err(Error::io("list", &folder))? {
            let entry = entry.map_err(Error::io("list", &folder))?;
            let kind = entry.file_type().map_err(Error::io("read", entry.path()))?;
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() {
                files.push(entry.path());
            }
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("train/red ants")).unwrap();
        fs::write(folder.path().join("train/red ants/1.jpg"), "one").unwrap();
        fs::write(folder.path().join("train/2.jpg"), "two").unwrap();
        write(folder.path()).unwrap();
        folder
    }

    #[track_caller]
    fn check_found(folder: &Path, depth: Depth, expected: &[&str]) {
        let found = differences(folder, depth).unwrap();
        assert_eq!(found.len(), expected.len(), "{found:?}");
        for (error, expected) in found.iter().zip(expected) {
            assert!(error.to_string().contains(expected), "{error}");
        }
    }

    #[test]
    fn a_flipped_byte_is_found_by_its_time_or_by_reading() {
        let folder = folder();
        for depth in [Depth::Quick, Depth::Full] {
            check_found(folder.path(), depth, &[]);
        }
        let path = folder.path().join("train/red ants/1.jpg");
        let time = fs::metadata(&path).unwrap().modified().unwrap();
        fs::write(&path, "0ne").unwrap();
        let file = fs::File::options().write(true).open(&path).unwrap();
        // As a disk flips bits.
        file.set_modified(time).unwrap();
        check_found(folder.path(), Depth::Quick, &[]);
        check_found(folder.path(), Depth::Full, &["1.jpg`: sha256 is "]);
        file.set_modified(time + std::time::Duration::from_secs(1)).unwrap();
        check_found(folder.path(), Depth::Quick, &["1.jpg`: sha256 is "]);
    }

    #[test]
    fn copies_of_whole_files_are_whole() {
        let folder = folder();
        fs::write(folder.path().join("train/2.jpg"), "two").unwrap();
        fs::write(folder.path().join("train/mine.jpg"), "mine").unwrap();
        check_found(folder.path(), Depth::Quick, &[]);
    }

    #[test]
    fn all_differences_are_found() {
        let folder = folder();
        fs::remove_file(folder.path().join("train/red ants/1.jpg")).unwrap();
        fs::write(folder.path().join("train/2.jpg"), "three").unwrap();
        let expected = ["2.jpg`: length is 5 bytes, expected 3", "1.jpg`: file is missing"];
        check_found(folder.path(), Depth::Quick, &expected);
    }

    #[test]
    fn without_a_record_nothing_is_checked_and_a_damaged_one_is_named() {
        let folder = folder();
        let sum = "0".repeat(64);
        for text in ["x", &format!("{sum} 1 1 ../../etc/passwd"), &format!("{sum} 1 1 /etc/passwd")]
        {
            fs::write(folder.path().join(RECORD_FILE), text).unwrap();
            let error = check(folder.path(), Depth::Quick).unwrap_err().to_string();
            assert!(error.contains(RECORD_FILE) && error.contains("damaged"), "{error}");
        }
        fs::remove_file(folder.path().join(RECORD_FILE)).unwrap();
        fs::remove_file(folder.path().join("train/2.jpg")).unwrap();
        check(folder.path(), Depth::Full).unwrap();
    }
}
