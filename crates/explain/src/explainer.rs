//! Explanations by one network, one batch after the other.

use std::cell::RefCell;
use std::sync::{Mutex, PoisonError};

use candle_core::Tensor;
use candle_vision_models::Model;
use candle_vision_ops::{
    Captured, Repetition, Turn, backward_from, channels_last, one_hot_largest,
};
use candle_vision_registry::as_reason;

use crate::cam::{Seen, Weights, maps_by_weights, over_channels, smoothed};
use crate::map::from_coarse;
use crate::target::Question;
use crate::{CamOptions, ClassActivationMap, Method, Result, Target};

/// Number of plain explanations of the same form before one is captured. They load kernels and choose algorithms.
const PLAIN_RUNS: usize = 2;

/// Largest number of graphs. Each has memory of its own, and the one that was used longest ago goes first.
const MOST_GRAPHS: usize = 12;

/// Explains images by one network, one batch after the other.
///
/// On a CUDA device, methods with one forward and one backward pass (Grad-CAM, Grad-CAM++, XGrad-CAM, HiResCAM, LayerCAM)
/// repeat both passes and the map from a graph, after two batches of the same shape: asking a card for a hundred small
/// pieces of work takes longer than most of them take. The classes in question may differ each time. The maps are the same,
/// bit for bit. A batch with fewer images, such as the last one, is explained without a graph. A graph has memory of its own
/// for the feature maps of one batch. [`set_cuda_graphs`](candle_vision_ops::set_cuda_graphs) switches this off.
///
/// On other devices, and by other methods, it does what [`Method::maps`] does. The network's weights may change in place
/// between calls. Several threads may share an explainer.
///
/// # Example
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use candle_vision_explain::{CamOptions, Explainer, Method};
/// use candle_vision_models::{ModelSpec, build};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let model = build(&ModelSpec::new("gap_cnn", 2), 0, &Device::Cpu)?;
/// let explainer = Explainer::new(&model);
/// for _ in 0..3 {
///     let image = Tensor::ones((1, 3, 32, 32), DType::F32, &Device::Cpu)?;
///     let maps = explainer.maps(&Method::GRAD_CAM, &image, &CamOptions::default())?;
///     assert_eq!(maps[0].map.len(), 32 * 32);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Explainer<M> {
    // What was captured reads the network, so it is dropped before it.
    graphs: Mutex<Graphs>,
    model: M,
}

#[derive(Debug, Default)]
struct Graphs {
    /// What was used last comes first.
    known: Vec<(Kind, Repetition<CapturedMaps>)>,
    /// Why maps are not captured, until it was reported.
    reason: Option<String>,
    has_reported: bool,
}

/// What a graph is made for, besides the form of the images.
#[derive(Debug, Clone, PartialEq)]
struct Kind {
    method: String,
    layer: Option<String>,
    /// Whether the device finds the class of each image.
    predicted: bool,
}

impl<M: Model> Explainer<M> {
    /// Explanations by `model`.
    pub fn new(model: M) -> Self {
        Self { graphs: Mutex::default(), model }
    }

    /// The network.
    pub fn model(&self) -> &M {
        &self.model
    }

    /// The maps of a batch of images by `method`, one for each image.
    ///
    /// # Shapes
    /// Those of [`grad_cam`](crate::grad_cam).
    ///
    /// # Errors
    /// Those of [`Method::maps`].
    pub fn maps(
        &self,
        method: &Method,
        images: &Tensor,
        options: &CamOptions,
    ) -> Result<Vec<ClassActivationMap>> {
        let weights = method.weights().filter(|_| images.device().is_cuda());
        let Some(weights) = weights else {
            return method.maps(&self.model, images, options);
        };
        // Another thread may not launch the graph before its results are read.
        let mut graphs = self.graphs.lock().unwrap_or_else(PoisonError::into_inner);
        let graphs = RefCell::new(&mut *graphs);
        smoothed(images, options, |images, target| {
            let work = Work { model: &self.model, images, target, options, weights };
            if let Some(maps) = graphs.borrow_mut().maps(method, &work)? {
                return Ok(maps);
            }
            let plain = CamOptions { target: target.clone(), aug_smooth: false, ..options.clone() };
            maps_by_weights(&self.model, images, &plain, weights)
        })
    }

    /// Whether a graph makes the maps of `method` for batches like the last one.
    pub fn is_captured(&self, method: &Method) -> bool {
        let graphs = self.graphs.lock().unwrap_or_else(PoisonError::into_inner);
        graphs.known.iter().any(|(kind, of)| kind.method == method.name() && of.is_captured())
    }

    /// Why maps are not made by a graph, although the method and the device allow it. It is told once.
    pub fn take_reason(&self) -> Option<String> {
        let mut graphs = self.graphs.lock().unwrap_or_else(PoisonError::into_inner);
        let reason = graphs.reason.take();
        graphs.has_reported |= reason.is_some();
        reason
    }
}

/// A batch of images to be explained by a method with weights.
struct Work<'a> {
    model: &'a dyn Model,
    images: &'a Tensor,
    target: &'a Target,
    options: &'a CamOptions,
    weights: Weights,
}

