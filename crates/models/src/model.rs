//! What every network can do.

use std::fmt;
use std::sync::Arc;

use candle_core::{Result, Tensor, bail};
use candle_vision_ops::slice;

use crate::{ModelSpec, Parameters, Pass, TimmNames};

/// An image classifier.
///
/// A network of one's own needs three methods; with them it can be trained, saved and loaded. The others
/// add to what it can do: [`Model::head`] lets it be fine-tuned, [`Model::cam_layer`] lets class activation
/// maps find their layer.
///
/// ```
/// use candle_vision_models::candle_core::{Device, Result, Tensor};
/// use candle_vision_models::layers::{Conv2d, Conv2dOptions, GlobalAvgPool, Linear, images_to_features};
/// use candle_vision_models::{Model, ModelSpec, NetworkEntry, Networks, ParameterBuilder, Parameters, Pass};
///
/// #[derive(Debug)]
/// struct Tiny { spec: ModelSpec, parameters: Parameters, conv: Conv2d, pool: GlobalAvgPool, fc: Linear }
///
/// impl Tiny {
///     fn new(spec: &ModelSpec, vb: ParameterBuilder) -> Result<Self> {
///         Ok(Self {
///             conv: Conv2d::new(Conv2dOptions::new(spec.input[0], 8, 3), vb.pp("conv"))?,
///             pool: GlobalAvgPool::new(vb.pp("avgpool")),
///             fc: Linear::new((8, spec.num_classes), vb.pp("fc"))?,
///             spec: spec.clone(),
///             parameters: vb.parameters(),
///         })
///     }
/// }
///
/// impl Model for Tiny {
///     fn spec(&self) -> &ModelSpec { &self.spec }
///     fn parameters(&self) -> &Parameters { &self.parameters }
///     fn forward(&self, images: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
///         let x = images_to_features(images, self.spec.input[0])?;
///         let x = self.conv.forward(&x, pass)?;
///         self.fc.logits(&self.pool.forward(&x, pass)?, pass)
///     }
///     fn head(&self) -> &str { "fc" }
/// }
///
/// let mut networks = Networks::standard();
/// networks.add(NetworkEntry::new("tiny", Tiny::new).input([3, 32, 32]))?;
/// let model = networks.build(&networks.spec("tiny", 10)?, 0, &Device::Cpu)?;
/// assert_eq!(model.parameters().count(), 8 * 27 + 8 + 10 * 8 + 10);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Model: Send + Sync {
    /// What it takes to build this network again.
    fn spec(&self) -> &ModelSpec;

    /// Its parameters, in torchvision's order and under torchvision's names.
    fn parameters(&self) -> &Parameters;

    /// Logits of a batch of images. For the networks of this crate it is [`Model::forward_head`] of
    /// [`Model::forward_features`], to the bit.
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

    /// What the backbone makes of a batch of images: the last feature maps, before they are pooled, as
    /// timm's method of this name.
    ///
    /// # Shapes
    /// - `images`: as in [`Model::forward`]
    /// - returns `[batch, channels, height, width]`, `[batch, tokens, features]` for a network with a
    ///   [`Model::token_grid`], or `[batch, features]` for one without maps
    ///
    /// # Errors
    /// If the shape does not fit, or the network does not tell its backbone from its head, which is the
    /// default.
    fn forward_features(&self, images: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        let _ = (images, pass);
        not_divided(self.spec(), "forward_features")
    }

    /// Logits of what [`Model::forward_features`] has made.
    ///
    /// # Shapes
    /// - `features`: as [`Model::forward_features`] returns them
    /// - returns `[batch, num_classes]`
    ///
    /// # Errors
    /// As [`Model::forward_features`].
    fn forward_head(&self, features: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        let _ = (features, pass);
        not_divided(self.spec(), "forward_head")
    }

    /// The path of the layer that ends in the classes. A new one is put here for another `num_classes`,
    /// and it stays trainable when the backbone is frozen. The default, an empty path, means that the
    /// network names none; what needs a head then says so.
    fn head(&self) -> &str {
        ""
    }

    /// The layer whose output a class activation map looks at. `None`, the default, means that there are
    /// no spatial maps, or that the caller has to name a layer.
    fn cam_layer(&self) -> Option<&str> {
        None
    }

    /// Where the tokens of the network's layers lie in the image. `None`, the default, for a network whose layers
    /// give feature maps.
    fn token_grid(&self) -> Option<TokenGrid> {
        None
    }

    /// Logits of a training step, and those of auxiliary classifiers that only training has (GoogLeNet and
    /// Inception v3). The trainer adds their losses, times their weights, to that of the logits.
    ///
    /// # Shapes
    /// As [`Model::forward`], also for the auxiliary logits.
    ///
    /// # Errors
    /// As [`Model::forward`].
    fn forward_auxiliary(&self, images: &Tensor, pass: &mut Pass<'_>) -> Result<AuxiliaryOutputs> {
        Ok(AuxiliaryOutputs { logits: self.forward(images, pass)?, auxiliary: Vec::new() })
    }

    /// The paths of the auxiliary classifiers that [`Model::forward_auxiliary`] runs, also where this network was
    /// built without them. A weight file may hold them for other classes, or not at all: training needs them, and
    /// evaluation does not.
    fn auxiliary_heads(&self) -> &[&str] {
        &[]
    }

    /// This network's name of a parameter that older published files call `name`: `norm1.weight` for the
    /// `norm.1.weight` of torchvision's DenseNets. `name` may have a prefix, such as `module.`. `None`, the default,
    /// for a name that is not one of those.
    fn rename_weight(&self, name: &str) -> Option<String> {
        let _ = name;
        None
    }

    /// What timm calls this network's parameters, if timm has the same network under other names: a file of timm's is then
    /// loaded as it is. `None`, the default, for a network that timm does not have or calls the same.
    fn timm_names(&self) -> Option<TimmNames> {
        None
    }

    /// Fits a tensor of a weight file to this network where its form differs from the published
    /// one, for instance the centre of a larger stem kernel. `None` leaves it as it is.
    ///
    /// # Errors
    /// If the tensor cannot be read.
    fn adapt_weight(&self, path: &str, tensor: &Tensor) -> Result<Option<Tensor>> {
        let _ = (path, tensor);
        Ok(None)
    }

    /// Whether published weight files hold a tensor called `name` that is no part of this network, such as the mask
    /// token of a pretraining. It is left out, and the load report says so.
    fn leaves_out_weight(&self, name: &str) -> bool {
        let _ = name;
        false
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

/// What [`Model::forward_auxiliary`] gives.
#[derive(Debug, Clone)]
pub struct AuxiliaryOutputs {
    /// `[batch, num_classes]`, as [`Model::forward`] gives them.
    pub logits: Tensor,
    /// The logits of each auxiliary classifier and the weight of its loss.
    pub auxiliary: Vec<(Tensor, f64)>,
}

/// How the tokens of a vision transformer lie in the image. A layer's output is `[batch, tokens, features]`: first
/// `prefix` tokens that stand for no place, then one token for each patch, row by row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct TokenGrid {
    /// Tokens before those of the patches: the class token, distillation and register tokens.
    pub prefix: usize,
    /// `[height, width]` of a patch in pixels.
    pub patch: [usize; 2],
}

