//! Explanation methods by name.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use candle_core::Tensor;
use candle_vision_models::Model;
use candle_vision_registry::{Entry, Table, TableError};

use crate::cam::{Weights, maps_by_weights};
use crate::{CamOptions, ClassActivationMap, Error, Result, Target};

/// An explanation method that is more than a function, for instance one with its own settings.
pub trait Explain: Send + Sync {
    /// The maps of a batch of images, one for each image.
    ///
    /// # Shapes
    /// Those of [`grad_cam`](crate::grad_cam).
    ///
    /// # Errors
    /// If the images do not fit the network, or if the method cannot be used with it.
    fn maps(
        &self,
        model: &dyn Model,
        images: &Tensor,
        options: &CamOptions,
    ) -> Result<Vec<ClassActivationMap>>;
}

/// An explanation method: its name, a one-line summary, and the function that makes the maps.
///
/// The built-in methods are constants such as [`Method::GRAD_CAM`]. [`Method::new`] makes your own method,
/// which can be used wherever a built-in one can.
///
/// ```
/// use candle_vision_explain::{Method, Methods};
///
/// let methods = Methods::standard();
/// assert_eq!(methods.get("Grad-CAM++")?, &Method::GRAD_CAM_PLUS_PLUS);
/// assert_eq!(Method::INTEGRATED_GRADIENTS.to_string(), "integrated-gradients");
/// let error = methods.get("gradcma").unwrap_err().to_string();
/// assert!(error.contains("did you mean `gradcam`"), "{error}");
/// # Ok::<(), candle_vision_explain::Error>(())
/// ```
#[derive(Clone)]
pub struct Method {
    name: Cow<'static, str>,
    summary: Cow<'static, str>,
    how: How,
}

#[derive(Clone)]
enum How {
    Weighted(Weights),
    Cam(Cam),
    Pixels(Pixels),
    Own(Arc<dyn Explain>),
}

/// A method that looks at a layer.
type Cam = fn(&dyn Model, &Tensor, &CamOptions) -> Result<Vec<ClassActivationMap>>;
/// A method that looks at the pixels.
type Pixels = fn(&dyn Model, &Tensor, &Target) -> Result<Vec<ClassActivationMap>>;

impl Method {
    /// Makes your own method. `name` is the name in recipes and on command lines. `summary` is one line for
    /// people who choose a method.
    pub fn new(
        name: impl Into<String>,
        summary: impl Into<String>,
        explain: impl Explain + 'static,
    ) -> Self {
        let (name, summary) = (Cow::Owned(name.into()), Cow::Owned(summary.into()));
        Self { name, summary, how: How::Own(Arc::new(explain)) }
    }

    /// A built-in method that weights the activations of a layer by what it makes of their gradients.
    pub(crate) const fn weighted(
        name: &'static str,
        summary: &'static str,
        weights: Weights,
    ) -> Self {
        let how = How::Weighted(weights);
        Self { name: Cow::Borrowed(name), summary: Cow::Borrowed(summary), how }
    }

    /// Another built-in method that looks at a layer.
    pub(crate) const fn cam(name: &'static str, summary: &'static str, maps: Cam) -> Self {
        Self { name: Cow::Borrowed(name), summary: Cow::Borrowed(summary), how: How::Cam(maps) }
    }

    /// A built-in method that looks at the pixels.
    pub(crate) const fn pixels(name: &'static str, summary: &'static str, maps: Pixels) -> Self {
        Self { name: Cow::Borrowed(name), summary: Cow::Borrowed(summary), how: How::Pixels(maps) }
    }

    /// The name, as [`Methods::get`] takes it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The one-line summary.
    pub fn summary(&self) -> &str {
        &self.summary
    }

    /// Whether the method takes a layer and smoothing from [`CamOptions`]. A method that looks at the pixels
    /// takes neither. Your own method gets all options and decides by itself.
    pub fn takes_layer(&self) -> bool {
        !matches!(self.how, How::Pixels(_))
    }

    /// The maps of a batch of images by this method, one for each image.
    ///
    /// # Shapes
    /// Those of [`grad_cam`](crate::grad_cam).
    ///
    /// # Errors
    /// Those of the method. For a method that looks at the pixels, also if the options ask for a layer or
    /// smoothing.
    pub fn maps(
        &self,
        model: &dyn Model,
        images: &Tensor,
        options: &CamOptions,
    ) -> Result<Vec<ClassActivationMap>> {
        match &self.how {
            How::Weighted(weights) => maps_by_weights(model, images, options, *weights),
            How::Cam(cam) => cam(model, images, options),
            How::Own(explain) => explain.maps(model, images, options),
            How::Pixels(maps) => {
                self.check_pixels(options)?;
                maps(model, images, &options.target)
            }
        }
    }

