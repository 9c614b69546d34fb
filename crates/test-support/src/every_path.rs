//! Runs a test program again for every set of instructions that the kernels can be held down to.

use std::process::Command;

/// The variable that the kernels ask.
const LIMIT: &str = "CANDLE_VISION_CPU";

/// Runs the tests of this program whose names hold `filter` with the kernels held down to AVX2, and
/// then to plain Rust. Under such a limit itself, it does nothing.
pub fn with_every_limit(filter: &str) {
    if std::env::var_os(LIMIT).is_some() {
        return;
    }
    for limit in ["avx2", "portable"] {
        let program = std::env::current_exe().expect("this test has a program");
        let output = Command::new(program).arg(filter).env(LIMIT, limit).output();
        let output = output.expect("the program starts again");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{LIMIT}={limit}:\n{text}");
        assert!(!text.contains("running 0 tests"), "no test is called `{filter}`");
    }
}
