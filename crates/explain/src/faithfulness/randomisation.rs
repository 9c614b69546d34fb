//! The sanity check by weight randomisation (Adebayo et al. 2018,
//! <https://arxiv.org/abs/1810.03292>).

use candle_core::Tensor;
use candle_vision_models::{Model, Parameter};

use crate::{CamOptions, ClassActivationMap, Error, Explainer, Method, Result, Target};

/// How similar a map is to the original after the upper layers have lost their learned weights.
#[derive(Debug, Clone, PartialEq)]
pub struct Randomised {
    /// How many layers have initial weights, counted from the head down.
    pub layers: usize,
    /// The path of the lowest of these layers.
    pub down_to: String,
    /// The [`rank_correlation`] of this map with the map of the trained network, in `-1.0..=1.0`. It is near 0
    /// for a method that shows the network's reasons, and near 1 for a method that shows the image's edges.
    pub correlation: f64,
}

/// Replaces the learned weights of the network by initial ones, from the head down, and compares the maps with
/// that of the trained network. There is one result for the head alone, one for each further third of the
/// layers, and one for all layers.
///
/// `untrained` is a network of the same form with initial weights. Its weights are changed: the check copies
/// the learned weights of the remaining layers into it.
///
/// # Shapes
/// - `image`: `[1, channels, height, width]`, preprocessed as in training
///
/// # Errors
/// If `untrained` lacks a parameter of `model`, has another shape of it or shares it, if `image` is not a batch
/// of one, or as [`Method::maps`].
///
/// # Example
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use candle_vision_explain::{CamOptions, Method, faithfulness};
/// use candle_vision_models::{ModelSpec, build};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let model = build(&ModelSpec::new("gap_cnn", 2), 0, &Device::Cpu)?;
/// let image = Tensor::ones((1, 3, 32, 32), DType::F32, &Device::Cpu)?;
/// let options = CamOptions::default();
/// let untrained = build(model.spec(), 1, &Device::Cpu)?;
/// let check =
///     faithfulness::weight_randomisation(&*model, &*untrained, &image, &Method::GRAD_CAM, &options)?;
/// assert_eq!(check[0].down_to, "fc");
/// assert_eq!(check.last().unwrap().down_to, "conv1");
/// # Ok(())
/// # }
/// ```
pub fn weight_randomisation(
    model: &dyn Model,
    untrained: &dyn Model,
    image: &Tensor,
    method: &Method,
    options: &CamOptions,
) -> Result<Vec<Randomised>> {
    if image.dims().first() != Some(&1) {
        return Err(Error::ImageShape { shape: image.dims().to_vec() });
    }
    let trained = one(method.maps(model, image, options)?);
    // The randomised network would predict another class.
    let target = match &options.target {
        Target::Predicted => Target::Class(trained.class),
        other => other.clone(),
    };
    let options = CamOptions { target, ..options.clone() };
    check_twin(model, untrained)?;
    let layers = layers_from_the_head(model);
    let mut checks = Vec::new();
    let explainer = Explainer::new(untrained);
    // The copy starts with all layers initial and ends with only the head initial. The learned weights of the
    // other layers are copied back in between.
    for count in stages(layers.len()) {
        let (forgotten, kept) = layers.split_at(count);
        for parameter in kept.iter().flat_map(|(_, parameters)| parameters) {
            if let Some(own) = untrained.parameters().get(parameter.path()) {
                own.set(&parameter.detached())?;
            }
        }
        let map = one(explainer.maps(method, image, &options)?);
        checks.push(Randomised {
            layers: count,
            down_to: forgotten.last().map(|(layer, _)| layer.clone()).unwrap_or_default(),
            correlation: rank_correlation(&trained.map, &map.map),
        });
    }
    checks.reverse();
    Ok(checks)
}

