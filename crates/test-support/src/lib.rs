//! What the tests of several crates share. It is not published: a published crate has no use for it.

mod every_path;
pub mod reference;

pub use every_path::with_every_limit;
