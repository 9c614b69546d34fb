//! What can go wrong while a network is asked for its reasons.

/// The result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong while a network is asked for its reasons.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The output of a layer is no stack of maps to look at.
    #[error(
        "layer `{layer}` gives {shape:?}, which are no maps; name a convolution or a block of them"
    )]
    NoMaps {
        /// The layer's path.
        layer: String,
        /// What it gives.
        shape: Vec<usize>,
    },

    /// The network has no residual blocks.
    #[error("`{architecture}` has no residual blocks; look into a network such as `resnet18`")]
    NoResidualBlocks {
        /// The network's architecture.
        architecture: String,
    },

    /// A text names no filter.
    #[error(
        "`{text}` is no filter; use one of {names}, or the numbers of a square with an odd side, row \
         by row: 0,-1,0,-1,4,-1,0,-1,0"
    )]
    Filter {
        /// The text.
        text: String,
        /// The filters with names.
        names: String,
    },

    /// The network has no layer of this name.
    #[error(
        "the network has no layer `{layer}`; the nearest are {}; \
         `candle-vision summary` (`candle_vision_models::summary::summarize`) lists all",
        quoted(near)
    )]
    UnknownLayer {
        /// The path asked for.
        layer: String,
        /// The paths that look most like it, best first.
        near: Vec<String>,
    },

    /// The network keeps no maps that a class activation map could look at.
    #[error(
        "`{architecture}` has no spatial maps, so it has no class activation map; \
         explain a convolutional network, such as `resnet18`"
    )]
    NoSpatialMaps {
        /// The network's architecture.
        architecture: String,
    },

    /// The output of the layer is no stack of maps.
    #[error(
        "layer `{layer}` gives {shape:?}, a class activation map needs \
         [batch, channels, height, width]; name a convolution or a block of them"
    )]
    NotSpatial {
        /// The layer's path.
        layer: String,
        /// What it gives.
        shape: Vec<usize>,
    },

    /// The classes do not depend on the output of the layer.
    #[error("the classes do not depend on layer `{layer}`; name a layer on the way to the head")]
    NoGradient {
        /// The layer's path.
        layer: String,
    },

    /// The network does not tell such a class apart.
    #[error("class {class} is out of range: the network has {num_classes}, counted from 0")]
    ClassOutOfRange {
        /// The class asked for.
        class: usize,
        /// How many there are.
        num_classes: usize,
    },

    /// The pictures are no batch of pictures.
    #[error("pictures are [batch, channels, height, width], each at least 1, got {shape:?}")]
    ImageShape {
        /// The shape given.
        shape: Vec<usize>,
    },

    /// The network answers with NaN or infinity.
    #[error(
        "the network's logits for picture {index} of the batch are not finite; \
         its weights or the picture are broken"
    )]
    NotFinite {
        /// Which picture of the batch, from 0.
        index: usize,
    },

    /// candle could not run the network.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}

fn quoted(names: &[String]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    quoted.join(", ")
}
