//! What every network can do.

use candle_core::{Result, Tensor};

use crate::{ModelSpec, Parameters, Pass};

/// An image classifier.
pub trait Model: Send + Sync {
    /// What it takes to build this network again.
    fn spec(&self) -> &ModelSpec;

    /// Its parameters, in torchvision's order and under torchvision's names.
    fn parameters(&self) -> &Parameters;

    /// Logits of a batch of images.
    ///
    /// # Shapes
    /// - `images`: `[batch, channels, height, width]`, normalised floats; a permuted view of
    ///   channels-last memory is taken without a copy
    /// - returns `[batch, num_classes]`, in the parameters' number type whatever the precision of
    ///   the pass
    ///
    /// # Errors
    /// If the shape does not fit the network.
    fn forward(&self, images: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor>;

    /// The path of the layer that ends in the classes: a new one is put here for another
    /// `num_classes`, and it stays trainable when the backbone is frozen.
    fn head(&self) -> &'static str;

    /// The layer whose output a class activation map looks at; `None` for a network without
    /// spatial maps.
    fn cam_layer(&self) -> Option<&'static str>;

    /// Fits a tensor of a weight file to this network where its form differs from the published
    /// one, for instance the centre of a larger stem kernel. `None` leaves it as it is.
    ///
    /// # Errors
    /// If the tensor cannot be read.
    fn adapt_weight(&self, path: &str, tensor: &Tensor) -> Result<Option<Tensor>> {
        let _ = (path, tensor);
        Ok(None)
    }

    /// How many images of the training set [`Model::fit_images`] wants to see before the first
    /// training step; 0 for a network that begins without a look at them.
    fn images_to_fit(&self) -> usize {
        0
    }

    /// Fits what is not learned but follows from the images, such as a whitening first layer, and
    /// freezes it. A checkpoint that is loaded afterwards brings its own.
    ///
    /// # Shapes
    /// - `images`: as in [`Model::forward`], prepared as for evaluation
    ///
    /// # Errors
    /// If the images cannot be used.
    fn fit_images(&self, images: &Tensor) -> Result<()> {
        let _ = images;
        Ok(())
    }
}
