//! Softmax and cross entropy against PyTorch, finite differences and their formulas.

use crate::places::devices;
use crate::reference;
use crate::support::{check_error, check_gradients, check_threads, random};
use candle_core::{DType, Device, Result, Tensor, Var};
use candle_vision_ops::{CrossEntropyConfig, Targets, cross_entropy, log_softmax, softmax};

fn smoothed(label_smoothing: f64) -> CrossEntropyConfig {
    CrossEntropyConfig { label_smoothing, class_weights: None }
}

fn weighted(label_smoothing: f64, classes: usize) -> Result<CrossEntropyConfig> {
    let weights = reference::uniform("ce_weighted.class_weight", classes);
    let weights: Vec<f64> = weights.into_iter().map(|u| u + 0.5).collect();
    let class_weights = Some(Tensor::new(weights, &Device::Cpu)?);
    Ok(CrossEntropyConfig { label_smoothing, class_weights })
}

/// A random distribution over the classes in each row.
fn probabilities(name: &str, dims: &[usize]) -> Result<Tensor> {
    softmax(&random(name, dims))
}

#[test]
fn losses_and_gradients_are_pytorchs() -> Result<()> {
    let expected = reference::tensors("ops.safetensors");
    let cases =
        [("ce", smoothed(0.0)), ("ce_smooth", smoothed(0.1)), ("ce_weighted", weighted(0.0, 10)?)];
    for (case, config) in cases {
        let x = reference::image_batch(&format!("{case}.x"), &[8, 10])?.affine(3.0, 0.0)?;
        let labels = reference::labels(&format!("{case}.y"), 8, 10)?;
        for device in devices() {
            let x = Var::from_tensor(&x.to_device(&device)?)?;
            let labels = labels.to_device(&device)?;
            let weights = config.class_weights.as_ref();
            let class_weights = weights.map(|weights| weights.to_device(&device)).transpose()?;
            let config = CrossEntropyConfig { class_weights, ..config };
            let loss = cross_entropy(&x, Targets::Labels(&labels), &config)?;
            let expected = |name: &str| &expected[&format!("{case}.{name}")];
            let what = format!("{case} at {device:?}");
            reference::assert_close(&what, &loss.reshape(1)?, expected("loss"), 1e-6);
            let dx = loss.backward()?.remove(&x).expect("a gradient");
            reference::assert_close(&format!("{what}, gradient"), &dx, expected("dx"), 1e-6);
        }
    }
    Ok(())
}

/// `torch.nn.functional.cross_entropy` as its documentation writes it, one term at a time.
fn plain(logits: &Tensor, labels: &[u32], weights: &[f64], smoothing: f64) -> Result<f64> {
    let (mut labelled, mut spread, mut total) = (0.0, 0.0, 0.0);
    for (row, &label) in logits.to_vec2::<f64>()?.iter().zip(labels) {
        let log_sum = row.iter().map(|x| x.exp()).sum::<f64>().ln();
        let loss = |class: usize| weights[class] * (log_sum - row[class]);
        labelled += loss(label as usize);
        spread += (0..row.len()).map(loss).sum::<f64>() / row.len() as f64;
        total += weights[label as usize];
    }
    Ok(((1.0 - smoothing) * labelled + smoothing * spread) / total)
}

#[test]
fn class_weights_and_smoothing_combine_as_in_pytorch() -> Result<()> {
    let logits = random("combined", &[7, 5]);
    let labels = reference::labels("combined.labels", 7, 5)?;
    for smoothing in [0.0, 0.3, 1.0] {
        let config = weighted(smoothing, 5)?;
        let weights = config.class_weights.as_ref().expect("weights").to_vec1::<f64>()?;
        let loss = cross_entropy(&logits, Targets::Labels(&labels), &config)?.to_scalar::<f64>()?;
        let expected = plain(&logits, &labels.to_vec1()?, &weights, smoothing)?;
        assert!((loss - expected).abs() < 1e-12, "smoothing {smoothing}: {loss}, not {expected}");
    }
    Ok(())
}

#[test]
fn probabilities_of_one_class_are_labels() -> Result<()> {
    let logits = random("one hot", &[6, 4]);
    let labels = reference::labels("one hot.labels", 6, 4)?;
    let one_hot = Tensor::eye(4, DType::F64, &Device::Cpu)?.index_select(&labels, 0)?;
    let config = smoothed(0.2);
    let by_label = cross_entropy(&logits, Targets::Labels(&labels), &config)?;
    let by_probability = cross_entropy(&logits, Targets::Probabilities(&one_hot), &config)?;
    reference::assert_close("one hot", &by_probability, &by_label, 1e-12);
    Ok(())
}

/// `-(input * target * weight).sum() / batch` is PyTorch's mean for probabilities: unlike that for
/// labels it does not divide by the weights.
#[test]
fn weighted_probabilities_are_divided_by_the_batch() -> Result<()> {
    let logits = random("soft", &[6, 4]);
    let targets = probabilities("soft.targets", &[6, 4])?;
    let config = weighted(0.1, 4)?;
    let weights = config.class_weights.as_ref().expect("weights");
    let terms =
        (log_softmax(&logits)? * targets.affine(0.9, 0.1 / 4.0)?)?.broadcast_mul(weights)?;
    let expected = terms.sum_all()?.affine(-1.0 / 6.0, 0.0)?;
    let loss = cross_entropy(&logits, Targets::Probabilities(&targets), &config)?;
    reference::assert_close("weighted probabilities", &loss, &expected, 1e-12);
    Ok(())
}

