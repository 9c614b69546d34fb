//! Items that can be fetched: where they come from and how they lie in the data folder.

use std::fs;
use std::path::Path;

use crate::archive::{ArchiveKind, Limits};
use crate::checksum::{FileSpec, sha256_of_file};
use crate::error::{Error, Result};
use crate::hub::HubFile;
use crate::record;
use crate::safetensors_header::check_safetensors_header;

/// A named thing to fetch: a data set or the weights of a network.
#[derive(Debug, Clone)]
pub struct Item {
    /// The name on the command line.
    pub name: String,
    /// One line for users: what it is, how large it is and who made it.
    pub about: String,
    /// The forms in which it may lie in the data folder. Any one of them will do.
    pub layouts: Vec<Layout>,
    /// Where it can be downloaded, best source first.
    pub sources: Vec<Source>,
}

/// One form in which an item may lie in the data folder.
#[derive(Debug, Clone)]
pub struct Layout {
    /// Its folder, relative to the data folder.
    pub folder: String,
    /// What the folder must hold. It may hold other files too.
    pub content: Content,
}

/// What a folder must hold.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Content {
    /// All of these files.
    Files(Vec<FileSpec>),
    /// A minimum number of files with one of these extensions (lower case) in and below each of these folders. The
    /// folder's record of the fetched files is checked as well.
    Tree {
        /// Extensions that count, without the dot.
        extensions: Vec<String>,
        /// The folders and how many files each must hold.
        folders: Vec<FolderCount>,
    },
    /// Several parts, each in a folder below this one or in this one itself (an empty name).
    Parts(Vec<Layout>),
    /// A safetensors file. If its length is that of a known file, its sum must be that file's. A file of
    /// another length (other weights, another export) needs a valid header.
    Weights {
        /// The file's name.
        name: String,
        /// The known files of that name.
        known: Vec<FileSpec>,
    },
}

/// How many files a folder must hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FolderCount {
    /// The folder, relative to the layout's.
    pub folder: String,
    /// The number of files.
    pub files: usize,
}

/// A place on the network that has an item or a part of a layout.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Source {
    /// Single files. Each mirror holds all of them in one place.
    Files {
        /// Their folder, relative to the data folder.
        folder: String,
        /// The files.
        files: Vec<FileSpec>,
        /// Addresses to which a file's name is appended.
        mirrors: Vec<String>,
    },
    /// An archive that contains the folder.
    Archive {
        /// The archive.
        file: FileSpec,
        /// Its format.
        kind: ArchiveKind,
        /// Addresses to which the archive's name is appended.
        mirrors: Vec<String>,
        /// The folder inside the archive.
        root: String,
        /// The folder that it becomes, relative to the data folder.
        folder: String,
        /// How much it may unpack to.
        limits: Limits,
    },
    /// All of these, which together make a layout.
    Parts(Vec<Source>),
    /// A file of the Hugging Face hub. It is copied out of the hub's cache.
    Hub {
        /// The file.
        file: HubFile,
        /// Its path in the data folder.
        to: String,
    },
    /// A PyTorch pickle. A program that can read it must convert it, see [`Conversion`](crate::Conversion).
    Pth {
        /// The pickle.
        file: FileSpec,
        /// Addresses to which the file's name is appended.
        mirrors: Vec<String>,
        /// The safetensors file that it becomes, as a path in the data folder. The pickle is kept beside
        /// it.
        to: String,
    },
}

/// How closely a layout is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Depth {
    /// Names, lengths, counts and headers. This is quick.
    Quick,
    /// Sums as well, which reads every byte.
    Full,
}

impl Content {
    /// Whether `folder` holds any part of this content.
    pub(crate) fn is_begun_in(&self, folder: &Path) -> bool {
        match self {
            Self::Files(files) => files.iter().any(|file| folder.join(&file.name).exists()),
            Self::Tree { folders, .. } => {
                folders.iter().any(|part| folder.join(&part.folder).is_dir())
            }
            Self::Parts(parts) => {
                parts.iter().any(|part| part.content.is_begun_in(&folder.join(&part.folder)))
            }
            Self::Weights { name, .. } => folder.join(name).exists(),
        }
    }

