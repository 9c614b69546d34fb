//! The numbers that matrix products and convolutions compute in.

use std::cell::RefCell;
use std::thread::LocalKey;

use super::float::Float;

/// A number type with working memory of its own on every thread.
pub(crate) trait Element: Float {
    /// Buffers of the current thread that no kernel is using (see [`super::scratch`]).
    fn idle_buffers() -> &'static LocalKey<RefCell<Vec<Vec<Self>>>>;
}

macro_rules! element {
    ($type:ty) => {
        impl Element for $type {
            fn idle_buffers() -> &'static LocalKey<RefCell<Vec<Vec<Self>>>> {
                thread_local! {
                    static IDLE: RefCell<Vec<Vec<$type>>> = const { RefCell::new(Vec::new()) };
                }
                &IDLE
            }
        }
    };
}

element!(f32);
element!(f64);
