//! Functions of NVIDIA's libraries that are found when the program runs, so that it starts without them.

/// Makes a struct `Functions` of a library's functions: name, symbol and type of each.
///
/// The types must be those of the library's header.
macro_rules! functions {
    ($($name:ident: $symbol:literal, $ty:ty;)+) => {
        /// The functions of the opened library.
        pub(super) struct Functions {
            $(pub(super) $name: $ty,)+
            /// The functions are valid as long as this value exists.
            _library: libloading::Library,
        }

        impl Functions {
            fn find(library: libloading::Library) -> std::result::Result<Self, libloading::Error> {
                // SAFETY: each symbol has the type that the library's header gives it.
                unsafe {
                    Ok(Self {
                        $($name: *library.get::<$ty>($symbol)?,)+
                        _library: library,
                    })
                }
            }
        }
    };
}

pub(super) use functions;
