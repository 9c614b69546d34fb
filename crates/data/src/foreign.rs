//! Readers of other projects, which do not promise to have no panics.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

thread_local! {
    static DEPTH: Cell<usize> = const { Cell::new(0) };
}

/// Whether this thread reads a file with another project's reader: images but JPEG, and Parquet. A panic there is damage of the file. It
/// becomes an error, so a program's hook for panics may leave it out.
///
/// ```
/// let usual = std::panic::take_hook();
/// std::panic::set_hook(Box::new(move |panic| {
///     if !candle_vision_data::is_in_foreign_reader() {
///         usual(panic);
///     }
/// }));
/// ```
pub fn is_in_foreign_reader() -> bool {
    DEPTH.get() > 0
}

/// Runs a reader. `None` if it panicked. What it was reading is not used any more then.
pub(crate) fn guarded<T>(read: impl FnOnce() -> T) -> Option<T> {
    DEPTH.set(DEPTH.get() + 1);
    let read = catch_unwind(AssertUnwindSafe(read));
    DEPTH.set(DEPTH.get() - 1);
    read.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_answer() {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !is_in_foreign_reader() {
                usual(panic);
            }
        }));
        let inner = || {
            guarded(|| {
                if is_in_foreign_reader() {
                    panic!("damage")
                }
            })
        };
        assert_eq!(guarded(inner), Some(None));
        assert!(!is_in_foreign_reader());
    }
}
