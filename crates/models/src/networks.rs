//! The networks: a table of them by name, and what each can be built from without a name.

mod airbench;
mod alexnet;
mod basic_conv;
mod config;
mod convnext;
mod costs;
mod densenet;
mod efficientnet;
mod entry;
mod gap_cnn;
mod googlenet;
mod inception_v3;
mod inverted_residual;
mod lenet;
mod mlp;
mod mnasnet;
mod mobilenet_v2;
mod mobilenet_v3;
mod published;
mod regnet;
mod residual;
mod resnet;
mod resnet9;
mod resnet_cifar;
mod shufflenet_v2;
mod simple_cnn;
mod squeezenet;
mod swin_transformer;
mod vgg;
mod vision_transformer;

use std::path::Path;
use std::sync::LazyLock;

use candle_core::{DType, Device, Error, Result, bail};
use candle_vision_registry::{Table, TableError};

pub use airbench::{Airbench, AirbenchConfig};
pub use alexnet::{AlexNet, AlexNetConfig, AlexNetForm};
pub use convnext::{ConvNeXt, ConvNeXtConfig};
pub use costs::NetworkCosts;
pub use densenet::{DenseNet, DenseNetConfig};
pub use efficientnet::{
    EfficientNet, EfficientNetConfig, EfficientNetLite, EfficientNetLiteConfig, EfficientNetStage,
};
pub use entry::{InputSizes, NetworkEntry};
pub use gap_cnn::{GapCnn, GapCnnConfig};
pub use googlenet::{GoogLeNet, GoogLeNetConfig};
pub use inception_v3::{InceptionV3, InceptionV3Config};
pub use lenet::{LeNet, LeNetConfig};
pub use mlp::{Mlp, MlpConfig};
pub use mnasnet::{MnasNet, MnasNetConfig};
pub use mobilenet_v2::{MobileNetV2, MobileNetV2Config};
pub use mobilenet_v3::{MobileNetV3, MobileNetV3Block, MobileNetV3Config};
use published::TorchvisionWeights;
pub use published::{
    EvalPreprocessing, PublishedWeights, ResizeInterpolation, imagenet_classes, imagenet_synsets,
};
pub use regnet::{RegNet, RegNetConfig, RegNetStage};
pub use residual::ResNetBlock;
pub use resnet::{ResNet, ResNetConfig};
pub use resnet_cifar::{CifarResNet, CifarResNetConfig};
pub use resnet9::{ResNet9, ResNet9Config};
pub use shufflenet_v2::{ShuffleNetV2, ShuffleNetV2Config};
pub use simple_cnn::{SimpleCnn, SimpleCnnConfig};
pub use squeezenet::{SqueezeNet, SqueezeNetConfig, SqueezeNetVersion};
pub use swin_transformer::{SwinTransformer, SwinTransformerConfig};
pub use vgg::{Vgg, VggConfig};
pub use vision_transformer::{TransformerNames, VisionTransformer, VisionTransformerConfig};

use crate::weights::{Strictness, WeightFile};
use crate::{Model, ModelSpec, ParameterBuilder, Parameters};

