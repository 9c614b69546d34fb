//! What holds for every row of the table of networks. `cargo test` looks at one row of each family,
//! `cargo xtask parity-all` at all of them.

use candle_vision_test_support::reference;

use candle_core::{DType, Device, Result, Tensor};
use candle_vision_models::parity::ReferenceOutputs;
use candle_vision_models::summary::{LayerSummary, summarize};
use candle_vision_models::{
    AuxiliaryOutputs, Model, ModelSpec, NetworkEntry, Networks, Pass, build,
};
use candle_vision_ops::{
    CrossEntropyConfig, Targets, add, backward, cross_entropy, is_direct, scale,
};

/// Runs `check` on the smallest network of each family.
fn each_family(check: impl Fn(&NetworkEntry) -> Result<()>) -> Result<()> {
    Networks::standard().families().try_for_each(check)
}

/// Runs `check` on every network.
#[expect(clippy::print_stdout, reason = "the test takes long, and says how far it is")]
fn each_row(check: impl Fn(&NetworkEntry) -> Result<()>) -> Result<()> {
    for entry in &Networks::standard() {
        println!("{}", entry.name());
        check(entry)?;
    }
    Ok(())
}

/// The network with ten classes, for small images where it takes such.
fn small(entry: &NetworkEntry) -> Result<ModelSpec> {
    if let Some(reference) = ReferenceOutputs::of(entry.name())? {
        return Ok(reference.spec());
    }
    let [channels, height, width] = entry.published_input();
    Ok(ModelSpec::new(entry.name(), 10).input([channels, height.min(64), width.min(64)]))
}

fn gives_the_stored_outputs(entry: &NetworkEntry) -> Result<()> {
    let name = entry.name();
    let Some(reference) = ReferenceOutputs::of(name)? else {
        let own = entry.published_weights().is_empty();
        assert!(own, "{name} has published weights, and nothing to compare with");
        return Ok(());
    };
    let model = build(&reference.spec(), 0, &Device::Cpu)?;
    reference.fill(&*model)?;
    let layers = reference.compare(&*model)?;
    assert!(layers.len() >= 4, "{name}: {} layers", layers.len());
    for layer in layers {
        assert!(layer.relative <= 1e-4, "{name}: {layer:?}");
    }
    Ok(())
}

/// The loss is finite, and every parameter that learns gets a gradient.
fn learns(entry: &NetworkEntry) -> Result<()> {
    // Stochastic depth may leave a block out of a step, for all images.
    const STEPS: u64 = 4;
    let name = entry.name();
    let spec = small(entry)?.dropout(0.0);
    let model = build(&spec, 0, &Device::Cpu)?;
    let [channels, height, width] = spec.input;
    let images = reference::image_batch("learns", &[4, channels, height, width])?;
    let labels = Tensor::new(&[0u32, 1, 2, 3], &Device::Cpu)?;
    let config = CrossEntropyConfig::default();
    let of = |logits: &Tensor| cross_entropy(logits, Targets::Labels(&labels), &config);
    let mut without: Vec<String> =
        model.parameters().trainable().iter().map(|p| p.path().to_owned()).collect();
    assert!(!without.is_empty(), "{name}");
    for step in 0..STEPS {
        let AuxiliaryOutputs { logits, auxiliary } =
            model.forward_auxiliary(&images, &mut Pass::train(step))?;
        let mut loss = of(&logits)?;
        for (logits, weight) in auxiliary {
            loss = add(&loss, &scale(&of(&logits)?, weight)?)?;
        }
        assert!(is_direct(&loss), "{name}");
        assert!(loss.to_dtype(DType::F32)?.to_scalar::<f32>()?.is_finite(), "{name}");
        let gradients = backward(&loss)?;
        let mut left = Vec::new();
        for path in without {
            let parameter = model.parameters().get(&path).expect("it is one of the network's");
            let gradient = gradients.get(parameter.var());
            let gradient = gradient.unwrap_or_else(|| panic!("{name}: no gradient for {path}"));
            let largest = gradient.abs()?.flatten_all()?.max(0)?.to_scalar::<f32>()?;
            assert!(largest.is_finite(), "{name}: the gradient of {path} is {largest}");
            if largest == 0.0 {
                left.push(path);
            }
        }
        without = left;
        if without.is_empty() {
            return Ok(());
        }
        // A head of zeros, as torchvision's vision transformers have at first, passes a gradient on after one step.
        for parameter in model.parameters().trainable() {
            if let Some(gradient) = gradients.get(parameter.var()) {
                parameter.set(&(parameter.detached() - (gradient * 0.01)?)?)?;
            }
        }
    }
    panic!("{name}: the gradients of {without:?} are zero")
}

/// The summary has the numbers of parameters and multiply-adds in the table, and its rows add up to its totals.
fn costs_what_is_published(entry: &NetworkEntry) -> Result<()> {
    let name = entry.name();
    let costs = entry.known_costs().expect("the table says it");
    let model = build(&entry.spec(costs.num_classes.max(1)), 0, &Device::Cpu)?;
    let summary = summarize(&*model, 1)?;
    let sum = |keep: &dyn Fn(&LayerSummary) -> bool| {
        summary
            .layers
            .iter()
            .filter(|layer| keep(layer))
            .map(|layer| layer.parameters)
            .sum::<usize>()
    };
    assert_eq!(sum(&|_| true), summary.parameters, "{name}: the rows and the total");
    // torchvision counts GoogLeNet without its auxiliary classifiers, and Inception v3 with its own. A backbone has no head.
    let is_counted = |layer: &LayerSummary| {
        let of_head = costs.num_classes == 0 && layer.path == model.head();
        let of_training = name == "googlenet" && layer.training_only;
        !of_head && !of_training
    };
    assert_eq!(sum(&is_counted), costs.parameters, "{name}");
    let counted = summary.layers.iter().filter(|layer| is_counted(layer));
    let multiply_adds: usize = counted.map(|layer| layer.multiply_adds).sum();
    // Published to a thousandth of a billion.
    let difference = multiply_adds.abs_diff(costs.multiply_adds as usize);
    assert!(difference < 1_500_000, "{name}: {multiply_adds} multiply-adds");
    Ok(())
}

#[test]
fn each_family_gives_the_stored_outputs() -> Result<()> {
    each_family(gives_the_stored_outputs)
}

#[test]
fn each_family_learns() -> Result<()> {
    each_family(learns)
}

#[test]
fn each_family_costs_what_is_published() -> Result<()> {
    each_family(costs_what_is_published)
}

#[test]
#[ignore = "builds networks of up to 645 million parameters; `cargo xtask parity-all` runs it"]
fn every_row_gives_the_stored_outputs() -> Result<()> {
    each_row(gives_the_stored_outputs)
}

#[test]
#[ignore = "trains networks of up to 645 million parameters; `cargo xtask parity-all` runs it"]
fn every_row_learns() -> Result<()> {
    each_row(learns)
}

#[test]
#[ignore = "runs every network at its published size; `cargo xtask parity-all` runs it"]
fn every_row_costs_what_is_published() -> Result<()> {
    each_row(costs_what_is_published)
}
