//! Steps and passes from graphs against plain ones.

use super::*;

/// Trains with and without graphs and checks that the ends are the same, bit for bit. `captured` steps are captured.
#[track_caller]
fn check_captured(device: &Device, network: &str, text: &str, captured: usize) {
    let runs = Runs::new();
    let ends = [true, false].map(|graphs| {
        set_cuda_graphs(graphs);
        let run = runs.create();
        let result = run_network_on(network, device, text, &run, None).unwrap();
        set_cuda_graphs(true);
        (result, bits(&run.last()))
    });
    let [(found, its_bits), (plain, expected)] = ends;
    assert_eq!((found.captured_steps, plain.captured_steps), (captured, 0), "{text}");
    assert_eq!(found.history.batches, plain.history.batches, "{text}");
    assert!(its_bits == expected, "{network} {text}");
}

// Each epoch has four whole batches and a smaller one. The first three are plain.

#[test]
fn captured_steps_end_with_the_bits_of_plain_ones() {
    on_cuda(|device| {
        for precision in [Precision::F32, Precision::Bf16] {
            for optimizer in [SGD, ADAM] {
                let text = format!(
                    "epochs = 3\nprecision = '{precision}'\noptimizer = {{ {optimizer} }}\n\
                     schedule = {{ name = 'cosine_annealing_lr' }}\n\
                     ema = {{ decay = 0.9, every = 2 }}"
                );
                check_captured(device, WITHOUT_DROPOUT, &text, 9);
            }
        }
    });
}

#[test]
fn captured_steps_of_muon_and_rms_prop_end_with_the_bits_of_plain_ones() {
    on_cuda(|device| {
        check_captured(device, WITHOUT_DROPOUT, MUON, 9);
        check_captured(device, WITHOUT_DROPOUT, &format!("grad_clip_norm = 0.5\n{MUON}"), 9);
        for more in [
            "",
            ", momentum = 0.9",
            ", centered = true",
            ", alpha = 0.9, momentum = 0.5, centered = true",
        ] {
            let text = format!(
                "epochs = 3\ngrad_clip_norm = 0.5\nschedule = {{ name = 'cosine_annealing_lr' }}\n\
                 optimizer = {{ name = 'rmsprop', lr = 0.001, weight_decay = 0.01{more} }}"
            );
            check_captured(device, WITHOUT_DROPOUT, &text, 9);
        }
    });
}

/// Optimizers that can be captured can be captured together.
#[test]
fn captured_steps_of_two_optimizers_end_with_the_bits_of_plain_ones() {
    on_cuda(|device| {
        let text = format!(
            "epochs = 3\noptimizer = {{ {SGD} }}\n\
             param_groups = [{{ prefix = 'fc.bias', epochs = 2 }}, {{ prefix = 'fc', optimizer = {{ {ADAM} }} }}]\n\
             schedule = {{ name = 'cosine_annealing_lr' }}\n\
             ema = {{ decay = 0.9, every = 2, lookahead = true }}"
        );
        let runs = Runs::new();
        let [captured, plain] = [true, false].map(|graphs| {
            set_cuda_graphs(graphs);
            let run = runs.create();
            let result = run_network_on(WITHOUT_DROPOUT, device, &text, &run, None).unwrap();
            set_cuda_graphs(true);
            (result.captured_steps, result.history.batches, bits(&run.last()))
        });
        assert_eq!((captured.0, plain.0), (9, 0));
        assert_eq!(captured.1, plain.1);
        assert!(captured.2 == plain.2);
    });
}

#[test]
fn captured_steps_clip_and_drop_as_plain_ones_do() {
    on_cuda(|device| {
        for optimizer in [SGD, ADAM] {
            let text = format!("epochs = 3\ngrad_clip_norm = 0.5\noptimizer = {{ {optimizer} }}");
            check_captured(device, "gap_cnn_deep", &text, 9);
        }
    });
}

#[test]
fn captured_steps_scale_the_loss_as_plain_ones_do() {
    on_cuda(|device| {
        let text =
            |more: &str| format!("epochs = 3\nprecision = 'f16'\noptimizer = {{ {ADAM} }}\n{more}");
        check_captured(device, WITHOUT_DROPOUT, &text(""), 9);
        check_captured(device, WITHOUT_DROPOUT, &text("grad_clip_norm = 0.5"), 9);
        // So large that plain and captured steps are skipped, while the scale halves each time.
        check_captured(device, WITHOUT_DROPOUT, &text("loss_scale = 268435456"), 9);
        for more in ["", "grad_clip_norm = 0.5\n", "loss_scale = 268435456\n"] {
            let text = format!("precision = 'f16'\n{more}{MUON}");
            check_captured(device, WITHOUT_DROPOUT, &text, 9);
        }
    });
}

// By twos, each epoch has two steps of whole batches and one of the smaller one alone. The first four passes are plain: a pass
// is captured at the first batch of a step. By threes, the second step of an epoch ends with the smaller batch, whose pass is
// plain after one or two from the graph.