/// One row for each network of this crate, in the order of lists.
static BUILT_IN: LazyLock<Networks> = LazyLock::new(|| {
    Networks(Table::of(
        "network",
        [
            mlp::mlp(),
            lenet::lenet5(),
            simple_cnn::simple_cnn(),
            gap_cnn::gap_cnn(),
            gap_cnn::gap_cnn_deep(),
            gap_cnn::gap_cnn_hidden(),
            resnet9::resnet9(),
            airbench::airbench94(),
            airbench::airbench96(),
            resnet::resnet18(),
            resnet::resnet34(),
            resnet::resnet50(),
            resnet::resnet101(),
            resnet::resnet152(),
            resnet::resnext50_32x4d(),
            resnet::resnext101_32x8d(),
            resnet::resnext101_64x4d(),
            resnet::wide_resnet50_2(),
            resnet::wide_resnet101_2(),
            resnet::resnet18_32(),
            resnet_cifar::resnet20_cifar(),
            resnet_cifar::resnet32_cifar(),
            resnet_cifar::resnet44_cifar(),
            resnet_cifar::resnet56_cifar(),
            resnet_cifar::resnet110_cifar(),
            resnet_cifar::plain20_cifar(),
            resnet_cifar::plain32_cifar(),
            resnet_cifar::plain44_cifar(),
            resnet_cifar::plain56_cifar(),
            mobilenet_v2::mobilenet_v2(),
            vgg::vgg11(),
            vgg::vgg11_bn(),
            vgg::vgg13(),
            vgg::vgg13_bn(),
            vgg::vgg16(),
            vgg::vgg16_bn(),
            vgg::vgg19(),
            vgg::vgg19_bn(),
            squeezenet::squeezenet1_1(),
            squeezenet::squeezenet1_0(),
            googlenet::googlenet(),
            inception_v3::inception_v3(),
            densenet::densenet121(),
            densenet::densenet169(),
            densenet::densenet201(),
            densenet::densenet161(),
            shufflenet_v2::shufflenet_v2_x0_5(),
            shufflenet_v2::shufflenet_v2_x1_0(),
            shufflenet_v2::shufflenet_v2_x1_5(),
            shufflenet_v2::shufflenet_v2_x2_0(),
            mnasnet::mnasnet0_5(),
            mnasnet::mnasnet0_75(),
            mnasnet::mnasnet1_0(),
            mnasnet::mnasnet1_3(),
            mobilenet_v3::mobilenet_v3_small(),
            mobilenet_v3::mobilenet_v3_large(),
            efficientnet::efficientnet_b0(),
            efficientnet::efficientnet_b1(),
            efficientnet::efficientnet_b2(),
            efficientnet::efficientnet_b3(),
            efficientnet::efficientnet_b4(),
            efficientnet::efficientnet_b5(),
            efficientnet::efficientnet_b6(),
            efficientnet::efficientnet_b7(),
            efficientnet::efficientnet_v2_s(),
            efficientnet::efficientnet_v2_m(),
            efficientnet::efficientnet_v2_l(),
            efficientnet::lite::efficientnet_lite0(),
            efficientnet::lite::efficientnet_lite1(),
            efficientnet::lite::efficientnet_lite2(),
            regnet::regnet_y_400mf(),
            regnet::regnet_y_800mf(),
            regnet::regnet_y_1_6gf(),
            regnet::regnet_y_3_2gf(),
            regnet::regnet_y_8gf(),
            regnet::regnet_y_16gf(),
            regnet::regnet_y_32gf(),
            regnet::regnet_y_128gf(),
            regnet::regnet_x_400mf(),
            regnet::regnet_x_800mf(),
            regnet::regnet_x_1_6gf(),
            regnet::regnet_x_3_2gf(),
            regnet::regnet_x_8gf(),
            regnet::regnet_x_16gf(),
            regnet::regnet_x_32gf(),
            convnext::convnext_tiny(),
            convnext::convnext_small(),
            convnext::convnext_base(),
            convnext::convnext_large(),
            vision_transformer::deit_tiny_patch16_224(),
            vision_transformer::deit_small_patch16_224(),
            vision_transformer::deit_base_patch16_224(),
            vision_transformer::vit_b_16(),
            vision_transformer::vit_b_32(),
            vision_transformer::vit_l_16(),
            vision_transformer::vit_l_32(),
            vision_transformer::vit_h_14(),
            vision_transformer::vit_small_patch14_dinov2(),
            vision_transformer::vit_base_patch14_dinov2(),
            vision_transformer::vit_base_patch16_224_mae(),
            vision_transformer::vit_base_patch16_224_mocov3(),
            swin_transformer::swin_t(),
            swin_transformer::swin_s(),
            swin_transformer::swin_b(),
            alexnet::alexnet(),
            alexnet::alexnet_32(),
            alexnet::alexnet_cifar(),
        ]
        .map(costs::with_counted_costs),
    ))
});

/// Networks by name: those of this crate, and those that a program adds.
///
/// ```
/// use candle_vision_models::candle_core::Device;
/// use candle_vision_models::Networks;
///
/// let networks = Networks::standard();
/// let resnet18 = networks.get("resnet18")?;
/// assert_eq!(resnet18.published_weights()[0].name, "IMAGENET1K_V1");
/// assert_eq!(resnet18.class_names()[309], "bee");
///
/// let model = networks.build(&networks.spec("gap_cnn", 2)?, 0, &Device::Cpu)?;
/// assert_eq!(model.head(), "fc");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Networks(Table<NetworkEntry>);

impl Default for Networks {
    fn default() -> Self {
        Self::standard()
    }
}

impl Networks {
    /// The networks of this crate.
    pub fn standard() -> Self {
        BUILT_IN.clone()
    }

