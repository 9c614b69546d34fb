//! Errors of this crate. Their messages name the file, the cause and the remedy.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// `Result` with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// One address that was tried, and why it failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// The address that was asked.
    pub url: String,
    /// Why it gave no verified file.
    pub cause: String,
    /// The kind of the failure.
    pub kind: AttemptKind,
}

/// The kind of failure when an address gives no verified file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum AttemptKind {
    /// There was no connection to the server: its name is not known, or nothing answers there.
    NoConnection,
    /// The server does not give the file: it is not found, permission is missing, a login page came, the
    /// certificate is not trusted, or the transfer broke off or was too slow.
    NoFile,
    /// The file that came or was offered is another one: its length, checksum or form differs.
    OtherFile,
    /// The local disk or file system failed.
    Local,
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`: {}", self.url, self.cause)
    }
}

/// Everything that can stop a fetch.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file system refused an operation.
    #[error("cannot {action} `{}`{}", shown(path.display()), io_hint(source))]
    Io {
        /// What was attempted, as a verb: `read`, `write`, `rename`.
        action: &'static str,
        /// The file or folder concerned.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },

    /// A file or folder is not what it should be.
    #[error(
        "`{}`: {what} is {found}, expected {expected}; {remedy}",
        shown(path.display()), what = shown(what), expected = shown(expected), found = shown(found)
    )]
    Mismatch {
        /// The file or folder concerned.
        path: PathBuf,
        /// The property that differs: `length`, `sha256`, `number of images in train/ants`.
        what: String,
        /// The expected value.
        expected: String,
        /// The value that was found.
        found: String,
        /// What to do about it.
        remedy: String,
    },

    /// A file that should be safetensors weights is not.
    #[error(
        "`{}` is no sound safetensors file: {reason}; delete it and fetch it again",
        shown(path.display()), reason = shown(reason)
    )]
    NotSafetensors {
        /// The file concerned.
        path: PathBuf,
        /// What is wrong with its header.
        reason: String,
    },

    /// No address gave a verified file.
    #[error(
        "could not download `{file}`: {}; check the network, or copy the file from another machine",
        list(attempts), file = shown(file)
    )]
    Download {
        /// Name of the wanted file.
        file: String,
        /// Each address and why it failed, in the order tried.
        attempts: Vec<Attempt>,
    },

    /// Something is missing and the network may not be used.
    #[error(
        "`{what}` is not in `{}` and the network is switched off; go online, or copy it from another machine",
        shown(folder.display()), what = shown(what)
    )]
    Offline {
        /// The item or file that is missing.
        what: String,
        /// Where it was looked for.
        folder: PathBuf,
    },

    /// The folder that the item should be taken from does not hold it.
    #[error(
        "`{}` does not hold `{item}`: looked for {}{}",
        shown(folder.display()), wanted.join(", or "), instead(holds), item = shown(item)
    )]
    NotInFolder {
        /// Name of the item.
        item: String,
        /// The folder that was searched.
        folder: PathBuf,
        /// The forms in which the item would have been accepted.
        wanted: Vec<String>,
        /// What the folder has in its place: other versions of the same weights, for whoever knows them.
        holds: Vec<String>,
    },

    /// No item of that name is in the catalog.
    #[error("no item is called `{name}`; known: {}", known.join(", "), name = shown(name))]
    UnknownItem {
        /// The name that was asked for.
        name: String,
        /// All names of the catalog.
        known: Vec<String>,
    },

    /// An archive is damaged or holds something that is not safe to unpack.
    #[error(
        "refused to unpack `{}`: {}{reason}; nothing was kept, delete the archive and get it from a trusted source",
        shown(archive.display()), in_entry(entry), reason = shown(reason)
    )]
    Archive {
        /// The archive concerned.
        archive: PathBuf,
        /// The offending entry, as the archive names it. Empty if the error concerns the archive as a
        /// whole.
        entry: String,
        /// What is wrong with it.
        reason: String,
    },

    /// Another process holds the folder.
    #[error(
        "another process has been fetching into `{}` for {} s; wait for it, or stop it and try again",
        shown(folder.display()), waited.as_secs()
    )]
    Locked {
        /// The folder that is locked.
        folder: PathBuf,
        /// How long this process waited.
        waited: Duration,
    },

    /// The text is no valid checksum.
    #[error("`{0}` is no sha256: expected 8 to 64 hexadecimal digits")]
    BadChecksum(String),

    /// No place for the hub's cache is known.
    #[error("cannot tell where the Hugging Face cache is: set HF_HOME to a folder")]
    NoHubCache,
}

impl Error {
    /// Whether the item was merely not available: no address had it, and nothing else went wrong. A program
    /// that can do without the item may go on then. It must not go on after a damaged file, a full disk or
    /// an unknown item name.
    pub fn is_not_available(&self) -> bool {
        match self {
            Self::Offline { .. } => true,
            Self::Download { attempts, .. } => attempts.iter().all(|attempt| {
                matches!(attempt.kind, AttemptKind::NoConnection | AttemptKind::NoFile)
            }),
            _ => false,
        }
    }

    /// Whether there is no network, because it is switched off or no server could be reached.
    pub fn is_no_network(&self) -> bool {
        match self {
            Self::Offline { .. } => true,
            Self::Download { attempts, .. } => {
                !attempts.is_empty()
                    && attempts.iter().all(|attempt| attempt.kind == AttemptKind::NoConnection)
            }
            _ => false,
        }
    }

    /// The kind of failure of an address that led to this error.
    pub(crate) fn attempt_kind(&self) -> AttemptKind {
        match self {
            Self::Io { .. } | Self::Locked { .. } => AttemptKind::Local,
            Self::Mismatch { .. } | Self::NotSafetensors { .. } => AttemptKind::OtherFile,
            _ => AttemptKind::NoFile,
        }
    }

    /// Makes an I/O error that carries its path, for `map_err`.
    pub(crate) fn io(
        action: &'static str,
        path: impl AsRef<Path>,
    ) -> impl FnOnce(io::Error) -> Error {
        let path = path.as_ref().to_path_buf();
        move |source| Error::Io { action, path, source }
    }
}

fn io_hint(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            ": the disk is full, free some space and run the command again"
        }
        io::ErrorKind::PermissionDenied => ": no permission, check who owns it",
        io::ErrorKind::ReadOnlyFilesystem => {
            ": the file system is read-only, choose another folder for the data"
        }
        _ => "",
    }
}

fn in_entry(entry: &str) -> String {
    if entry.is_empty() { String::new() } else { format!("entry `{}` ", entry.escape_debug()) }
}

fn instead(holds: &[String]) -> String {
    match holds {
        [] => String::new(),
        holds => format!("; it holds {}", shown(holds.join(", "))),
    }
}

fn list(attempts: &[Attempt]) -> String {
    if attempts.is_empty() {
        return "no address is known for it".to_owned();
    }
    let attempts: Vec<String> = attempts.iter().map(Attempt::to_string).collect();
    attempts.join("; ")
}

/// A text or path from outside as a part of a message of one line. A name in a file may hold line breaks.
fn shown(text: impl fmt::Display) -> String {
    let escape = |c: char| match c.is_control() {
        true => c.escape_default().to_string(),
        false => c.to_string(),
    };
    text.to_string().chars().map(escape).collect()
}
