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

/// What every network of one backbone and one head says of itself, inside its `impl Model`. It needs the fields `spec`
/// and `parameters` and the methods `features`, which makes the last maps, and `classify`.
macro_rules! backbone_and_head {
    () => {
        fn spec(&self) -> &crate::ModelSpec {
            &self.spec
        }

        fn parameters(&self) -> &crate::Parameters {
            &self.parameters
        }

        fn forward(
            &self,
            images: &candle_core::Tensor,
            pass: &mut crate::Pass<'_>,
        ) -> candle_core::Result<candle_core::Tensor> {
            self.classify(&self.features(images, pass)?, pass)
        }

        fn forward_features(
            &self,
            images: &candle_core::Tensor,
            pass: &mut crate::Pass<'_>,
        ) -> candle_core::Result<candle_core::Tensor> {
            crate::layers::features_to_maps(&self.features(images, pass)?)
        }

        fn forward_head(
            &self,
            features: &candle_core::Tensor,
            pass: &mut crate::Pass<'_>,
        ) -> candle_core::Result<candle_core::Tensor> {
            self.classify(&crate::layers::maps_to_features(features)?, pass)
        }
    };
}

pub(super) use backbone_and_head;

/// `channels` as a multiple of `divisor`: the nearest one, or the one above if that is less than nine tenths of
/// `channels`. All networks whose width is scaled round like this (torchvision's `_make_divisible`).
pub(super) fn divisible(channels: f64, divisor: usize) -> usize {
    let nearest = ((channels + divisor as f64 / 2.0) as usize / divisor * divisor).max(divisor);
    if (nearest as f64) < 0.9 * channels { nearest + divisor } else { nearest }
}

#[cfg(test)]
mod tests {
    use super::divisible;

    /// `[torchvision.models._utils._make_divisible(v, d) for v, d in ...]`
    #[test]
    fn channels_are_rounded_as_in_torchvision() {
        let cases = [
            (1.0, 8, 8),
            (35.2, 8, 32),
            (17.6, 8, 16),
            (11.0, 8, 16),
            (100.0, 24, 96),
            (60.0, 56, 56),
        ];
        for (channels, divisor, expected) in cases {
            assert_eq!(divisible(channels, divisor), expected, "{channels} by {divisor}");
        }
    }
}
