//! Estimates of the memory of a training step.

use candle_core::{DType, Device, Result, Tensor};
use candle_vision_models::layers::{Linear, images_to_features};
use candle_vision_models::memory::{MeasuredGraph, MemoryConfig, MemoryEstimate, estimate};
use candle_vision_models::{
    Model, ModelSpec, ParameterBuilder, ParameterKind, Parameters, Pass, Precision, build,
};
use candle_vision_ops::flatten;

fn network(name: &str, input: [usize; 3]) -> Box<dyn Model> {
    build(&ModelSpec::new(name, 10).input(input), 0, &Device::Cpu).expect("a built-in network")
}

fn of(model: &dyn Model, config: &MemoryConfig) -> MemoryEstimate {
    estimate(model, config).expect("the pass succeeds").expect("it is direct")
}

#[test]
fn every_part_of_an_mlp_is_what_its_layers_have() {
    let model = network("mlp", [1, 28, 28]);
    let parameters = 4 * model.parameters().count();
    let memory = of(&*model, &MemoryConfig::new(100).optimizer_tensors(1).program(7));
    assert_eq!(
        (memory.parameters, memory.gradients, memory.optimizer),
        (parameters, parameters, parameters)
    );
    assert_eq!((memory.images_8_bit, memory.images), (78_400, 4 * 78_400));
    assert_eq!((memory.buffers, memory.averages, memory.workspaces, memory.program), (0, 0, 0, 7));
    let sum: usize = memory.parts().iter().map(|(_, bytes)| bytes).sum();
    assert_eq!(memory.total(), sum);
}

#[test]
fn ranks_share_out_the_optimizers_state() {
    let model = network("mlp", [1, 28, 28]);
    let adam = MemoryConfig::new(100).optimizer_tensors(2);
    let (whole, third) = (of(&*model, &adam), of(&*model, &adam.clone().optimizer_ranks(3)));
    assert_eq!(third.optimizer, whole.optimizer.div_ceil(3));
    assert_eq!(whole.total() - third.total(), whole.optimizer - third.optimizer);
}

#[test]
fn gradients_of_earlier_batches_of_a_step_wait_for_the_last() {
    let model = network("mlp", [1, 28, 28]);
    let config = MemoryConfig::new(100);
    let (one, several) = (of(&*model, &config), of(&*model, &config.clone().accumulates(true)));
    assert_eq!(several.gradients, 2 * one.gradients);
    assert_eq!(several.total() - one.total(), one.gradients);
}

#[test]
fn beside_a_graph_there_is_its_batch_and_the_step_of_a_smaller_one() {
    let model = network("mlp", [1, 28, 28]);
    let at = |batch, captured| of(&*model, &MemoryConfig::new(batch).captured(captured));
    let batch = 4 * 100 * 28 * 28;
    assert_eq!([None, Some(0)].map(|of| at(100, of).beside_graph), [0, batch]);
    let smaller = at(40, None);
    let step = smaller.images + smaller.activations + smaller.backward + smaller.gradients;
    let with_smaller = at(100, Some(40));
    assert_eq!(with_smaller.beside_graph, batch + step);
    assert_eq!(with_smaller.total() - at(100, None).total(), batch + step);
    // A batch of one has none that is smaller.
    assert_eq!(at(1, Some(1)).beside_graph, 4 * 28 * 28);
}

#[test]
fn an_allocator_that_keeps_memory_takes_a_share() {
    let model = network("gap_cnn", [3, 32, 32]);
    let at = |threads| {
        let config = MemoryConfig::new(256).threads(threads).keeping_allocator(true);
        of(&*model, &config)
    };
    let [one, four] = [1, 4].map(at);
    assert!(
        one.allocator > one.backward / 3 && one.allocator < one.backward / 2 + (12 << 20),
        "{one:?}"
    );
    assert!(four.allocator > one.allocator && four.workspaces > one.workspaces, "{four:?}");
    assert_eq!(of(&*model, &MemoryConfig::new(256)).allocator, 0);
}

#[test]
fn activations_lie_on_the_line_through_two_images() {
    let model = network("resnet18", [3, 64, 64]);
    let at = |batch| of(&*model, &MemoryConfig::new(batch)).activations;
    assert_eq!(at(64) - at(32), 2 * (at(32) - at(16)));
    // Two feature maps of [64, 32, 32] after the first convolution alone.
    assert!(at(65) - at(64) > 2 * 4 * 64 * 32 * 32);
}

