//! The errors of this crate.

/// The result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error while a network is explained.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The output of a layer is not a stack of feature maps.
    #[error(
        "layer `{layer}` gives {shape:?}, which are no maps; name a convolution or a block of them"
    )]
    NoMaps {
        /// The layer's path.
        layer: String,
        /// The shape of its output.
        shape: Vec<usize>,
    },

    /// The network has no residual blocks.
    #[error("`{architecture}` has no residual blocks; look into a network such as `resnet18`")]
    NoResidualBlocks {
        /// The network's architecture.
        architecture: String,
    },

    /// A text is not a filter.
    #[error(
        "`{text}` is no filter; use one of {names}, or the numbers of a square with an odd side, row \
         by row: 0,-1,0,-1,4,-1,0,-1,0"
    )]
    Filter {
        /// The text.
        text: String,
        /// The names of the built-in filters.
        names: String,
    },

    /// The network has no layer of this path.
    #[error(
        "the network has no layer `{layer}`; the nearest are {}; \
         `candle-vision summary` (`candle_vision_models::summary::summarize`) lists all",
        quoted(near)
    )]
    UnknownLayer {
        /// The path asked for.
        layer: String,
        /// The nearest paths, best first.
        near: Vec<String>,
    },

    /// The network has no spatial maps that a class activation map could use.
    #[error(
        "`{architecture}` has no spatial maps, so it has no class activation map; \
         explain its pixels (method `saliency`), or a convolutional network, such as `resnet18`"
    )]
    NoSpatialMaps {
        /// The network's architecture.
        architecture: String,
    },

    /// The output of the layer does not have the shape of a stack of maps.
    #[error(
        "layer `{layer}` gives {shape:?}, a class activation map needs \
         [batch, channels, height, width]; name a convolution or a block of them"
    )]
    NotSpatial {
        /// The layer's path.
        layer: String,
        /// The shape of its output.
        shape: Vec<usize>,
    },

    /// The logits do not depend on the output of the layer.
    #[error("the classes do not depend on layer `{layer}`; name a layer on the way to the head")]
    NoGradient {
        /// The layer's path.
        layer: String,
    },

    /// The network has no class of this number.
    #[error("class {class} is out of range: the network has {num_classes}, counted from 0")]
    ClassOutOfRange {
        /// The class asked for.
        class: usize,
        /// How many classes the network has.
        num_classes: usize,
    },

    /// The images do not have the shape of a batch of images.
    #[error("images are [batch, channels, height, width], each at least 1, got {shape:?}")]
    ImageShape {
        /// The shape given.
        shape: Vec<usize>,
    },

    /// The images are too small for the network.
    #[error(
        "images of {}x{} are too small for `{architecture}`, which was made for {}x{}; enlarge them \
         (transform `resize`)", found[0], found[1], wanted[0], wanted[1]
    )]
    TooSmall {
        /// The network's architecture.
        architecture: String,
        /// Height and width of the images, in pixels.
        found: [usize; 2],
        /// Height and width of the images that the network was made for, in pixels.
        wanted: [usize; 2],
        /// The network's error.
        source: Box<candle_core::Error>,
    },

    /// The network's logits contain NaN or infinity.
    #[error(
        "the network's logits for image {index} of the batch are not finite; \
         its weights or the image are broken"
    )]
    NotFinite {
        /// Which image of the batch, counted from 0.
        index: usize,
    },

    /// The map contains NaN or infinity although the logits do not.
    #[error(
        "the map of image {index} of the batch at layer `{layer}` is not finite; \
         try another layer or method"
    )]
    MapNotFinite {
        /// Which image of the batch, counted from 0.
        index: usize,
        /// The layer's path.
        layer: String,
    },

    /// The size of a map differs from that of the image or mask that it is measured against.
    #[error(
        "the map has {values} values for {height}x{width}, but is measured against {pixels} pixels; \
         take the map, the image and the mask of one input"
    )]
    MapSize {
        /// Height of the map, in pixels.
        height: usize,
        /// Width of the map, in pixels.
        width: usize,
        /// Number of values in the map.
        values: usize,
        /// Number of pixels of the image or the mask.
        pixels: usize,
    },

    /// The number of targets differs from the number of images.
    #[error("{targets} target classes for {images} images; give one for each")]
    TargetCount {
        /// Number of target classes given.
        targets: usize,
        /// Number of images in the batch.
        images: usize,
    },

    /// The network has no layer in front of its head that could give embeddings.
    #[error("the network has no layer in front of its head, so its images cannot be compared")]
    NoEmbedding,

    /// The vector to compare with does not fit the embeddings of this network.
    #[error(
        "the vector to compare with has {found} values, the network's have {features}; \
         take one from `embeddings`, not all of it 0"
    )]
    Embedding {
        /// Number of values given.
        found: usize,
        /// Number of values of the network's own embeddings.
        features: usize,
    },

    /// An option that belongs to class activation maps was given to another method.
    #[error("`{method}` looks at the pixels: {option} is for class activation maps; leave it out")]
    OnlyForCams {
        /// The method's name.
        method: String,
        /// The option that was given.
        option: &'static str,
    },

    /// Features were asked for, but no image was shown to the network.
    #[error("there are no features: no image was added")]
    NoImages,

    /// A file could not be written.
    #[error("cannot write `{}`", path.display())]
    Write {
        /// The file.
        path: std::path::PathBuf,
        /// The error of the system.
        source: std::io::Error,
    },

    /// A parameter of the explained network is missing in the untrained one, has another shape there, or is
    /// shared by both.
    #[error(
        "`{parameter}` of the untrained network {problem}; build it by the same name, with another seed"
    )]
    NoTwin {
        /// The path of the parameter.
        parameter: String,
        /// What is wrong with it.
        problem: &'static str,
    },

    /// No method has this name.
    #[error(transparent)]
    UnknownMethod(#[from] candle_vision_registry::TableError),

    /// A setting of a method is out of its range.
    #[error("{setting} must be {range}, got {found}")]
    Setting {
        /// The setting.
        setting: &'static str,
        /// The possible values.
        range: &'static str,
        /// The value given.
        found: String,
    },

    /// candle could not run the network.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}

fn quoted(names: &[String]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    quoted.join(", ")
}
