//! Everything about a network that can be asked for by name.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use candle_core::{Result, bail};
use candle_vision_registry::Entry;

use super::{NetworkCosts, PublishedWeights};
use crate::{Model, ModelSpec, ParameterBuilder};

type Build = dyn Fn(&ModelSpec, ParameterBuilder) -> Result<Box<dyn Model>> + Send + Sync;

/// A network by name: how it is built, and what is known about it.
///
/// The name and a function that builds the network are enough; everything else has a default.
///
/// ```
/// use candle_vision_models::candle_core::Device;
/// use candle_vision_models::{NetworkEntry, Networks, ResNet, ResNetConfig};
///
/// // A network of one's own: half as many blocks as ResNet-18 has.
/// let entry = NetworkEntry::new("resnet10", |spec, vb| {
///     ResNet::new(ResNetConfig::basic([1, 1, 1, 1]).spec(spec), vb)
/// });
/// let entry = entry.summary("ResNet-18 with one block a stage").input([3, 32, 32]).head("fc");
/// let mut networks = Networks::standard();
/// networks.add(entry)?;
/// let model = networks.build(&networks.spec("resnet10", 10)?, 0, &Device::Cpu)?;
/// assert_eq!(model.spec().input, [3, 32, 32]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct NetworkEntry {
    name: String,
    family: String,
    summary: String,
    input: [usize; 3],
    sizes: InputSizes,
    weights: Vec<PublishedWeights>,
    classes: Arc<[String]>,
    head: Option<String>,
    cam_layer: Option<String>,
    costs: Option<NetworkCosts>,
    build: Arc<Build>,
}

/// Which images a network takes besides those of its published size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct InputSizes {
    /// The smallest height and width.
    pub smallest: usize,
    /// Whether a network takes only images of the size that it was built for. Otherwise images of any
    /// size from the smallest on go through the same network.
    pub fixed: bool,
}

impl InputSizes {
    /// Images of at least `smallest` pixels a side.
    pub fn from(smallest: usize) -> Self {
        Self { smallest, fixed: false }
    }

    /// Images of the size that the network is built for, which is at least `smallest` pixels a side.
    pub fn fixed_from(smallest: usize) -> Self {
        Self { smallest, fixed: true }
    }
}

