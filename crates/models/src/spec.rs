//! What it takes to build a network again.

use serde::{Deserialize, Serialize};

/// Names a network and its sizes; stored in every checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelSpec {
    /// One of [`ARCHITECTURES`](crate::ARCHITECTURES).
    pub architecture: String,
    /// Number of classes: the width of the logits.
    pub num_classes: usize,
    /// `[channels, height, width]` of one input picture. Convolutional networks with global
    /// pooling take other sizes as well.
    pub input: [usize; 3],
}

impl ModelSpec {
    /// The architecture at the input size it was published for.
    pub fn new(architecture: &str, num_classes: usize) -> Self {
        let input = match architecture {
            "mlp" => [1, 28, 28],
            "simple_cnn" | "alexnet_32" => [3, 32, 32],
            _ => [3, 224, 224],
        };
        Self { architecture: architecture.to_owned(), num_classes, input }
    }

    /// The same network for pictures of `[channels, height, width]`.
    pub fn input(mut self, input: [usize; 3]) -> Self {
        self.input = input;
        self
    }
}
