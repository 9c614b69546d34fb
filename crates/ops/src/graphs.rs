//! Whether programs capture repeated work of a CUDA device.

use std::sync::atomic::{AtomicBool, Ordering};

/// Sets whether a trainer captures its steps on a CUDA device as graphs ([`Captured`](crate::Captured)) and repeats
/// those. It does by default. The results are the same.
pub fn set_cuda_graphs(wanted: bool) {
    GRAPHS.store(wanted, Ordering::Relaxed);
}

/// What [`set_cuda_graphs`] set last.
pub fn cuda_graphs() -> bool {
    GRAPHS.load(Ordering::Relaxed)
}

static GRAPHS: AtomicBool = AtomicBool::new(true);