#[test]
fn cross_entropy_gradient_is_that_of_its_values() -> Result<()> {
    for (batch, classes) in [(1, 1), (1, 7), (5, 3), (3, 10)] {
        let logits = [random("gradient", &[batch, classes])];
        let labels = reference::labels("gradient.labels", batch, classes)?;
        let soft = probabilities("gradient.targets", &[batch, classes])?;
        // Targets that do not sum to one have a gradient of their own shape.
        let unnormalised = soft.affine(1.7, 0.1)?;
        for config in
            [smoothed(0.0), smoothed(0.1), weighted(0.0, classes)?, weighted(0.3, classes)?]
        {
            let what = format!("{batch} x {classes}, {config:?}");
            for targets in [
                Targets::Labels(&labels),
                Targets::Probabilities(&soft),
                Targets::Probabilities(&unnormalised),
            ] {
                // With a single class and probabilities the loss is constant: nothing to compare.
                if classes > 1 {
                    check_gradients(&what, &logits, |x| cross_entropy(&x[0], targets, &config));
                }
            }
        }
    }
    Ok(())
}

#[test]
fn one_class_has_neither_loss_nor_gradient() -> Result<()> {
    let x = Var::new(&[[3f32], [-200.0]], &Device::Cpu)?;
    let labels = Tensor::new(&[0u32, 0], &Device::Cpu)?;
    let loss = cross_entropy(&x, Targets::Labels(&labels), &smoothed(0.1))?;
    assert_eq!(loss.to_scalar::<f32>()?, 0.0);
    let dx = loss.backward()?.remove(&x).expect("a gradient");
    assert_eq!(dx.flatten_all()?.to_vec1::<f32>()?, [0.0, 0.0]);
    Ok(())
}

#[test]
fn extreme_logits_stay_finite() -> Result<()> {
    let x = Var::new(&[[1e5f32, -1e5, 0.0], [f32::NEG_INFINITY, 2.0, 1.0]], &Device::Cpu)?;
    let labels = Tensor::new(&[1u32, 2], &Device::Cpu)?;
    let loss = cross_entropy(&x, Targets::Labels(&labels), &smoothed(0.0))?;
    assert!((loss.to_scalar::<f32>()? - 100_000.66).abs() < 0.1);
    let dx = loss.backward()?.remove(&x).expect("a gradient").flatten_all()?.to_vec1::<f32>()?;
    assert!(dx.iter().all(|dx| dx.is_finite()), "{dx:?}");
    assert_eq!(dx[..4], [0.5, -0.5, 0.0, 0.0]);
    Ok(())
}

#[test]
fn softmax_gradient_is_that_of_its_values() {
    for dims in [&[7][..], &[3, 5], &[2, 3, 4], &[4, 1]] {
        if dims[dims.len() - 1] > 1 {
            let x = [random("softmax", dims)];
            check_gradients(&format!("softmax {dims:?}"), &x, |x| softmax(&x[0]));
            check_gradients(&format!("log_softmax {dims:?}"), &x, |x| log_softmax(&x[0]));
        }
    }
}

#[test]
fn softmax_is_its_formula_and_stable() -> Result<()> {
    let x = random("formula", &[4, 3, 9]);
    let exp = x.exp()?;
    let expected = exp.broadcast_div(&exp.sum_keepdim(2)?)?;
    // Adding a constant changes nothing, but overflows without care.
    let shifted = x.affine(1.0, 900.0)?;
    reference::assert_close("softmax", &softmax(&shifted)?, &expected, 1e-12);
    reference::assert_close("log_softmax", &log_softmax(&shifted)?, &expected.log()?, 1e-12);
    let low = Tensor::new(&[0f32, -1e4], &Device::Cpu)?;
    assert_eq!(log_softmax(&low)?.to_vec1::<f32>()?, [0.0, -1e4]);
    Ok(())
}

#[test]
fn threads_do_not_matter() {
    check_threads(|| {
        let x = Var::from_tensor(&reference::image_batch("threads", &[301, 101])?)?;
        let labels = reference::labels("threads.labels", 301, 101)?;
        let loss = cross_entropy(&x, Targets::Labels(&labels), &smoothed(0.1))?;
        let probabilities = softmax(&x)?;
        let sum = (&loss + probabilities.sqr()?.sum_all()?)?;
        let dx = sum.backward()?.remove(&x).expect("a gradient");
        Ok(vec![loss.detach(), probabilities.detach(), dx])
    });
}

#[test]
fn wrong_arguments_are_named() -> Result<()> {
    let logits = random("wrong", &[2, 3]);
    let check =
        |logits: &Tensor, targets: Targets<'_>, config: &CrossEntropyConfig, words: &[&str]| {
            check_error(cross_entropy(logits, targets, config), words);
        };
    let plain = smoothed(0.0);
    let labels = Tensor::new(&[0u32, 3], &Device::Cpu)?;
    check(
        &logits,
        Targets::Labels(&labels),
        &plain,
        &["cross_entropy", "row 1", "label 3", "3 classes"],
    );
    let long = Tensor::new(&[0u32, 1, 2], &Device::Cpu)?;
    check(&logits, Targets::Labels(&long), &plain, &["labels", "[2]", "[3]"]);
    let signed = Tensor::new(&[0i64, 1], &Device::Cpu)?;
    check(&logits, Targets::Labels(&signed), &plain, &["u32", "I64"]);
    check(&logits, Targets::Probabilities(&logits.t()?), &plain, &["probabilities", "[3, 2]"]);
    check(&random("wrong", &[3]), Targets::Labels(&labels), &plain, &["[batch, classes]", "[3]"]);
    check(&logits, Targets::Labels(&labels), &smoothed(1.5), &["smoothing", "1.5"]);
    check(&logits, Targets::Labels(&labels), &weighted(0.0, 4)?, &["3 class weights", "[4]"]);
    check_error(softmax(&Tensor::new(1f32, &Device::Cpu)?), &["softmax", "[]"]);
    Ok(())
}
