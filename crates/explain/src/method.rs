//! Every method under one name.

use std::fmt;
use std::str::FromStr;

use candle_core::Tensor;
use candle_vision_models::Model;

use crate::pixels::Attributions;
use crate::{
    CamOptions, ClassActivationMap, Error, IntegratedGradients, Occlusion, Result, SmoothGrad,
    Target, ablation_cam, eigen_cam, eigen_grad_cam, grad_cam, grad_cam_plus_plus, guided_backprop,
    hires_cam, input_x_gradient, integrated_gradients, layer_cam, occlusion, saliency, score_cam,
    smooth_grad, xgrad_cam,
};

/// A way to explain, by name.
///
/// ```
/// use candle_vision_explain::Method;
///
/// assert_eq!("Grad-CAM++".parse::<Method>()?, Method::GradCamPlusPlus);
/// assert_eq!(Method::IntegratedGradients.to_string(), "integrated-gradients");
/// assert!("gradcma".parse::<Method>().is_err());
/// # Ok::<(), candle_vision_explain::Error>(())
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Method {
    /// [`grad_cam`]
    #[default]
    GradCam,
    /// [`grad_cam_plus_plus`]
    GradCamPlusPlus,
    /// [`xgrad_cam`]
    XGradCam,
    /// [`hires_cam`]
    HiResCam,
    /// [`layer_cam`]
    LayerCam,
    /// [`eigen_cam`]
    EigenCam,
    /// [`eigen_grad_cam`]
    EigenGradCam,
    /// [`score_cam`]
    ScoreCam,
    /// [`ablation_cam`]
    AblationCam,
    /// [`saliency`]
    Saliency,
    /// [`input_x_gradient`]
    InputXGradient,
    /// [`guided_backprop`]
    GuidedBackprop,
    /// [`smooth_grad`] with its default noise
    SmoothGrad,
    /// [`integrated_gradients`] on its default path
    IntegratedGradients,
    /// [`occlusion`] with its default patch
    Occlusion,
}

impl Method {
    /// All of them: first those that look at a layer, then those that look at the pixels.
    pub const ALL: [Self; 15] = [
        Self::GradCam,
        Self::GradCamPlusPlus,
        Self::XGradCam,
        Self::HiResCam,
        Self::LayerCam,
        Self::EigenCam,
        Self::EigenGradCam,
        Self::ScoreCam,
        Self::AblationCam,
        Self::Saliency,
        Self::InputXGradient,
        Self::GuidedBackprop,
        Self::SmoothGrad,
        Self::IntegratedGradients,
        Self::Occlusion,
    ];

    /// The name, as [`str::parse`] takes it. There, hyphens and capitals do not matter.
    pub fn name(self) -> &'static str {
        match self {
            Self::GradCam => "gradcam",
            Self::GradCamPlusPlus => "gradcam++",
            Self::XGradCam => "xgradcam",
            Self::HiResCam => "hirescam",
            Self::LayerCam => "layercam",
            Self::EigenCam => "eigencam",
            Self::EigenGradCam => "eigengradcam",
            Self::ScoreCam => "scorecam",
            Self::AblationCam => "ablationcam",
            Self::Saliency => "saliency",
            Self::InputXGradient => "input-x-gradient",
            Self::GuidedBackprop => "guided-backprop",
            Self::SmoothGrad => "smoothgrad",
            Self::IntegratedGradients => "integrated-gradients",
            Self::Occlusion => "occlusion",
        }
    }

    /// All names, for messages.
    pub(crate) fn names() -> String {
        Self::ALL.map(Self::name).join(", ")
    }

    /// Whether it looks at a layer; if not, at the pixels.
    pub fn is_cam(self) -> bool {
        self.cam().is_some()
    }

    /// The maps of a batch of images by this method.
    ///
    /// # Shapes
    /// As [`grad_cam`].
    ///
    /// # Errors
    /// Those of the method's function. Methods that look at the pixels take no layer and no
    /// smoothing.
    pub fn maps(
        self,
        model: &dyn Model,
        images: &Tensor,
        options: &CamOptions,
    ) -> Result<Vec<ClassActivationMap>> {
        if let Some(cam) = self.cam() {
            return cam(model, images, options);
        }
        let given = [
            (options.layer.is_some(), "a layer"),
            (options.eigen_smooth, "eigen-smoothing"),
            (options.aug_smooth, "smoothing over augmentations"),
        ];
        if let Some((_, option)) = given.into_iter().find(|(given, _)| *given) {
            return Err(Error::OnlyForCams { method: self.name(), option });
        }
        self.attributions(model, images, &options.target)?.maps()
    }

    fn cam(self) -> Option<Cam> {
        Some(match self {
            Self::GradCam => grad_cam,
            Self::GradCamPlusPlus => grad_cam_plus_plus,
            Self::XGradCam => xgrad_cam,
            Self::HiResCam => hires_cam,
            Self::LayerCam => layer_cam,
            Self::EigenCam => eigen_cam,
            Self::EigenGradCam => eigen_grad_cam,
            Self::ScoreCam => score_cam,
            Self::AblationCam => ablation_cam,
            _ => return None,
        })
    }

    fn attributions(
        self,
        model: &dyn Model,
        images: &Tensor,
        target: &Target,
    ) -> Result<Attributions> {
        match self {
            Self::InputXGradient => input_x_gradient(model, images, target),
            Self::GuidedBackprop => guided_backprop(model, images, target),
            Self::SmoothGrad => smooth_grad(model, images, target, &SmoothGrad::default()),
            Self::IntegratedGradients => {
                integrated_gradients(model, images, target, &IntegratedGradients::default())
            }
            Self::Occlusion => occlusion(model, images, target, &Occlusion::default()),
            _ => saliency(model, images, target),
        }
    }
}

type Cam = fn(&dyn Model, &Tensor, &CamOptions) -> Result<Vec<ClassActivationMap>>;

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Method {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let plain = |name: &str| name.to_lowercase().replace(['-', '_', ' '], "");
        let wanted = plain(name).replace("plusplus", "++");
        let method = Self::ALL.into_iter().find(|method| plain(method.name()) == wanted);
        method.ok_or_else(|| Error::UnknownMethod { name: name.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_leads_back_to_its_method() {
        for method in Method::ALL {
            assert_eq!(method.name().parse::<Method>().ok(), Some(method));
        }
        for (name, method) in [
            ("Grad_CAM", Method::GradCam),
            ("GradCAMPlusPlus", Method::GradCamPlusPlus),
            ("guided backprop", Method::GuidedBackprop),
        ] {
            assert_eq!(name.parse::<Method>().ok(), Some(method));
        }
        let error = "gradcma".parse::<Method>().unwrap_err().to_string();
        assert!(error.contains("`gradcma`") && error.contains("gradcam++"), "{error}");
    }
}
