//! A network of candle-nn as a model.

use std::fmt;

use candle_core::{DType, Device, Result, Tensor, bail};
use candle_nn::{ModuleT, VarBuilder};

use crate::{Model, ModelSpec, ParameterBuilder, Parameters, Pass};

/// A network of candle-nn as a [`Model`]: its variables are named, seeded parameters, and the running
/// statistics of its batch norms are buffers, which nothing trains.
///
/// A training pass calls `forward_t` with `train = true`, for batch norm and dropout. candle draws its
/// dropout from a generator that cannot be seeded on the CPU. Freezing takes parameters out of the trainer's
/// hands, but their gradients are still computed, in evaluation too; layers compute in `f32` whatever the
/// precision of the pass. Hooks see the logits at the path of the head and, for a network
/// [in two parts](Self::in_two), the feature maps between them: candle-nn's own layers have no paths.
///
/// ```
/// use candle_nn::{ModuleT, linear};
/// use candle_vision_models::candle_core::{DType, Device, Tensor};
/// use candle_vision_models::interop::CandleNet;
/// use candle_vision_models::{Model, Pass};
///
/// let net = CandleNet::new("probe", [3, 4, 4], 10, |vb| {
///     let fc = linear(48, 10, vb.pp("fc"))?;
///     Ok(candle_nn::func(move |images| images.flatten_from(1)?.apply(&fc)))
/// })?
/// .head("fc")?;
/// assert_eq!(net.parameters().count(), 48 * 10 + 10);
/// let images = Tensor::ones((2, 3, 4, 4), DType::F32, &Device::Cpu)?;
/// assert_eq!(net.forward(&images, &mut Pass::eval())?.dims(), [2, 10]);
/// # candle_vision_models::candle_core::Result::Ok(())
/// ```
pub struct CandleNet {
    spec: ModelSpec,
    parameters: Parameters,
    parts: Parts,
    head: String,
    cam_layer: Option<String>,
}

type Part = Box<dyn ModuleT + Send + Sync>;

enum Parts {
    Whole(Part),
    Two { backbone: Part, classifier: Part },
}

impl CandleNet {
    /// The network called `name` that `build` makes, for images of `[channels, height, width]`, with initial
    /// values of seed 0 on the CPU. [`Self::build`] takes them from a table of networks.
    ///
    /// # Errors
    /// What `build` returns.
    pub fn new<M: ModuleT + Send + Sync + 'static>(
        name: &str,
        input: [usize; 3],
        num_classes: usize,
        build: impl FnOnce(VarBuilder<'static>) -> Result<M>,
    ) -> Result<Self> {
        let spec = ModelSpec::new(name, num_classes).input(input);
        Self::build(&spec, Parameters::new().builder(0, DType::F32, &Device::Cpu), build)
    }

    /// The network of `spec` that `build` makes; what the function of a
    /// [`NetworkEntry`](crate::NetworkEntry) returns.
    ///
    /// ```
    /// use candle_vision_models::NetworkEntry;
    /// use candle_vision_models::interop::CandleNet;
    ///
    /// let entry = NetworkEntry::new("probe", |spec, vb| {
    ///     let (inputs, classes) = (spec.input.iter().product(), spec.num_classes);
    ///     CandleNet::build(spec, vb, |vb| {
    ///         let fc = candle_nn::linear(inputs, classes, vb.pp("fc"))?;
    ///         Ok(candle_nn::func(move |images| images.flatten_from(1)?.apply(&fc)))
    ///     })?
    ///     .head("fc")
    /// });
    /// # let _ = entry;
    /// ```
    ///
    /// # Errors
    /// What `build` returns.
    pub fn build<M: ModuleT + Send + Sync + 'static>(
        spec: &ModelSpec,
        vb: ParameterBuilder,
        build: impl FnOnce(VarBuilder<'static>) -> Result<M>,
    ) -> Result<Self> {
        let module = build(vb.candle_nn())?;
        Ok(Self::of(spec, vb, Parts::Whole(Box::new(module))))
    }

