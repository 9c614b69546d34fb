//! Progress, told as values: who shows it decides how.

use std::path::Path;

/// Something worth showing while an item is fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event<'a> {
    /// Another process fetches into the same folder; this one waits for it.
    Waiting {
        /// The folder both want to write.
        folder: &'a Path,
    },
    /// What the data folder holds of the item is damaged or not all of it, so it is fetched.
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
        /// Address or folder it comes from.
        from: &'a str,
        /// Bytes that an earlier attempt left and that need not be sent again.
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
    /// An address did not do; the next one, or one more try, follows if there is any.
    Failed {
        /// Name of the file.
        file: &'a str,
        /// The address.
        url: &'a str,
        /// Why it gave no verified file.
        cause: &'a str,
    },
    /// A file was verified and stands under its final name.
    Finished {
        /// Name of the file.
        file: &'a str,
    },
    /// A file that was damaged or missing in a folder was put in order.
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

/// Where [`Event`]s go: any closure that takes one.
pub type Progress<'a> = dyn Fn(Event<'_>) + 'a;

/// The progress of those who do not look.
pub(crate) fn ignore(_: Event<'_>) {}