impl TokenGrid {
    /// Patches of `[height, width]` pixels behind `prefix` other tokens.
    pub fn new(prefix: usize, patch: [usize; 2]) -> Self {
        Self { prefix, patch }
    }

    /// The tokens of the patches as feature maps, for an image of `image` = `[height, width]` pixels.
    ///
    /// # Shapes
    /// - `tokens`: `[batch, tokens, features]`
    /// - returns `[batch, features, height / patch height, width / patch width]`, channels last in memory
    ///
    /// # Errors
    /// If there are fewer or more tokens than patches.
    pub fn to_maps(&self, tokens: &Tensor, image: [usize; 2]) -> Result<Tensor> {
        let [height, width] = [image[0] / self.patch[0], image[1] / self.patch[1]];
        let (batch, count, features) = tokens.dims3()?;
        if count != self.prefix + height * width {
            bail!(
                "an image of {}x{} has {height}x{width} patches and {} other tokens, got {count} tokens",
                image[0],
                image[1],
                self.prefix
            )
        }
        let patches = slice(tokens, 1, self.prefix..count)?;
        patches.reshape((batch, height, width, features))?.permute((0, 3, 1, 2))
    }
}

fn not_divided(spec: &ModelSpec, method: &str) -> Result<Tensor> {
    bail!(
        "the network `{}` does not tell its backbone from its head; implement `Model::{method}` for it, or \
         see its layers with `Hooks`",
        spec.architecture
    )
}

/// The network behind a pointer is a network: every method goes to it.
macro_rules! model_behind_pointer {
    ($($pointer:ty),*) => {$(
        impl<M: Model + ?Sized> Model for $pointer {
            fn spec(&self) -> &ModelSpec {
                (**self).spec()
            }

            fn parameters(&self) -> &Parameters {
                (**self).parameters()
            }

            fn forward(&self, images: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
                (**self).forward(images, pass)
            }

            fn forward_features(&self, images: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
                (**self).forward_features(images, pass)
            }

            fn forward_head(&self, features: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
                (**self).forward_head(features, pass)
            }

            fn head(&self) -> &str {
                (**self).head()
            }

            fn cam_layer(&self) -> Option<&str> {
                (**self).cam_layer()
            }

            fn token_grid(&self) -> Option<TokenGrid> {
                (**self).token_grid()
            }

            fn forward_auxiliary(
                &self,
                images: &Tensor,
                pass: &mut Pass<'_>,
            ) -> Result<AuxiliaryOutputs> {
                (**self).forward_auxiliary(images, pass)
            }

            fn auxiliary_heads(&self) -> &[&str] {
                (**self).auxiliary_heads()
            }

            fn rename_weight(&self, name: &str) -> Option<String> {
                (**self).rename_weight(name)
            }

            fn timm_names(&self) -> Option<TimmNames> {
                (**self).timm_names()
            }

            fn adapt_weight(&self, path: &str, tensor: &Tensor) -> Result<Option<Tensor>> {
                (**self).adapt_weight(path, tensor)
            }

            fn leaves_out_weight(&self, name: &str) -> bool {
                (**self).leaves_out_weight(name)
            }

            fn images_to_fit(&self) -> usize {
                (**self).images_to_fit()
            }

            fn fit_images(&self, images: &Tensor) -> Result<()> {
                (**self).fit_images(images)
            }
        }
    )*};
}

model_behind_pointer!(&M, Box<M>, Arc<M>);

impl fmt::Debug for dyn Model + '_ {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        short(f, "Model", self)
    }
}

/// A network in one line. Its layers and parameters would fill pages; [`summary`](crate::summary) has them.
pub(crate) fn short(
    f: &mut fmt::Formatter<'_>,
    name: &str,
    model: &(impl Model + ?Sized),
) -> fmt::Result {
    f.debug_struct(name)
        .field("architecture", &model.spec().architecture)
        .field("num_classes", &model.spec().num_classes)
        .field("input", &model.spec().input)
        .field("parameters", &model.parameters().count())
        .finish_non_exhaustive()
}