    /// The same without a copy.
    pub(crate) fn built_in() -> &'static Self {
        &BUILT_IN
    }

    /// Adds a network.
    ///
    /// # Errors
    /// If another network has its name, or if the name could not be written in a recipe.
    pub fn add(&mut self, entry: NetworkEntry) -> std::result::Result<&mut Self, TableError> {
        self.0.add(entry)?;
        Ok(self)
    }

    /// The network called `name`.
    ///
    /// # Errors
    /// If there is none; the message offers near names.
    pub fn get(&self, name: &str) -> std::result::Result<&NetworkEntry, TableError> {
        self.0.get(name)
    }

    /// All networks, in the order in which they were added.
    pub fn iter(&self) -> std::slice::Iter<'_, NetworkEntry> {
        self.0.iter()
    }

    /// Their names, in the order in which they were added.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.names()
    }

    /// The smallest network of each family, in the order in which they were added: what stands for all where a look
    /// at every network takes too long.
    pub fn families(&self) -> impl Iterator<Item = &NetworkEntry> {
        self.iter().enumerate().filter_map(|(place, entry)| {
            let mut before = self.iter().take(place);
            let is_first = before.all(|other| other.family_name() != entry.family_name());
            is_first.then_some(entry)
        })
    }

    /// The table itself.
    pub fn table(&self) -> &Table<NetworkEntry> {
        &self.0
    }

    /// The network called `name` at the input size it was published for.
    ///
    /// # Errors
    /// If there is no such network.
    pub fn spec(&self, name: &str, num_classes: usize) -> Result<ModelSpec> {
        Ok(self.find(name)?.spec(num_classes))
    }

    /// Builds the network that `spec` names, with initial values drawn from `seed`.
    ///
    /// # Errors
    /// If no network has this name (the message offers near ones), there are no classes, or the input does
    /// not fit it.
    pub fn build(&self, spec: &ModelSpec, seed: u64, device: &Device) -> Result<Box<dyn Model>> {
        let entry = self.find(&spec.architecture)?;
        check(spec)?;
        entry.build(spec, Parameters::new().builder(seed, DType::F32, device))
    }

    /// The entry called `name`; the error also tells what to do about a checkpoint of somebody's own network.
    fn find(&self, name: &str) -> Result<&NetworkEntry> {
        self.0.get(name).map_err(|error| {
            let sentence = if error.to_string().ends_with('?') { " A" } else { "; a" };
            Error::Msg(format!(
                "{error}{sentence} network of a program's own has to be registered there with \
                 `Registry::network`"
            ))
        })
    }
}

impl<'a> IntoIterator for &'a Networks {
    type Item = &'a NetworkEntry;
    type IntoIter = std::slice::Iter<'a, NetworkEntry>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// Builds the network of this crate that `spec` names, with initial values drawn from `seed`.
/// [`Networks::build`] also builds those that a program has added.
///
/// # Errors
/// As [`Networks::build`].
pub fn build(spec: &ModelSpec, seed: u64, device: &Device) -> Result<Box<dyn Model>> {
    BUILT_IN.build(spec, seed, device)
}

/// The network of this crate called `architecture` for `num_classes` classes, on the CPU, with the weights of a
/// safetensors or PyTorch file. Where the file has other classes, the head is new.
///
/// ```no_run
/// let model = candle_vision_models::fine_tuned("resnet18", 2, "data/weights/resnet18.safetensors")?;
/// # candle_vision_models::candle_core::Result::Ok(())
/// ```
///
/// # Errors
/// If there is no such network, or the file cannot be read or does not fit it.
pub fn fine_tuned(
    architecture: &str,
    num_classes: usize,
    weights: impl AsRef<Path>,
) -> Result<Box<dyn Model>> {
    let spec = BUILT_IN.spec(architecture, num_classes)?;
    let model = build(&spec, 0, &Device::Cpu)?;
    WeightFile::read(weights)?.load(&*model, Strictness::ExceptHead)?;
    Ok(model)
}

/// A row for a network of this crate: none of them has settings of its own.
fn row<M: Model + 'static>(
    name: &str,
    build: impl Fn(&ModelSpec, ParameterBuilder) -> Result<M> + Send + Sync + 'static,
) -> NetworkEntry {
    NetworkEntry::new(name, move |spec, vb| {
        spec.require_no_settings()?;
        build(spec, vb)
    })
}

/// A row for a network of torchvision's, with the weights that it publishes for this name and ImageNet's classes.
fn torchvision<M: Model + 'static>(
    name: &str,
    build: impl Fn(&ModelSpec, ParameterBuilder) -> Result<M> + Send + Sync + 'static,
) -> NetworkEntry {
    let published = TorchvisionWeights::of(name);
    published.fold(row(name, build), |entry, published| {
        let sizes = InputSizes::from(published.smallest);
        entry.weights(published.weights).classes(imagenet_classes()).sizes(sizes)
    })
}

/// Fails if no network can be built from `spec`.
fn check(spec: &ModelSpec) -> Result<()> {
    if spec.num_classes == 0 || spec.input.contains(&0) {
        bail!(
            "a network needs at least one class and an image, got {} classes and input {:?}",
            spec.num_classes,
            spec.input
        )
    }
    if let Some(dropout) = spec.dropout.filter(|dropout| !(0.0..1.0).contains(dropout)) {
        bail!("dropout is a fraction in 0..1, 1 excluded, got {dropout}")
    }
    Ok(())
}

/// Fails if no network can be built from `spec`, or an image does not survive three halvings.
fn check_three_halvings(spec: &ModelSpec) -> Result<()> {
    check(spec)?;
    let [_, height, width] = spec.input;
    if height < 8 || width < 8 {
        bail!(
            "`{}` halves the image three times: at least 8x8, got {height}x{width}",
            spec.architecture
        )
    }
    Ok(())
}

#[cfg(test)]
mod tests;