impl NetworkEntry {
    /// The network called `name`, which `build` makes. It keeps the spec that it gets, and takes its
    /// parameters from the builder.
    pub fn new<M: Model + 'static>(
        name: &str,
        build: impl Fn(&ModelSpec, ParameterBuilder) -> Result<M> + Send + Sync + 'static,
    ) -> Self {
        let build = move |spec: &ModelSpec, vb: ParameterBuilder| {
            build(spec, vb).map(|model| Box::new(model) as Box<dyn Model>)
        };
        Self {
            name: name.to_owned(),
            family: name.to_owned(),
            summary: String::new(),
            input: [3, 224, 224],
            sizes: InputSizes::from(1),
            weights: Vec::new(),
            classes: Arc::default(),
            head: None,
            cam_layer: None,
            costs: None,
            build: Arc::new(build),
        }
    }

    /// Sets one line about the network, with its source.
    pub fn summary(mut self, summary: &str) -> Self {
        self.summary = summary.to_owned();
        self
    }

    /// Sets the family that the network belongs to, such as `resnet`: networks of one code in several sizes. By
    /// default a network is a family of its own.
    pub fn family(mut self, family: &str) -> Self {
        self.family = family.to_owned();
        self
    }

    /// Sets the `[channels, height, width]` that the network was published for. Default `[3, 224, 224]`.
    pub fn input(mut self, input: [usize; 3]) -> Self {
        self.input = input;
        self
    }

    /// Sets which other images the network takes. By default those of any size.
    pub fn sizes(mut self, sizes: InputSizes) -> Self {
        self.sizes = sizes;
        self
    }

    /// Adds published weights; the first are those that the network's name alone stands for.
    pub fn weights(mut self, weights: PublishedWeights) -> Self {
        self.weights.push(weights);
        self
    }

    /// Sets the names of the classes that the published weights tell apart, in the order of the logits.
    pub fn classes(mut self, names: impl Into<Arc<[String]>>) -> Self {
        self.classes = names.into();
        self
    }

    /// Sets the path of the layer that ends in the classes: what the network's
    /// [`Model::head`] says, for lists that build no network.
    pub fn head(mut self, path: &str) -> Self {
        self.head = Some(path.to_owned());
        self
    }

    /// Sets the layer that class activation maps look at: what the network's [`Model::cam_layer`] says.
    pub fn cam_layer(mut self, path: &str) -> Self {
        self.cam_layer = Some(path.to_owned());
        self
    }

    /// Sets what the network costs. Published weights with as many classes, whose publisher does not say it, get these
    /// numbers too.
    pub fn costs(mut self, costs: NetworkCosts) -> Self {
        let same = |weights: &&mut PublishedWeights| weights.num_classes == costs.num_classes;
        for weights in self.weights.iter_mut().filter(same) {
            if weights.parameters == 0 {
                weights.parameters = costs.parameters;
            }
            if weights.multiply_adds == 0 {
                weights.multiply_adds = costs.multiply_adds;
            }
        }
        self.costs = Some(costs);
        self
    }

    /// The name that recipes, checkpoints and command lines use.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The family that it belongs to; its first row is the smallest network of the family.
    pub fn family_name(&self) -> &str {
        &self.family
    }

    /// One line about the network, with its source.
    pub fn summary_line(&self) -> &str {
        &self.summary
    }

    /// The `[channels, height, width]` that the network was published for.
    pub fn published_input(&self) -> [usize; 3] {
        self.input
    }

    /// Which other images it takes.
    pub fn input_sizes(&self) -> InputSizes {
        self.sizes
    }

    /// Its published weights; the first are those that the network's name alone stands for.
    pub fn published_weights(&self) -> &[PublishedWeights] {
        &self.weights
    }

    /// The published weights that a file of this name holds: it is called as here (`resnet50-imagenet1k_v2`), or as
    /// at its publisher's (`resnet50-11ad3fa6`).
    pub fn published_in(&self, file: impl AsRef<Path>) -> Option<&PublishedWeights> {
        let stem = file.as_ref().file_stem()?.to_str()?;
        self.weights.iter().find(|weights| {
            let at_publisher = Path::new(&weights.url).file_stem();
            weights.file == stem || at_publisher.is_some_and(|name| name == stem)
        })
    }

    /// The names of the classes that the published weights tell apart; empty if there are none.
    pub fn class_names(&self) -> &[String] {
        &self.classes
    }

    /// The path of the layer that ends in the classes, if the entry names it.
    pub fn head_path(&self) -> Option<&str> {
        self.head.as_deref()
    }

    /// The layer that class activation maps look at, if the entry names it.
    pub fn cam_path(&self) -> Option<&str> {
        self.cam_layer.as_deref()
    }

    /// What the network costs: what the entry says, or what the publisher of its first weights does. `None` if nobody
    /// says it; [`summarize`](crate::summary::summarize) counts it.
    pub fn known_costs(&self) -> Option<NetworkCosts> {
        let published = self.weights.first().map(|weights| {
            NetworkCosts::new(weights.num_classes, weights.parameters, weights.multiply_adds)
        });
        self.costs.or(published.filter(|costs| costs.parameters > 0))
    }

    /// The network at its published size, for `num_classes` classes.
    pub fn spec(&self, num_classes: usize) -> ModelSpec {
        ModelSpec::new(&self.name, num_classes).input(self.input)
    }

    /// Builds the network that `spec` describes.
    ///
    /// # Errors
    /// What the network's own function returns, and if the network then says something else about itself
    /// than the spec or this entry: checkpoints and lists would be wrong.
    pub fn build(&self, spec: &ModelSpec, vb: ParameterBuilder) -> Result<Box<dyn Model>> {
        let ([_, height, width], smallest) = (spec.input, self.sizes.smallest);
        if height.min(width) < smallest {
            bail!(
                "`{}` takes images of at least {smallest}x{smallest} pixels, got {height}x{width}; resize them, or \
                 choose a network for small images",
                self.name
            )
        }
        let model = (self.build)(spec, vb)?;
        if model.spec() != spec {
            bail!(
                "the network `{}` was asked for as {spec:?} and says that it is {:?}; build it from the spec \
                 that the entry's function gets, and keep that",
                self.name,
                model.spec()
            )
        }
        let named = [
            ("head", self.head.as_deref(), model.head()),
            ("cam_layer", self.cam_layer.as_deref(), model.cam_layer().unwrap_or_default()),
        ];
        for (what, of_entry, of_model) in named {
            if of_entry.is_some_and(|path| path != of_model) {
                bail!(
                    "the entry of the network `{}` says that its {what} is `{}`, its `Model::{what}` says \
                     `{of_model}`; make them agree",
                    self.name,
                    of_entry.unwrap_or_default()
                )
            }
        }
        Ok(model)
    }
}

impl Entry for NetworkEntry {
    fn name(&self) -> &str {
        &self.name
    }

    fn summary(&self) -> &str {
        &self.summary
    }
}

impl fmt::Debug for NetworkEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let weights: Vec<&str> = self.weights.iter().map(|weights| &*weights.name).collect();
        f.debug_struct("NetworkEntry")
            .field("name", &self.name)
            .field("summary", &self.summary)
            .field("input", &self.input)
            .field("weights", &weights)
            .field("classes", &self.classes.len())
            .finish_non_exhaustive()
    }
}
