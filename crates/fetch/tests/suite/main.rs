//! The crate's public face against hostile servers, archives and folders. One binary, so that the
//! mock server is built once.

mod hostile_archives;
mod http_faults;
mod hub_faults;
mod items;
mod range_files;
mod support;
mod trees;
