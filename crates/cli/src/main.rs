//! The `candle-vision` command.

use std::process::ExitCode;

use candle_vision_cli::{Registry, main_with};

// Training frees and allocates hundreds of megabytes in every step. An allocator that keeps memory saves a
// quarter of the time, which would otherwise go into page faults.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    main_with(Registry::standard())
}
