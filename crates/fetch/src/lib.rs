//! Verified downloads of data sets and weights: resumable, checksummed, mirrored, safe to unpack.
//!
//! This is the only crate of the project that reaches a network, and it knows nothing of what the
//! files mean. [`catalog`] names what can be fetched, [`fetch`] brings one [`Item`] into the data
//! folder, [`is_present`] answers cheaply whether it is there:
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
//! What every path through this crate promises:
//!
//! - a file appears under its final name only after its length and checksum (where known) were
//!   verified and its bytes were synced to disk: a kill at any moment leaves the last good state;
//! - a server that stalls, lies about lengths, answers with a web page or flips a bit ends in an
//!   [`Error`] that names the file, the cause and the remedy, within the time-outs of
//!   [`HttpOptions`];
//! - an archive can write only below its own new folder: links, `..`, absolute names and bombs are
//!   errors that name the entry;
//! - a folder of unpacked files carries a record of their sums: a flipped byte is found by [`fetch()`] and
//!   repaired, and a changed file by [`check_fetched`], which reads only what changed since;
//! - two processes may fetch into one folder: the second waits and then finds the work done.
//!
//! Left out on purpose: decoding anything (beyond a safetensors header, to tell weights from an
//! error page), converting `.pth` files (see [`Conversion`]), and printing: progress leaves as
//! [`Event`] values.

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
mod record;
mod safetensors_header;

pub use archive::{ArchiveKind, Limits, unpack};
pub use catalog::{catalog, find};
pub use checksum::{FileSpec, Sha256Sum, sha256_of_file};
pub use error::{Attempt, AttemptKind, Error, Result};
pub use event::{Event, Progress};
pub use fetch::{Conversion, FetchOptions, Fetched, Origin, check_fetched, fetch, is_present};
pub use http::{Download, HttpClient, HttpOptions};
pub use hub::{Hub, HubFile, HubOptions};
pub use item::{Content, FolderCount, Item, Layout, Source};
pub use safetensors_header::check_safetensors_header;

/// The program in the README compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
