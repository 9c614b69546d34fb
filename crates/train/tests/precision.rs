//! Mixed precision on the CPU, where it is worked out in `f32` and rounded: it learns what `f32`
//! learns.

mod common;

use candle_core::DType;
use candle_vision_models::Precision;
use candle_vision_train::loss::CrossEntropy;
use candle_vision_train::{Checkpoint, TrainingResult, evaluate};
use common::*;

/// The same run in this precision.
fn run(precision: Precision, runs: &Runs) -> TrainingResult {
    let config = recipe(&format!(
        "epochs = 6\nprecision = '{precision}'\n\
         label_smoothing = 0.1\noptimizer = {{ name = 'sgd', lr = 0.005 }}"
    ));
    train(&config, &runs.create(), &mut []).unwrap()
}

fn losses(summary: &TrainingResult) -> Vec<f64> {
    summary.history.epochs.iter().map(|epoch| epoch.train_loss).collect()
}

#[test]
fn a_network_learns_in_half_what_it_learns_in_f32() {
    let runs = Runs::new();
    let full = losses(&run(Precision::F32, &runs));
    assert!(full[5] < 0.5 * full[0], "{full:?}");
    // In `f16` the first steps are skipped until the loss is scaled by what its gradients allow.
    for (precision, first, tolerance) in [(Precision::Bf16, 0, 0.01), (Precision::F16, 2, 0.05)] {
        let summary = run(precision, &runs);
        let half = losses(&summary);
        for (half, full) in half[first..].iter().zip(&full[first..]) {
            let difference = (half - full).abs();
            assert!(difference > 0.0 && difference < tolerance, "{precision}: {half} and {full}");
        }
        assert!(summary.history.best().unwrap().val_accuracy > 0.9);
    }
}

#[test]
fn checkpoints_of_a_run_in_half_are_in_f32() {
    let runs = Runs::new();
    for precision in [Precision::Bf16, Precision::F16] {
        let checkpoint = Checkpoint::load(run(precision, &runs).last_path().unwrap()).unwrap();
        for (name, tensor) in &checkpoint.tensors {
            assert!([DType::F32, DType::I64].contains(&tensor.dtype()), "{name}");
        }
    }
}

#[test]
fn validation_is_in_the_precision_of_the_run() {
    let runs = Runs::new();
    let summary = run(Precision::Bf16, &runs);
    let checkpoint = Checkpoint::load(summary.last_path().unwrap()).unwrap();
    let model = network(1);
    checkpoint.restore(model.as_ref()).unwrap();
    let cross_entropy = CrossEntropy::new().label_smoothing(0.1);
    let loss = |precision| {
        let val = val_loader();
        let evaluator = evaluate(model.as_ref(), &val).loss(&cross_entropy).precision(precision);
        evaluator.run().unwrap().loss
    };
    let recorded = summary.history.epochs[5].val_loss;
    assert_eq!(loss(Precision::Bf16), recorded);
    let difference = (loss(Precision::F32) - recorded).abs();
    assert!(difference > 0.0 && difference < 0.02, "{difference}");
}