    /// The weights of a method with one forward and one backward pass.
    pub(crate) fn weights(&self) -> Option<Weights> {
        match self.how {
            How::Weighted(weights) => Some(weights),
            _ => None,
        }
    }

    fn check_pixels(&self, options: &CamOptions) -> Result<()> {
        let given = [
            (options.layer.is_some(), "a layer"),
            (options.eigen_smooth, "eigen-smoothing"),
            (options.aug_smooth, "smoothing over augmentations"),
        ];
        match given.into_iter().find(|(given, _)| *given) {
            Some((_, option)) => Err(Error::OnlyForCams { method: self.name().to_owned(), option }),
            None => Ok(()),
        }
    }
}

impl Entry for Method {
    fn name(&self) -> &str {
        self.name()
    }

    fn summary(&self) -> &str {
        self.summary()
    }
}

/// Two methods are equal if their names are equal, because a table holds at most one method of each name.
impl PartialEq for Method {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Method {}

impl fmt::Debug for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Method").field(&self.name).finish()
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Finds a built-in method by name, as [`Methods::get`] does.
impl FromStr for Method {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Methods::standard().get(name).cloned()
    }
}

/// The methods that a program offers, by name.
#[derive(Debug, Clone)]
pub struct Methods(Table<Method>);

impl Methods {
    /// The built-in methods: first those that look at a layer, then those that look at the pixels.
    pub fn standard() -> Self {
        Self(Table::of(
            "explanation method",
            [
                Method::GRAD_CAM,
                Method::GRAD_CAM_PLUS_PLUS,
                Method::XGRAD_CAM,
                Method::HIRES_CAM,
                Method::LAYER_CAM,
                Method::EIGEN_CAM,
                Method::EIGEN_GRAD_CAM,
                Method::SCORE_CAM,
                Method::ABLATION_CAM,
                Method::SALIENCY,
                Method::INPUT_X_GRADIENT,
                Method::GUIDED_BACKPROP,
                Method::SMOOTH_GRAD,
                Method::INTEGRATED_GRADIENTS,
                Method::OCCLUSION,
                Method::FULL_GRAD,
            ],
        ))
    }

    /// Adds a method.
    ///
    /// # Errors
    /// If there is already a method of this name.
    pub fn add(&mut self, method: Method) -> std::result::Result<&mut Self, TableError> {
        self.0.add(method)?;
        Ok(self)
    }

    /// The method called `name`. Hyphens, underscores, spaces and capital letters do not matter.
    ///
    /// # Errors
    /// If there is none. The message suggests near names.
    pub fn get(&self, name: &str) -> Result<&Method> {
        let plain = |name: &str| name.to_lowercase().replace(['-', '_', ' '], "");
        let wanted = plain(name).replace("plusplus", "++");
        match self.0.iter().find(|method| plain(method.name()) == wanted) {
            Some(method) => Ok(method),
            None => Ok(self.0.get(name)?),
        }
    }

    /// The methods, in the order in which they were added.
    pub fn iter(&self) -> std::slice::Iter<'_, Method> {
        self.0.iter()
    }

    /// The names of the methods, in the order in which they were added.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.names()
    }

    /// The methods as a table.
    pub fn table(&self) -> &Table<Method> {
        &self.0
    }
}

impl<'a> IntoIterator for &'a Methods {
    type Item = &'a Method;
    type IntoIter = std::slice::Iter<'a, Method>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_leads_back_to_its_method() {
        let methods = Methods::standard();
        for method in &methods {
            assert_eq!(method.name().parse::<Method>().ok().as_ref(), Some(method));
            assert!(method.summary().len() > 20, "{method}");
        }
        for (name, method) in [
            ("Grad_CAM", Method::GRAD_CAM),
            ("GradCAMPlusPlus", Method::GRAD_CAM_PLUS_PLUS),
            ("guided backprop", Method::GUIDED_BACKPROP),
        ] {
            assert_eq!(methods.get(name).ok(), Some(&method));
        }
    }

    #[test]
    fn a_method_of_one_s_own_is_added_once() {
        struct Nothing;
        impl Explain for Nothing {
            fn maps(
                &self,
                _: &dyn Model,
                _: &Tensor,
                _: &CamOptions,
            ) -> Result<Vec<ClassActivationMap>> {
                Ok(Vec::new())
            }
        }
        let mut methods = Methods::standard();
        methods.add(Method::new("nothing", "an empty answer", Nothing)).unwrap();
        assert_eq!(methods.get("Nothing").unwrap().name(), "nothing");
        let error = methods.add(Method::new("gradcam", "another", Nothing)).unwrap_err();
        assert!(error.to_string().contains("two entries `gradcam`"), "{error}");
    }
}
