//! Programs in the documents compile and run.

/// The README.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;

/// The guide to the crates.
#[cfg(doctest)]
#[doc = include_str!("../../docs/library.md")]
struct Library;

/// The guide to data.
#[cfg(doctest)]
#[doc = include_str!("../../docs/data.md")]
struct Data;
