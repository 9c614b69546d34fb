//! Starts the project's work.
fn main() {}
