//! Verified downloads of data sets and weights: resumable, checksummed, mirrored, safe to unpack.
//!
//! This is the only crate of the project that uses a network. It does not know what the files mean.
//! [`catalog`] names the items that can be fetched. [`fetch`] brings one [`Item`] into the data folder.
//! [`is_present`] answers cheaply whether it is there:
//!
//! ```no_run
//! use candle_vision_fetch::{FetchOptions, fetch, find};
//!
//! # fn main() -> candle_vision_fetch::Result<()> {
//! let fetched = fetch(find("mnist")?, &FetchOptions::new("data"))?;
//! assert_eq!(fetched.files.len(), 4);
//! # Ok(())
//! # }
//! ```
//!
//! Every path through this crate keeps these promises:
//!
//! - A file appears under its final name only after its length and checksum (where known) were verified and
//!   its bytes were synced to disk. A kill at any moment leaves the last good state.
//! - A server may stall, lie about lengths, answer with a web page or flip a bit. Each ends in an [`Error`]
//!   that names the file, the cause and the remedy, within the time-outs of [`HttpOptions`].
//! - An archive can write only below its own new folder. Links, `..`, absolute names and bombs are errors
//!   that name the entry.
//! - A folder of unpacked files carries a record of their sums. [`fetch()`] finds and repairs a flipped
//!   byte. [`check_fetched`] finds a changed file and reads only the files that changed since.
//! - Two processes may fetch into one folder. The second waits and then finds the work done.
//!
//! This crate does not decode anything, except a safetensors header to tell weights from an error page. It
//! does not convert `.pth` files, see [`Conversion`]. It does not print: it reports progress as [`Event`]
//! values.

mod archive;
mod catalog;
mod checksum;
mod disk;
mod error;
mod event;
mod fetch;
mod http;
mod hub;
mod item;
mod local;
mod lock;
mod range_file;
mod record;
mod safetensors_header;

pub use archive::{ArchiveKind, Limits, unpack};
pub use catalog::{catalog, find};
pub use checksum::{FileSpec, Md5Sum, Sha256Sum, sha256_of_file};
pub use error::{Attempt, AttemptKind, Error, Result};
pub use event::{Event, Progress};
pub use fetch::{Conversion, FetchOptions, Fetched, Origin, check_fetched, fetch, is_present};
pub use http::{Download, HttpClient, HttpOptions};
pub use hub::{Hub, HubFile, HubOptions};
pub use item::{Content, FolderCount, Item, Layout, Source};
pub use local::is_in_folder;
pub use range_file::{RangeFile, RangeFiles};
pub use safetensors_header::check_safetensors_header;

/// The program in the README compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