#[test]
fn a_frozen_network_has_no_gradients_and_keeps_less() -> Result<()> {
    let model = network("resnet18", [3, 64, 64]);
    let config = MemoryConfig::new(8).optimizer_tensors(2);
    let whole = of(&*model, &config);
    model.parameters().freeze("")?;
    model.parameters().unfreeze("fc")?;
    let head = of(&*model, &config);
    assert_eq!(head.parameters, whole.parameters);
    assert_eq!((head.gradients, head.optimizer), (4 * 5130, 8 * 5130));
    assert!(head.activations < whole.activations / 100, "{head:?}");
    Ok(())
}

#[test]
fn running_statistics_stay_as_they_were() -> Result<()> {
    // At this size its last maps are single pixels, so that one image cannot be trained on.
    let model = network("resnet18", [3, 32, 32]);
    let buffers = || -> Result<Vec<Vec<f32>>> {
        let all = model.parameters().all().into_iter();
        let buffers = all.filter(|p| p.kind() == ParameterKind::Buffer);
        buffers.map(|p| p.detached().to_dtype(DType::F32)?.flatten_all()?.to_vec1()).collect()
    };
    let before = buffers()?;
    let memory = of(&*model, &MemoryConfig::new(8));
    assert!(memory.activations > 0 && memory.buffers > 0 && memory.workspaces > 0);
    assert_eq!(buffers()?, before);
    Ok(())
}

#[test]
fn half_precision_halves_the_maps_and_copies_the_weights() {
    let model = network("gap_cnn", [3, 32, 32]);
    let whole = of(&*model, &MemoryConfig::new(256));
    let half = of(&*model, &MemoryConfig::new(256).precision(Precision::Bf16));
    assert!(half.activations < whole.activations / 2 + whole.parameters);
    assert_eq!(half.backward, whole.backward / 2);
    assert_eq!((half.parameters, half.gradients), (whole.parameters, whole.gradients));
}

#[test]
fn the_largest_batch_fits_and_the_next_does_not() -> Result<()> {
    let model = network("gap_cnn", [3, 32, 32]);
    let config = MemoryConfig::new(1);
    let graph = MeasuredGraph::of(&*model, &config)?.expect("direct");
    let bytes = 200 << 20;
    let largest = graph.largest_batch(&config, bytes).expect("an image fits");
    let total = |batch| graph.estimate(&config.clone().batch(batch)).expect("a line").total();
    let most = bytes * 8 / 10;
    assert!(total(largest) <= most && most < total(largest + 1), "{largest}");
    assert_eq!(graph.largest_batch(&config, 1000), None);
    Ok(())
}

/// A network of a program's own, with or without an op of candle's.
struct Own {
    spec: ModelSpec,
    parameters: Parameters,
    fc: Linear,
    squares: bool,
}

impl Own {
    fn new(squares: bool) -> Result<Self> {
        let parameters = Parameters::new();
        let vb: ParameterBuilder = parameters.builder(0, DType::F32, &Device::Cpu);
        let spec = ModelSpec::new("own", 2).input([3, 4, 4]);
        Ok(Self { spec, fc: Linear::new((48, 2), vb.pp("fc"))?, parameters, squares })
    }
}

impl Model for Own {
    fn spec(&self) -> &ModelSpec {
        &self.spec
    }

    fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    fn forward(&self, images: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        let x = flatten(&images_to_features(images, 3)?)?;
        let logits = self.fc.logits(&x, pass)?;
        if self.squares { logits.sqr() } else { Ok(logits) }
    }
}

#[test]
fn a_network_of_ones_own_is_measured_unless_candle_computes_in_it() -> Result<()> {
    let config = MemoryConfig::new(10);
    let memory = of(&Own::new(false)?, &config);
    assert_eq!(memory.parameters, 4 * (96 + 2));
    // The flattened images in channel-first order, and the logits.
    assert!(memory.activations >= 10 * 4 * (48 + 2), "{memory:?}");
    assert_eq!(estimate(&Own::new(true)?, &config)?, None);
    Ok(())
}