/// Fails unless `untrained` has the parameters of `model` as its own variables.
fn check_twin(model: &dyn Model, untrained: &dyn Model) -> Result<()> {
    for parameter in model.parameters().all() {
        let path = parameter.path();
        let problem = match untrained.parameters().get(path) {
            None => "is missing",
            Some(twin) if twin.var().id() == parameter.var().id() => "is the network's own",
            Some(twin) if twin.var().dims() != parameter.var().dims() => "has another shape",
            Some(_) => continue,
        };
        return Err(Error::NoTwin { parameter: path.to_owned(), problem });
    }
    Ok(())
}

/// The numbers of randomised layers, the largest first: all, two thirds, one third, the head alone.
fn stages(layers: usize) -> Vec<usize> {
    let mut stages = vec![layers, 2 * layers / 3, layers / 3, 1];
    stages.retain(|stage| (1..=layers).contains(stage));
    stages.dedup();
    stages
}

fn one(maps: Vec<ClassActivationMap>) -> ClassActivationMap {
    maps.into_iter().next().expect("one image has one map")
}

/// The layers with parameters, the head first. Each has its parameters and buffers.
fn layers_from_the_head(model: &dyn Model) -> Vec<(String, Vec<Parameter>)> {
    let mut layers: Vec<(String, Vec<Parameter>)> = Vec::new();
    for parameter in model.parameters().all() {
        let path = parameter.path();
        let layer = path.rsplit_once('.').map_or(path, |(layer, _)| layer).to_owned();
        match layers.last_mut() {
            Some((last, parameters)) if *last == layer => parameters.push(parameter),
            _ => layers.push((layer, vec![parameter])),
        }
    }
    layers.reverse();
    layers
}

/// Spearman's rank correlation of two maps, in `-1.0..=1.0`. Equal values share their mean rank. A constant map
/// has no ranks, so its correlation is 0.
///
/// ```
/// use candle_vision_explain::faithfulness::rank_correlation;
///
/// assert_eq!(rank_correlation(&[0.1, 0.2, 0.7], &[1.0, 2.0, 3.0]), 1.0);
/// assert_eq!(rank_correlation(&[0.1, 0.2, 0.7], &[5.0, 5.0, 5.0]), 0.0);
/// ```
pub fn rank_correlation(a: &[f32], b: &[f32]) -> f64 {
    let (a, b) = (centred_ranks(a), centred_ranks(b));
    let product = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let length = (product(&a, &a) * product(&b, &b)).sqrt();
    if length > 0.0 { product(&a, &b) / length } else { 0.0 }
}

/// The rank of each value, minus the mean of all ranks.
fn centred_ranks(values: &[f32]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| values[*a].total_cmp(&values[*b]));
    let mut ranks = vec![0.0; values.len()];
    let mut start = 0;
    for equal in order.chunk_by(|a, b| values[*a] == values[*b]) {
        let rank = start as f64 + (equal.len() - 1) as f64 / 2.0;
        equal.iter().for_each(|place| ranks[*place] = rank);
        start += equal.len();
    }
    let mean = (values.len() as f64 - 1.0) / 2.0;
    ranks.iter_mut().for_each(|rank| *rank -= mean);
    ranks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_count_and_not_distances() {
        assert_eq!(rank_correlation(&[1.0, 2.0, 3.0, 100.0], &[0.1, 0.2, 0.21, 0.3]), 1.0);
        assert_eq!(rank_correlation(&[1.0, 2.0, 3.0], &[3.0, 2.0, 1.0]), -1.0);
        // scipy.stats.spearmanr([1, 2, 2, 4], [1, 3, 2, 2])
        let found = rank_correlation(&[1.0, 2.0, 2.0, 4.0], &[1.0, 3.0, 2.0, 2.0]);
        assert!((found - 0.5).abs() < 1e-12, "{found}");
    }

    #[test]
    fn stages_go_from_everything_to_the_head() {
        assert_eq!(stages(9), [9, 6, 3, 1]);
        assert_eq!(stages(2), [2, 1]);
        assert_eq!(stages(1), [1]);
    }
}
