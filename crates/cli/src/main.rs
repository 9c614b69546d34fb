//! The `candle-vision` command.

use std::process::ExitCode;

use candle_vision_cli::{Registry, main_with};

// Training frees and allocates hundreds of megabytes in every step. An allocator that keeps memory saves a
// quarter of the time, which would otherwise go into page faults.
#[cfg(not(target_env = "msvc"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

// The other cannot be built for it.
#[cfg(target_env = "msvc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    main_with(Registry::standard())
}
