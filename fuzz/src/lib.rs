//! Fuzz targets for every parser that meets outside bytes. `cargo xtask fuzz` runs them, and `docs/reliability.md` says
//! what was found.
//!
//! `parsers`, `recipe` and `seeds` are also modules of a test of the project (`tests/tests/parsers.rs`), which needs no nightly
//! compiler. So they use nothing but the project's public functions.

pub mod parsers;
#[cfg(feature = "recipe")]
pub mod recipe;
pub mod seeds;

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// Limits the memory of a parser where no sanitizer does. What needs more ends the process, and libFuzzer keeps the input.
#[cfg(feature = "capped")]
#[global_allocator]
static ALLOCATOR: cap::Cap<std::alloc::System> = cap::Cap::new(std::alloc::System, 256 << 20);

/// The folder for the files of this process. It lies where temporary files lie, so that `TMPDIR` can name a file system
/// in memory. libFuzzer ends processes without a chance to tidy up, so whoever starts them removes the folder.
pub fn folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let name = format!("candle-vision-fuzz-{}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&folder).expect("a folder for temporary files can be made");
        folder
    })
}

/// Sets what happens at a panic, which libFuzzer's own hook would make the end of the process. The panics of other
/// projects' readers become errors and are no faults. Any other panic ends the process all the same.
pub fn tell_of_panics() {
    // The first hook is libFuzzer's, the second is the usual one.
    drop(std::panic::take_hook());
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !candle_vision_data::is_in_foreign_reader() {
            tell(panic);
        }
    }));
}

/// The program that fuzzes one parser.
#[macro_export]
macro_rules! fuzz {
    ($parser:path) => {
        libfuzzer_sys::fuzz_target!(init: $crate::tell_of_panics(), |bytes: &[u8]| {
            $parser(bytes, $crate::folder());
        });
    };
}
