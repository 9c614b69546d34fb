//! What it takes to build a network again.

use serde::{Deserialize, Serialize};

/// Names a network and its sizes; stored in every checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelSpec {
    /// One of [`ARCHITECTURES`](crate::ARCHITECTURES).
    pub architecture: String,
    /// Number of classes: the width of the logits.
    pub num_classes: usize,
    /// `[channels, height, width]` of one input image. Convolutional networks with global
    /// pooling take other sizes as well.
    pub input: [usize; 3],
    /// Probability that dropout drops an element, where the network has dropout; its published
    /// value if `None`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dropout: Option<f64>,
}

impl ModelSpec {
    /// The architecture at the input size it was published for.
    pub fn new(architecture: &str, num_classes: usize) -> Self {
        let input = match architecture {
            "mlp" => [1, 28, 28],
            "simple_cnn" | "alexnet_32" | "resnet9" => [3, 32, 32],
            _ => [3, 224, 224],
        };
        Self { architecture: architecture.to_owned(), num_classes, input, dropout: None }
    }

    /// The same network for images of `[channels, height, width]`.
    pub fn input(mut self, input: [usize; 3]) -> Self {
        self.input = input;
        self
    }

    /// The same network with another probability of dropout, a fraction in `0.0..1.0`.
    pub fn dropout(mut self, probability: f64) -> Self {
        self.dropout = Some(probability);
        self
    }
}
