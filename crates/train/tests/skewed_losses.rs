//! Losses for classes that differ in size, against PyTorch's values and finite differences.
//!
//! The numbers are PyTorch 2.15's in `f64`, with `w = n.sum() / (3 * n)` for the class counts `n`:
//! ```python
//! n = torch.tensor([30., 10., 60.]); lp = log_softmax(L, 1).gather(1, y[:, None])[:, 0]
//! focal = -(w[y] * (1 - lp.exp()) ** gamma * lp).sum() / w[y].sum()
//! adjusted = F.cross_entropy(L + tau * torch.log(n / n.sum()), y, weight=w, label_smoothing=s)
//! torch.autograd.grad(loss, L)
//! ```

use candle_core::{Device, Result as TensorResult, Tensor, Var};
use candle_vision_data::samplers::ClassWeights;
use candle_vision_ops::{backward, is_direct};
use candle_vision_registry::Description;
use candle_vision_train::Parts;
use candle_vision_train::loss::{CrossEntropy, Focal, Loss};

const LOGITS: [[f64; 3]; 4] =
    [[0.3, -1.2, 2.0], [1.5, 0.1, -0.4], [0.0, 0.2, 0.1], [-3.0, 2.0, 0.5]];
const LABELS: [u32; 4] = [2, 1, 0, 0];
const COUNTS: [usize; 3] = [30, 10, 60];