impl Graphs {
    /// The maps, if a graph makes them this time.
    fn maps(
        &mut self,
        method: &Method,
        work: &Work<'_>,
    ) -> Result<Option<Vec<ClassActivationMap>>> {
        let question = Question::new(work.model, work.images, work.target)?;
        let kind = Kind {
            method: method.name().to_owned(),
            layer: work.options.layer.clone(),
            predicted: matches!(work.target, Target::Predicted),
        };
        // Whatever an error was, plain passes may do without it. Otherwise they have the same error.
        let (found, error) = match self.of(kind).turn(work.images) {
            Turn::Plain => return Ok(None),
            Turn::Capture => match work.obstacle() {
                Some(obstacle) => (None, obstacle.to_owned()),
                None => match CapturedMaps::new(work, &question) {
                    Ok(captured) => (Some(captured), String::new()),
                    Err(error) => (None, as_reason(&error)),
                },
            },
            Turn::Repeat(captured) => match captured.repeat(work) {
                Ok(()) => return captured.maps(work, &question).map(Some),
                Err(error) => (None, as_reason(&error)),
            },
        };
        let Some((_, repetition)) = self.known.first_mut() else { return Ok(None) };
        let Some(captured) = found else {
            repetition.refuse();
            if !self.has_reported {
                self.reason.get_or_insert(error);
            }
            return Ok(None);
        };
        let maps = captured.maps(work, &question);
        repetition.keep(work.images, captured);
        maps.map(Some)
    }

    /// Brings the repetition of this kind to the front.
    fn of(&mut self, kind: Kind) -> &mut Repetition<CapturedMaps> {
        let place = self.known.iter().position(|(known, _)| *known == kind);
        let entry = match place {
            Some(place) => self.known.remove(place),
            None => (kind, Repetition::after(PLAIN_RUNS)),
        };
        self.known.truncate(MOST_GRAPHS - 1);
        self.known.insert(0, entry);
        &mut self.known[0].1
    }
}

impl Work<'_> {
    /// Why it cannot be captured.
    fn obstacle(&self) -> Option<&'static str> {
        match self.target {
            _ if self.options.eigen_smooth => Some("eigen-smoothing computes on the host"),
            Target::Similarity(_) => Some("the similarity of embeddings is asked for"),
            _ => None,
        }
    }

    /// The weight of each logit in the score, unless the device finds the class of each image.
    fn shares(&self) -> Option<Vec<f32>> {
        let num_classes = self.model.spec().num_classes;
        let count = self.images.dims().first().copied().unwrap_or_default();
        let all_of = |class: usize| self.target.shares(vec![class; count].into_iter(), num_classes);
        match self.target {
            Target::Predicted | Target::Similarity(_) => None,
            Target::Class(class) | Target::Difference { class, .. } => Some(all_of(*class)),
            Target::Classes(classes) => {
                Some(self.target.shares(classes.iter().copied(), num_classes))
            }
        }
    }
}

/// Both passes and the coarse map of a batch in a graph, with the tensors that it reads and writes.
#[derive(Debug)]
struct CapturedMaps {
    // The results lie in the graph's memory, so they are dropped before it.
    results: Results,
    work: Captured,
    /// `[batch, height, width, channels]`.
    images: Tensor,
    /// The weight of each logit in the score, `[batch, num_classes]`, and its values.
    shares: Option<(Tensor, Vec<f32>)>,
}

#[derive(Debug)]
struct Results {
    /// `[batch, num_classes]`
    logits: Tensor,
    /// `[batch, height, width]`
    coarse: Tensor,
    layer: String,
}

impl CapturedMaps {
    /// Captures the work and launches it.
    fn new(work: &Work<'_>, question: &Question<'_>) -> Result<Self> {
        let device = work.images.device();
        let images = channels_last(work.images)?.copy()?;
        let shares = work.shares().map(|values| -> Result<_> {
            let classes = work.model.spec().num_classes;
            let shape = (values.len() / classes.max(1), classes);
            Ok((Tensor::from_slice(&values, shape, device)?, values))
        });
        let shares = shares.transpose()?;
        let given = shares.as_ref().map(|(shares, _)| shares);
        if given.is_none() {
            // Plain explanations find the class on the host, so they have not loaded this kernel.
            one_hot_largest(&Tensor::zeros((1, 1), images.dtype(), device)?)?;
        }
        let (results, captured) =
            Captured::new(device, || results(work, question, &images, given))?;
        Ok(Self { results, work: captured, images, shares })
    }

    /// Launches the graph for other images.
    fn repeat(&mut self, work: &Work<'_>) -> Result<()> {
        self.images.slice_set(&channels_last(work.images)?, 0, 0)?;
        if let (Some((place, before)), Some(values)) = (&mut self.shares, work.shares())
            && *before != values
        {
            place.slice_set(&Tensor::from_slice(&values, place.shape(), place.device())?, 0, 0)?;
            *before = values;
        }
        Ok(self.work.launch()?)
    }

    /// The maps of the last launch.
    fn maps(&self, work: &Work<'_>, question: &Question<'_>) -> Result<Vec<ClassActivationMap>> {
        let Results { logits, coarse, layer } = &self.results;
        let answers = question.answers(logits)?;
        let (_, _, height, width) = work.images.dims4()?;
        from_coarse(coarse, &answers, [height, width], layer)
    }
}

/// What a plain explanation does, with the classes on the device.
fn results(
    work: &Work<'_>,
    question: &Question<'_>,
    images: &Tensor,
    shares: Option<&Tensor>,
) -> Result<Results> {
    let images = images.permute((0, 3, 1, 2))?;
    let seen = Seen::of(question, &images, work.options.layer.as_deref())?;
    let logits = &seen.response.logits;
    let shares = match shares {
        Some(shares) => shares.to_dtype(logits.dtype())?,
        None => one_hot_largest(logits)?,
    };
    let gradients = backward_from(logits, &shares)?;
    let coarse = over_channels(&seen.weighted_by(work.weights, &gradients)?)?;
    Ok(Results { logits: logits.detach().contiguous()?, coarse, layer: seen.layer })
}
