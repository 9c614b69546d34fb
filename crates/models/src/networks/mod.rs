//! The networks by name.

mod alexnet;
mod gap_cnn;
mod mlp;
mod mobilenet_v2;
mod residual;
mod resnet;
mod resnet9;
mod simple_cnn;

pub use alexnet::AlexNet;
pub use gap_cnn::GapCnn;
pub use mlp::Mlp;
pub use mobilenet_v2::MobileNetV2;
pub use resnet::ResNet;
pub use resnet9::ResNet9;
pub use simple_cnn::SimpleCnn;

use candle_core::{DType, Device, Result, bail};
use residual::Shape;

use crate::similar::did_you_mean;
use crate::{Model, ModelSpec, Parameters};

/// Every architecture that [`build`] knows: its name and what it is.
pub const ARCHITECTURES: &[(&str, &str)] = &[
    ("mlp", "one hidden layer of 128 units on the flattened image"),
    ("simple_cnn", "three 3x3 convolutions with pooling, two linear layers; for 32x32 images"),
    ("gap_cnn", "three convolutions, global average pooling; for images of any size"),
    ("gap_cnn_deep", "32-64-128 channels with batch norm, global average pooling, dropout 0.5"),
    ("resnet9", "Page 2018, with a whitening first layer; for 32x32 images"),
    ("resnet18", "He et al. 2015, 18 layers"),
    ("resnet34", "He et al. 2015, 34 layers"),
    ("resnet50", "He et al. 2015, 50 layers, bottleneck blocks"),
    ("resnext50_32x4d", "Xie et al. 2016, 50 layers, 32 groups"),
    ("wide_resnet50_2", "Zagoruyko and Komodakis 2016, 50 layers, twice as wide"),
    ("mobilenet_v2", "Sandler et al. 2018, inverted residuals"),
    ("alexnet", "Krizhevsky 2014, torchvision's form"),
    ("alexnet_32", "AlexNet for 32x32 images: a 3x3 stem and 2x2 pools"),
];

/// The names nearest to an unknown one; all names if none is near.
fn near_or_all(unknown: &str) -> String {
    let names = || ARCHITECTURES.iter().map(|(name, _)| *name);
    let near = did_you_mean(unknown, names());
    if near.is_empty() {
        format!("; known: {}", names().collect::<Vec<_>>().join(", "))
    } else {
        near
    }
}

/// Fails if an image does not survive three halvings.
fn require_three_halvings(spec: &ModelSpec) -> Result<()> {
    let [_, height, width] = spec.input;
    if height < 8 || width < 8 {
        bail!(
            "`{}` halves the image three times: at least 8x8, got {height}x{width}",
            spec.architecture
        )
    }
    Ok(())
}

/// Builds the network that `spec` names, with initial values drawn from `seed`.
///
/// # Errors
/// If the architecture is unknown (the message names its neighbours), there are no classes, or the
/// input does not fit it.
pub fn build(spec: &ModelSpec, seed: u64, device: &Device) -> Result<Box<dyn Model>> {
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
    let parameters = Parameters::new();
    let vb = parameters.builder(seed, DType::F32, device);
    let spec = spec.clone();
    Ok(match spec.architecture.as_str() {
        "mlp" => Box::new(Mlp::new(spec, parameters, vb)?),
        "simple_cnn" => Box::new(SimpleCnn::new(spec, parameters, vb)?),
        "gap_cnn" => Box::new(GapCnn::plain(spec, parameters, vb)?),
        "gap_cnn_deep" => Box::new(GapCnn::deep(spec, parameters, vb)?),
        "resnet9" => Box::new(ResNet9::new(spec, parameters, vb)?),
        "resnet18" => Box::new(ResNet::new(spec, Shape::Basic, [2, 2, 2, 2], parameters, vb)?),
        "resnet34" => Box::new(ResNet::new(spec, Shape::Basic, [3, 4, 6, 3], parameters, vb)?),
        "resnet50" => Box::new(ResNet::new(spec, Shape::BOTTLENECK, [3, 4, 6, 3], parameters, vb)?),
        "resnext50_32x4d" => {
            let shape = Shape::Bottleneck { groups: 32, width_per_group: 4 };
            Box::new(ResNet::new(spec, shape, [3, 4, 6, 3], parameters, vb)?)
        }
        "wide_resnet50_2" => {
            let shape = Shape::Bottleneck { groups: 1, width_per_group: 128 };
            Box::new(ResNet::new(spec, shape, [3, 4, 6, 3], parameters, vb)?)
        }
        "mobilenet_v2" => Box::new(MobileNetV2::new(spec, parameters, vb)?),
        "alexnet" => Box::new(AlexNet::imagenet(spec, parameters, vb)?),
        "alexnet_32" => Box::new(AlexNet::cifar(spec, parameters, vb)?),
        unknown => bail!("unknown architecture `{unknown}`{}", near_or_all(unknown)),
    })
}
