//! What the configs of all networks have in common.

/// Builder methods for a config with a `spec`, and `Debug` in one line for its network.
macro_rules! of_spec {
    ($network:ident, $config:ident) => {
        impl $config {
            /// Sets the number of classes.
            pub fn num_classes(mut self, num_classes: usize) -> Self {
                self.spec.num_classes = num_classes;
                self
            }

            /// Sets the `[channels, height, width]` of the images.
            pub fn input(mut self, input: [usize; 3]) -> Self {
                self.spec.input = input;
                self
            }

            /// Sets the name, the sizes and the dropout at once, to what a table of networks asks for.
            pub fn spec(mut self, spec: &ModelSpec) -> Self {
                self.spec = spec.clone();
                self
            }
        }

        impl std::fmt::Debug for $network {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                crate::model::short(f, stringify!($network), self)
            }
        }
    };
}

pub(super) use of_spec;
