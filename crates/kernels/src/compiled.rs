//! Compiles generic functions in this crate.

/// Defines public functions over [`Float`](crate::float::Float) whose code for `f32` and `f64` is
/// compiled here.
///
/// Rust compiles a generic function in the crate that calls it: with that crate's optimisation level, and
/// again whenever that crate changes. A method of a trait that is implemented for one type is not a generic
/// function. So the public function only calls such a method. Its trait is the one named first, and is a
/// supertrait of `Float`.
macro_rules! compiled {
    (trait $kernels:ident<$float:ident>; $(
        $(#[$attribute:meta])*
        pub fn $name:ident($($argument:ident: $kind:ty),* $(,)?) $(-> $result:ty)? $body:block
    )*) => {
        $(
            $(#[$attribute])*
            #[inline]
            pub fn $name<$float: $crate::float::Float>($($argument: $kind),*) $(-> $result)? {
                <$float as $kernels<$float>>::$name($($argument),*)
            }
        )*

        /// The functions of this module for one number type.
        #[doc(hidden)]
        pub trait $kernels<$float> {
            $(
                #[doc(hidden)]
                fn $name($($argument: $kind),*) $(-> $result)?;
            )*
        }

        mod generic {
            use super::*;
            $(
                pub(super) fn $name<$float: $crate::float::Float>(
                    $($argument: $kind),*
                ) $(-> $result)? $body
            )*
        }

        const _: () = {
            type $float = f32;
            impl $kernels<$float> for $float {
                $(
                    #[inline(never)]
                    fn $name($($argument: $kind),*) $(-> $result)? {
                        generic::$name::<$float>($($argument),*)
                    }
                )*
            }
        };

        const _: () = {
            type $float = f64;
            impl $kernels<$float> for $float {
                $(
                    #[inline(never)]
                    fn $name($($argument: $kind),*) $(-> $result)? {
                        generic::$name::<$float>($($argument),*)
                    }
                )*
            }
        };
    };
}
pub(crate) use compiled;
