//! The inverted residual block as MobileNetV3 and the EfficientNets have it.

use candle_core::{Result, Tensor};
use candle_vision_ops::add;

use crate::Pass;
use crate::layers::{ConvNorm, SqueezeExcitation, StochasticDepth};

/// Expands the channels, filters each of them, weights them and projects them. The networks differ in the parts that
/// a block has, and in their names.
pub(super) struct InvertedResidual {
    pub(super) path: String,
    /// The expansion and the depthwise convolution, or one convolution in their place.
    pub(super) filters: Vec<ConvNorm>,
    pub(super) squeeze_excitation: Option<SqueezeExcitation>,
    /// The convolution without an activation.
    pub(super) project: Option<ConvNorm>,
    pub(super) shortcut: Shortcut,
}

/// How a block's input reaches its output.
pub(super) enum Shortcut {
    /// Not at all: the block changes the shape.
    None,
    /// It is added.
    Sum,
    /// It is added to the branch, which training leaves out at random.
    StochasticDepth(StochasticDepth),
}

impl Shortcut {
    /// Whether nothing stands between the branch's last layer and the sum in this pass.
    fn may_be_fused(&self, pass: &Pass<'_>) -> bool {
        match self {
            Self::None => false,
            Self::Sum => true,
            Self::StochasticDepth(depth) => !depth.stands_alone(pass),
        }
    }

    fn add(&self, branch: Tensor, x: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        match self {
            Self::None => Ok(branch),
            Self::Sum => add(&branch, x),
            Self::StochasticDepth(depth) => add(&depth.forward(&branch, pass)?, x),
        }
    }
}

impl InvertedResidual {
    pub(super) fn forward(&self, x: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        let x = &pass.input(&self.path, x)?;
        let mut y = x.clone();
        for filter in &self.filters {
            y = filter.forward(&y, pass)?;
        }
        if let Some(squeeze_excitation) = &self.squeeze_excitation {
            y = squeeze_excitation.forward(&y, pass)?;
        }
        let y = match &self.project {
            Some(project) if self.shortcut.may_be_fused(pass) => {
                project.forward_residual(&y, x, pass)?
            }
            Some(project) => self.shortcut.add(project.forward(&y, pass)?, x, pass)?,
            None => self.shortcut.add(y, x, pass)?,
        };
        pass.output(&self.path, y)
    }
}
