//! Progress as values. The receiver decides how to show it.

use std::path::Path;

/// Something worth showing while an item is fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event<'a> {
    /// Another process fetches into the same folder, and this one waits for it.
    Waiting {
        /// The folder that both want to write.
        folder: &'a Path,
    },
    /// The data folder holds the item only in part or damaged, so the item is fetched.
    Incomplete {
        /// Name of the item.
        item: &'a str,
        /// The first thing that is missing or wrong.
        cause: &'a str,
    },
    /// Bytes of a file begin to arrive.
    Started {
        /// Name of the file.
        file: &'a str,
        /// Address or folder that the file comes from.
        from: &'a str,
        /// Bytes that an earlier attempt left and that are not sent again.
        resumed: u64,
        /// Length of the whole file in bytes, if known.
        total: Option<u64>,
    },
    /// More bytes have arrived.
    Advanced {
        /// Name of the file.
        file: &'a str,
        /// Bytes on disk so far.
        done: u64,
        /// Length of the whole file in bytes, if known.
        total: Option<u64>,
    },
    /// An address failed. One more try or the next address follows, if there is one.
    Failed {
        /// Name of the file.
        file: &'a str,
        /// The address.
        url: &'a str,
        /// Why it gave no verified file.
        cause: &'a str,
    },
    /// A file was verified and has its final name.
    Finished {
        /// Name of the file.
        file: &'a str,
    },
    /// A file that was damaged or missing in a folder was replaced.
    Repaired {
        /// The file.
        path: &'a Path,
    },
    /// An archive is being unpacked.
    Unpacking {
        /// The archive.
        archive: &'a Path,
    },
}

/// The receiver of [`Event`]s: any closure that takes one.
pub type Progress<'a> = dyn Fn(Event<'_>) + 'a;

/// A receiver that drops every event.
pub(crate) fn ignore(_: Event<'_>) {}