/// A loss with its value and gradient by PyTorch.
type Case = (&'static str, Box<dyn Loss>, f64, [[f64; 3]; 4]);

fn cases() -> Vec<Case> {
    vec![
        (
            "focal, gamma 2",
            Box::new(Focal::new(2.0)),
            1.730010276208,
            [
                [0.003492835586, 0.000779356964, -0.00427219255],
                [0.211689401936, -0.243351493488, 0.031662091552],
                [-0.173894363768, 0.091290921798, 0.08260344197],
                [-0.260020930501, 0.212586476054, 0.047434454447],
            ],
        ),
        (
            "focal, gamma 0.5, balanced",
            Box::new(Focal::new(0.5).class_weights(ClassWeights::Balanced)),
            1.992810504182,
            [
                [0.008419098243, 0.001878554739, -0.010297652983],
                [0.420424734971, -0.483307082067, 0.062882347097],
                [-0.133814627664, 0.070249894504, 0.06356473316],
                [-0.182912275194, 0.149544407581, 0.033367867613],
            ],
        ),
        (
            "focal, gamma 0, balanced",
            Box::new(Focal::new(0.0).class_weights(ClassWeights::Balanced)),
            BALANCED.0,
            BALANCED.1,
        ),
        ("balanced", Box::new(CrossEntropy::new().balanced()), BALANCED.0, BALANCED.1),
        (
            "adjusted, tau 1",
            Box::new(CrossEntropy::new().logit_adjustment(1.0)),
            2.240169296237,
            [
                [0.020794739158, 0.001546644493, -0.022341383651],
                [0.180984176928, -0.235123283816, 0.054139106888],
                [-0.180891042855, 0.028136623624, 0.152754419231],
                [-0.24785779085, 0.105977342468, 0.141880448382],
            ],
        ),
        (
            "adjusted, tau 0.5, balanced, smoothing 0.1",
            Box::new(CrossEntropy::new().balanced().logit_adjustment(0.5).label_smoothing(0.1)),
            2.328658933659,
            [
                [0.00623804152, -0.016597454033, 0.010359412512],
                [0.376673577376, -0.45459996274, 0.077926385364],
                [-0.111281488027, 0.023011448274, 0.088270039753],
                [-0.168267139322, 0.104335166863, 0.063931972459],
            ],
        ),
    ]
}

const BALANCED: (f64, [[f64; 3]; 4]) = (
    2.129249860735,
    [
        [0.013574442017, 0.003028867421, -0.016603309438],
        [0.390680412146, -0.449113941948, 0.058433529802],
        [-0.127161889935, 0.066757345657, 0.060404544279],
        [-0.180822073971, 0.147835512411, 0.03298656156],
    ],
);

fn value(loss: &dyn Loss, logits: &Tensor) -> f64 {
    let labels = Tensor::new(&LABELS, &Device::Cpu).unwrap();
    loss.loss(logits, &labels).unwrap().to_scalar().unwrap()
}

#[test]
fn values_and_gradients_are_pytorch_s_and_those_of_finite_differences() -> TensorResult<()> {
    let labels = Tensor::new(&LABELS, &Device::Cpu)?;
    for (name, mut loss, expected, gradient) in cases() {
        loss.learn_class_counts(&COUNTS);
        let logits = Var::new(&LOGITS, &Device::Cpu)?;
        let found = loss.loss(logits.as_tensor(), &labels).unwrap();
        // Weights and adjustments are kept in `f32`.
        let error = (found.to_scalar::<f64>()? - expected).abs();
        assert!(error < 3e-7, "{name}: {error:e}");
        assert!(is_direct(&found), "{name}: the backward pass leaves its fast way");
        let grads = backward(&found)?;
        let found = grads.get(logits.as_tensor()).expect("a gradient").to_vec2::<f64>()?;
        for row in 0..4 {
            for column in 0..3 {
                let (found, expected) = (found[row][column], gradient[row][column]);
                assert!((found - expected).abs() < 3e-7, "{name} {row} {column}: {found}");
                let moved = |step: f64| {
                    let mut logits = LOGITS;
                    logits[row][column] += step;
                    value(&*loss, &Tensor::new(&logits, &Device::Cpu).unwrap())
                };
                // The error of central differences is of the order of the step's square.
                let difference = (moved(1e-4) - moved(-1e-4)) / 2e-4;
                assert!((found - difference).abs() < 1e-7, "{name}: {found} {difference}");
            }
        }
    }
    Ok(())
}

#[test]
fn a_recipe_names_them_and_gets_every_setting_back() {
    let build = |toml: &str| {
        let description: Description = toml::from_str(toml).unwrap();
        Parts::standard().losses.build(&description)
    };
    for toml in [
        "name = \"focal\"\ngamma = 1.5\nclass_weights = \"balanced\"",
        "name = \"focal\"\ngamma = 2.0\nclass_weights = [1.0, 2.0, 3.0]",
        "name = \"cross_entropy\"\nlabel_smoothing = 0.0\nclass_weights = \"balanced\"\nlogit_adjustment = 1.0",
    ] {
        let described = build(toml).unwrap().describe().unwrap();
        assert_eq!(described, toml::from_str(toml).unwrap());
    }
    let error = |toml: &str| build(toml).unwrap_err().to_string();
    assert!(error("name = \"focal\"\ngamma = -1.0").contains("`gamma` is -1"));
    let even = error("name = \"focal\"\nclass_weights = \"even\"");
    assert!(even.contains("\"balanced\" or a list"), "{even}");
}

#[test]
fn without_the_counts_it_is_an_error_and_no_wrong_number() {
    let logits = Tensor::new(&LOGITS, &Device::Cpu).unwrap();
    let labels = Tensor::new(&LABELS, &Device::Cpu).unwrap();
    for loss in [
        Box::new(CrossEntropy::new().balanced()) as Box<dyn Loss>,
        Box::new(CrossEntropy::new().logit_adjustment(1.0)),
        Box::new(Focal::new(2.0).class_weights(ClassWeights::Balanced)),
    ] {
        assert!(loss.needs_class_counts());
        let error = loss.loss(&logits, &labels).unwrap_err().to_string();
        assert!(error.contains("learn_class_counts"), "{error}");
    }
    assert!(!Focal::new(2.0).needs_class_counts() && !CrossEntropy::new().needs_class_counts());
}

#[test]
fn a_batch_of_weight_0_has_no_loss_and_no_gradient() -> TensorResult<()> {
    let labels = Tensor::new(&[2u32, 2], &Device::Cpu)?;
    let weights = [1.0, 2.0, 0.0];
    for loss in [
        Box::new(CrossEntropy::new().class_weights(weights)) as Box<dyn Loss>,
        Box::new(Focal::new(2.0).class_weights(ClassWeights::List(weights.to_vec()))),
    ] {
        let logits = Var::new(&[LOGITS[0], LOGITS[1]], &Device::Cpu)?;
        let found = loss.loss(logits.as_tensor(), &labels).unwrap();
        assert_eq!(found.to_scalar::<f64>()?, 0.0);
        assert_eq!(loss.divisor(&labels).unwrap(), Some(0.0));
        let grads = backward(&found)?;
        let gradient = grads.get(logits.as_tensor()).expect("a gradient");
        assert_eq!(gradient.to_vec2::<f64>()?, [[0.0; 3]; 2]);
    }
    Ok(())
}
