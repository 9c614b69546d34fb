//! The numbers that matrix products and convolutions compute in.

use std::cell::RefCell;
use std::thread::LocalKey;

use super::float::Float;
use super::winograd::Winograd;

/// A number type with working memory of its own on every thread.
pub(crate) trait Element: Float {
    /// Buffers of the current thread that no kernel is using (see [`super::scratch`]).
    fn idle_buffers() -> &'static LocalKey<RefCell<Vec<Vec<Self>>>>;

    /// The kernels with fewer multiplications for 3x3 convolutions, if this type has them.
    fn winograd() -> Option<Winograd<Self>>;
}

macro_rules! element {
    ($type:ty, $winograd:expr) => {
        impl Element for $type {
            fn idle_buffers() -> &'static LocalKey<RefCell<Vec<Vec<Self>>>> {
                thread_local! {
                    static IDLE: RefCell<Vec<Vec<$type>>> = const { RefCell::new(Vec::new()) };
                }
                &IDLE
            }

            fn winograd() -> Option<Winograd<$type>> {
                $winograd
            }
        }
    };
}

element!(f32, Some(super::winograd::KERNELS));
element!(f64, None);