    /// The same for a network in two parts: what makes the last feature maps, `[batch, channels, height,
    /// width]`, and what makes logits of them. Class activation maps need it, and so do
    /// [`Model::forward_features`] and [`Model::forward_head`]. Hooks see the maps at the path
    /// `cam_layer`.
    ///
    /// # Errors
    /// What `build` returns.
    pub fn in_two<B, C>(
        spec: &ModelSpec,
        vb: ParameterBuilder,
        cam_layer: &str,
        build: impl FnOnce(VarBuilder<'static>) -> Result<(B, C)>,
    ) -> Result<Self>
    where
        B: ModuleT + Send + Sync + 'static,
        C: ModuleT + Send + Sync + 'static,
    {
        let (backbone, classifier) = build(vb.candle_nn())?;
        let parts = Parts::Two { backbone: Box::new(backbone), classifier: Box::new(classifier) };
        let net = Self::of(spec, vb, parts);
        Ok(Self { cam_layer: Some(cam_layer.to_owned()), ..net })
    }

    fn of(spec: &ModelSpec, vb: ParameterBuilder, parts: Parts) -> Self {
        let (spec, parameters) = (spec.clone(), vb.parameters());
        Self { spec, parameters, parts, head: String::new(), cam_layer: None }
    }

    /// Sets the path of the layer that ends in the classes.
    ///
    /// # Errors
    /// If no parameter lies under `path`.
    pub fn head(mut self, path: &str) -> Result<Self> {
        let weights = self.parameters.weights();
        if path.is_empty() || !weights.iter().any(|weight| crate::is_under(weight.path(), path)) {
            let layers = weights.iter().map(|weight| crate::path::layer_of(weight.path()));
            let near = candle_vision_registry::did_you_mean(path, layers);
            bail!("`{}` has no layer `{path}` that could be its head{near}", self.spec.architecture)
        }
        self.head = path.to_owned();
        Ok(self)
    }

    fn features(&self, images: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        let [channels, ..] = self.spec.input;
        if images.rank() != 4 || images.dims()[1] != channels {
            bail!(
                "this network takes images of [batch, {channels}, height, width], got {:?}",
                images.dims()
            )
        }
        // candle's matrix products want their inputs in order.
        let images = images.contiguous()?;
        match &self.parts {
            Parts::Whole(module) => module.forward_t(&images, pass.is_train()),
            Parts::Two { backbone, .. } => {
                let maps = backbone.forward_t(&images, pass.is_train())?;
                match self.cam_layer.as_deref().filter(|path| pass.wants(path)) {
                    // Hooks are shown maps whose channels lie last.
                    Some(path) if maps.rank() == 4 => {
                        let seen = pass.output(path, maps.permute((0, 2, 3, 1))?)?;
                        seen.permute((0, 3, 1, 2))?.contiguous()
                    }
                    Some(path) => pass.output(path, maps),
                    None => Ok(maps),
                }
            }
        }
    }

    /// Hands the logits in as the output of the head.
    fn logits(&self, logits: Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        if self.head.is_empty() { Ok(logits) } else { pass.output(&self.head, logits) }
    }
}

impl Model for CandleNet {
    fn spec(&self) -> &ModelSpec {
        &self.spec
    }

    fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    fn forward(&self, images: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        let x = self.features(images, pass)?;
        match &self.parts {
            Parts::Whole(_) => self.logits(x, pass),
            Parts::Two { .. } => self.forward_head(&x, pass),
        }
    }

    fn forward_features(&self, images: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        match &self.parts {
            Parts::Whole(_) => self.not_in_two(),
            Parts::Two { .. } => self.features(images, pass),
        }
    }

    fn forward_head(&self, features: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        match &self.parts {
            Parts::Whole(_) => self.not_in_two(),
            Parts::Two { classifier, .. } => {
                self.logits(classifier.forward_t(features, pass.is_train())?, pass)
            }
        }
    }

    fn head(&self) -> &str {
        &self.head
    }

    fn cam_layer(&self) -> Option<&str> {
        self.cam_layer.as_deref()
    }
}

impl CandleNet {
    fn not_in_two(&self) -> Result<Tensor> {
        bail!(
            "the network `{}` is one module, whose backbone is not told from its head; build it with \
             `CandleNet::in_two`",
            self.spec.architecture
        )
    }
}

impl fmt::Debug for CandleNet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        crate::model::short(f, "CandleNet", self)
    }
}
