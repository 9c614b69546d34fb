//! Class activation maps: the part that all methods share.
//!
//! A method receives the output of one layer and the gradient of the score at that layer. It returns the
//! contribution of each place of each channel. Every other step is in this module.

mod ablation_cam;
mod augment;
mod eigen_cam;
mod evidence;
mod grad_cam;
mod grad_cam_plus_plus;
mod hires_cam;
mod layer_cam;
mod principal;
mod score_cam;
mod xgrad_cam;

pub use ablation_cam::ablation_cam;
pub use eigen_cam::{eigen_cam, eigen_grad_cam};
pub use grad_cam::grad_cam;
pub use grad_cam_plus_plus::grad_cam_plus_plus;
pub use hires_cam::hires_cam;
pub use layer_cam::layer_cam;
pub use score_cam::score_cam;
pub use xgrad_cam::xgrad_cam;

use candle_core::Tensor;
use candle_vision_models::Model;
use candle_vision_ops::{channels_last, sum};

use crate::map::from_coarse;
use crate::{ClassActivationMap, Result, Target};
use evidence::Evidence;
pub(crate) use evidence::{Seen, Weights};
use principal::principal_projection;

/// Which layer and which target a map is about, and how the map is smoothed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CamOptions {
    /// The path of the layer to look at. By default it is the layer that the network names
    /// ([`Model::cam_layer`]).
    pub layer: Option<String>,
    /// The question that the map answers, for instance which class it is about.
    pub target: Target,
    /// Replaces the sum of the channels' contributions by their first principal component. This removes much of
    /// the noise.
    pub eigen_smooth: bool,
    /// Averages the maps of six variants of each image: mirrored or not, with values times 0.9, 1 and 1.1. This
    /// costs six times as much. The peak of the mean is below 1 where the variants disagree.
    pub aug_smooth: bool,
}

/// Computes the maps of a batch by one method. `contributions` turns the evidence into the contribution of each
/// place of each channel, `[batch, channels, height, width]`.
fn maps_by(
    model: &dyn Model,
    images: &Tensor,
    options: &CamOptions,
    contributions: impl Fn(&Evidence<'_>) -> Result<Tensor>,
) -> Result<Vec<ClassActivationMap>> {
    smoothed(images, options, |images, target| {
        let evidence = Evidence::gather(model, images, options.layer.as_deref(), target)?;
        let contributions = contributions(&evidence)?;
        let coarse = if options.eigen_smooth {
            principal_projection(&contributions)?
        } else {
            over_channels(&contributions)?
        };
        let (_, _, height, width) = images.dims4()?;
        from_coarse(&coarse, &evidence.asked.answers, [height, width], evidence.layer())
    })
}

/// The same by a method that weights activations by what it makes of their gradients.
pub(crate) fn maps_by_weights(
    model: &dyn Model,
    images: &Tensor,
    options: &CamOptions,
    weights: Weights,
) -> Result<Vec<ClassActivationMap>> {
    maps_by(model, images, options, |evidence| evidence.weighted_by(weights))
}

/// The sum of contributions, `[batch, channels, height, width]`, over the channels.
pub(crate) fn over_channels(contributions: &Tensor) -> Result<Tensor> {
    Ok(sum(&channels_last(contributions)?, &[3], false)?)
}

/// The maps that `once` makes of a batch, averaged over augmentations if that is asked for.
pub(crate) fn smoothed(
    images: &Tensor,
    options: &CamOptions,
    once: impl Fn(&Tensor, &Target) -> Result<Vec<ClassActivationMap>>,
) -> Result<Vec<ClassActivationMap>> {
    let maps = once(images, &options.target)?;
    if options.aug_smooth { augment::smooth(images, &options.target, maps, once) } else { Ok(maps) }
}
