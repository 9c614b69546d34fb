//! Tables of parts that are chosen by name: networks, transforms, optimizers and the like.
//!
//! | item | what |
//! |---|---|
//! | [`Table`] | entries of one kind by name; refuses duplicates, answers unknown names with near ones |
//! | [`Entry`] | what a table wants to know of an entry: its name and one line about it |
//! | [`Description`] | a part as a recipe or a checkpoint names it: `{ name = "sgd", lr = 0.1 }` |
//! | [`nearest_names`], [`did_you_mean`] | suggestions for a mistyped name |
//! | [`one_line`] | a text from outside as a part of a message |
//! | [`as_reason`] | an error as a reason in a message |
//!
//! A table is a value. Nothing is registered for the whole process, so two programs in one process, or two
//! tests, never see each other's parts.
//!
//! The crate knows no tensors and no files.

mod description;
mod line;
mod near;
mod table;

pub use description::{Description, SettingsError};
pub use line::{as_reason, one_line};
pub use near::{did_you_mean, nearest_names};
pub use table::{Entry, Table, TableError};

/// The program in the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
