//! The `candle-vision` program from outside: exit code, stdout and stderr of every command and of its
//! likely mistakes, on drawings that it makes itself. No network, no data from elsewhere.

#![allow(clippy::print_stdout, reason = "a test that is skipped says so")]

mod bad_data;
mod bad_settings;
#[cfg(unix)]
mod browser;
mod commands;
mod compare;
mod data;
mod data_pack;
mod disk;
mod explain;
mod folders;
mod going_on;
mod images;
mod inspect;
mod many_images;
mod memory;
mod networks;
mod probe;
mod ranks;
mod report;
mod resume;
mod scale_plan;
mod several_labels;
#[cfg(target_os = "linux")]
mod signals;
mod support;
mod sweep;
mod train;