    /// Checks that `folder` holds all of this content.
    pub(crate) fn verify(&self, folder: &Path, depth: Depth) -> Result<()> {
        match self {
            Self::Files(files) => {
                files.iter().try_for_each(|file| verify_file(file, &folder.join(&file.name), depth))
            }
            Self::Tree { extensions, folders } => {
                // First report what is wrong with a single file, because a wrong count says less.
                record::check(folder, depth)?;
                let count = |count: &FolderCount| {
                    verify_count(&folder.join(&count.folder), count, extensions)
                };
                folders.iter().try_for_each(count)
            }
            Self::Parts(parts) => parts
                .iter()
                .try_for_each(|part| part.content.verify(&folder.join(&part.folder), depth)),
            Self::Weights { name, known } => verify_weights(&folder.join(name), known, depth),
        }
    }

    /// The content in a few words, for "looked for ...".
    pub(crate) fn wanted(&self, folder: &str) -> String {
        match self {
            Self::Files(files) => {
                let names: Vec<&str> = files.iter().map(|file| file.name.as_str()).collect();
                format!("`{folder}` with {}", names.join(", "))
            }
            Self::Tree { folders, .. } => {
                let names: Vec<&str> = folders.iter().map(|part| part.folder.as_str()).collect();
                format!("`{folder}` with {}", names.join(", "))
            }
            Self::Parts(parts) => {
                let wanted =
                    |part: &Layout| part.content.wanted(&format!("{folder}/{}", part.folder));
                parts.iter().map(wanted).collect::<Vec<_>>().join(" and ")
            }
            Self::Weights { name, .. } => format!("`{folder}/{name}`"),
        }
    }
}

fn verify_file(file: &FileSpec, path: &Path, depth: Depth) -> Result<()> {
    match depth {
        Depth::Quick => file.verify_length(path),
        Depth::Full => file.verify(path),
    }
}

fn verify_count(folder: &Path, count: &FolderCount, extensions: &[String]) -> Result<()> {
    let files = count_below(folder, extensions)?;
    if files >= count.files {
        return Ok(());
    }
    Err(Error::Mismatch {
        path: folder.to_path_buf(),
        what: format!("number of {} files", extensions.join(" and ")),
        expected: format!("at least {}", count.files),
        found: files.to_string(),
        remedy: "the folder is incomplete, get it again".to_owned(),
    })
}

/// The number of files with one of these extensions in a folder and below it.
fn count_below(folder: &Path, extensions: &[String]) -> Result<usize> {
    let mut files = 0;
    for entry in fs::read_dir(folder).map_err(Error::io("list", folder))? {
        let entry = entry.map_err(Error::io("list", folder))?;
        let path = entry.path();
        let kind = entry.file_type().map_err(Error::io("read", &path))?;
        if kind.is_dir() {
            files += count_below(&path, extensions)?;
            continue;
        }
        let extension = path.extension().unwrap_or_default().to_string_lossy();
        if extensions.contains(&extension.to_lowercase()) && path.is_file() {
            files += 1;
        }
    }
    Ok(files)
}

/// See [`Content::Weights`].
fn verify_weights(path: &Path, known: &[FileSpec], depth: Depth) -> Result<()> {
    check_safetensors_header(path)?;
    if depth == Depth::Quick {
        return Ok(());
    }
    let bytes = fs::metadata(path).map_err(Error::io("read", path))?.len();
    let same_length: Vec<&FileSpec> =
        known.iter().filter(|file| file.bytes == Some(bytes)).collect();
    if same_length.is_empty() {
        return Ok(());
    }
    let sum = sha256_of_file(path)?;
    let sums: Vec<_> = same_length.iter().filter_map(|file| file.sha256.as_ref()).collect();
    if sums.iter().any(|known| known.matches(&sum)) {
        return Ok(());
    }
    let expected: Vec<String> = sums.iter().map(ToString::to_string).collect();
    Err(Error::Mismatch {
        path: path.to_path_buf(),
        what: "sha256".to_owned(),
        expected: expected.join(" or "),
        found: sum,
        remedy: "the weights are damaged, delete the file and get it again".to_owned(),
    })
}