#[test]
fn captured_steps_of_several_batches_end_with_the_bits_of_plain_ones() {
    on_cuda(|device| {
        const WEIGHTS: &str = "loss = { name = 'cross_entropy', class_weights = [1.0, 3.0] }";
        let text = |accumulate: usize, optimizer: &str, more: &str| {
            format!(
                "epochs = 3\naccumulate = {accumulate}\noptimizer = {{ {optimizer} }}\n\
                 schedule = {{ name = 'cosine_annealing_lr' }}\n{more}"
            )
        };
        let clipped = "grad_clip_norm = 0.5\nprecision = 'bf16'";
        check_captured(device, WITHOUT_DROPOUT, &text(2, SGD, clipped), 4);
        check_captured(device, "gap_cnn_deep", &text(2, ADAM, WEIGHTS), 4);
        check_captured(device, "gap_cnn_deep", &text(3, SGD, WEIGHTS), 2);
        check_captured(device, WITHOUT_DROPOUT, &format!("accumulate = 2\n{MUON}"), 4);
    });
}

#[test]
fn captured_steps_of_several_batches_scale_the_loss_as_plain_ones_do() {
    on_cuda(|device| {
        for more in ["grad_clip_norm = 0.5", "loss_scale = 268435456"] {
            let text = format!(
                "epochs = 3\nprecision = 'f16'\naccumulate = 2\noptimizer = {{ {ADAM} }}\n{more}"
            );
            check_captured(device, WITHOUT_DROPOUT, &text, 4);
        }
    });
}

#[test]
fn captured_passes_are_plain_ones() {
    on_cuda(|device| {
        for (network, side) in [("resnet20_cifar", SIDE), ("gap_cnn_deep", SIDE)] {
            let spec = ModelSpec::new(network, 2).input([3, side, side]);
            let model = build(&spec, 0, device).unwrap();
            let images = |seed: u64, count: usize| {
                let shape = [count, 3, side, side];
                let size = shape.iter().product();
                let values: Vec<f32> =
                    (0..size).map(|i| ((i as u64 * 7 + seed) % 11) as f32).collect();
                Tensor::from_vec(values, &shape[..], device).unwrap()
            };
            for precision in [Precision::F32, Precision::Bf16] {
                let passes = EvalPasses::new(&model).precision(precision);
                let changing = EvalPasses::new(&model).precision(precision).of_changing_weights();
                let logits = |passes: &EvalPasses<_>, seed, count| {
                    let logits = passes.forward(&images(seed, count)).unwrap();
                    logits.to_dtype(DType::F32).unwrap().to_vec2::<f32>().unwrap()
                };
                // The last pass is from a graph, but for the smaller batches.
                for (seed, count) in [(0, 4), (1, 4), (2, 4), (3, 4), (3, 2), (4, 4)] {
                    set_cuda_graphs(false);
                    let expected = [&passes, &changing].map(|of| logits(of, seed, count));
                    set_cuda_graphs(true);
                    let found = [&passes, &changing].map(|of| logits(of, seed, count));
                    assert_eq!(found, expected, "{network} {precision} {seed}");
                }
                assert!(passes.is_captured() && changing.is_captured());
                if precision == Precision::F32 {
                    let before = logits(&changing, 5, 4);
                    let parameters = model.parameters().trainable();
                    for parameter in &parameters {
                        parameter.var().set(&(parameter.detached() * 1.5).unwrap()).unwrap();
                    }
                    let after = logits(&changing, 5, 4);
                    assert_ne!(before, after, "the graph sees new weights");
                    set_cuda_graphs(false);
                    assert_eq!(after, logits(&changing, 5, 4));
                    set_cuda_graphs(true);
                }
                // Another size is captured anew.
                for _ in 0..3 {
                    logits(&passes, 1, 5);
                }
                assert!(passes.is_captured());
            }
        }
    });
}

#[test]
fn steps_that_cannot_be_captured_say_why() {
    on_cuda(|device| {
        let text = format!("epochs = 3\noptimizer = {{ {SGD} }}");
        let (none, result) = reasons(device, WITHOUT_DROPOUT, &text);
        assert_eq!((none, result.captured_steps), (vec![], 9));
        let own = PerParameter::new(OfItsOwn).unwrap();
        let (other, result) =
            reasons_of(device, WITHOUT_DROPOUT, &text, |trainer| trainer.optimizer(own));
        assert_eq!((other.len(), result.captured_steps), (1, 0));
        assert!(other[0].contains("the optimizer has operations of its own"), "{other:?}");
    });
}

/// A rule that does not say that it can be captured.
#[derive(Debug, Clone)]
struct OfItsOwn;

impl UpdateRule for OfItsOwn {
    fn lr(&self) -> f64 {
        0.01
    }

    fn update(&self, parameter: &Var, grad: &Tensor, _: &[Var], step: &Step) -> TensorResult<()> {
        parameter.set(&(parameter.as_detached_tensor() - (grad * step.lr)?)?)
    }
}
