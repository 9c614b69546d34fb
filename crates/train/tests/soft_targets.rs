//! Losses of targets with a number for each class, against PyTorch's values and finite differences.
//!
//! The numbers are PyTorch 2.15's in `f64`, with `lp = F.log_softmax(L, 1)`:
//! ```python
//! F.cross_entropy(L, Q); F.cross_entropy(L, Q, weight=w, label_smoothing=0.1)
//! F.cross_entropy(L + torch.log(n / n.sum()), Q)
//! -(w * Q * (1 - lp.exp()) ** gamma * lp).sum() / 4
//! F.binary_cross_entropy_with_logits(L, Q, pos_weight=p)
//! ```

use candle_core::{Device, Result as TensorResult, Tensor, Var};
use candle_vision_data::samplers::ClassWeights;
use candle_vision_ops::{backward, is_direct};
use candle_vision_registry::Description;
use candle_vision_train::loss::{BinaryCrossEntropy, CrossEntropy, Focal, Loss, TargetKind};
use candle_vision_train::{Parts, Result};

const LOGITS: [[f64; 3]; 4] =
    [[0.3, -1.2, 2.0], [1.5, 0.1, -0.4], [0.0, 0.2, 0.1], [-3.0, 2.0, 0.5]];
const SHARES: [[f64; 3]; 4] =
    [[0.7, 0.0, 0.3], [0.1, 0.9, 0.0], [1.0, 0.0, 0.0], [0.25, 0.5, 0.25]];
const SETS: [[f64; 3]; 4] = [[1.0, 0.0, 1.0], [0.0, 1.0, 0.0], [0.0; 3], [1.0; 3]];
const COUNTS: [usize; 3] = [30, 10, 60];
const WEIGHTS: [f64; 3] = [0.5, 2.0, 1.0];
const POSITIVE: [f64; 3] = [3.0, 1.0, 0.5];

/// A loss, its targets, its value and its gradient by PyTorch.
struct Case {
    name: &'static str,
    loss: Box<dyn Loss>,
    targets: [[f64; 3]; 4],
    value: f64,
    gradient: [[f64; 3]; 4],
}

fn cases() -> Vec<Case> {
    vec![
        Case {
            name: "cross entropy",
            loss: Box::new(CrossEntropy::new()),
            targets: SHARES,
            value: 1.504812659186,
            gradient: [
                [-0.137670284454, 0.008329385408, 0.129340899046],
                [0.154061855567, -0.180843890059, 0.026782034493],
                [-0.174847598661, 0.091791350278, 0.083056248383],
                [-0.06113035171, 0.078273829565, -0.017143477855],
            ],
        },
        Case {
            name: "cross entropy, smoothed and weighted",
            loss: Box::new(CrossEntropy::new().label_smoothing(0.1).class_weights(WEIGHTS)),
            targets: SHARES,
            value: 1.478972082960,
            gradient: [
                [-0.056723649592, -0.010822214572, 0.067545864164],
                [0.303611872668, -0.342995197456, 0.039383324788],
                [-0.074080305908, 0.035348431824, 0.038731874084],
                [-0.030436934607, 0.033599977536, -0.003163042929],
            ],
        },
        Case {
            name: "logit adjustment",
            loss: Box::new(CrossEntropy::new().logit_adjustment(1.0)),
            targets: SHARES,
            value: 1.846759582917,
            gradient: [
                [-0.154205260842, 0.001546644493, 0.152658616349],
                [0.155984176928, -0.210123283816, 0.054139106888],
                [-0.180891042855, 0.028136623624, 0.152754419231],
                [-0.06035779085, -0.019022657532, 0.079380448382],
            ],
        },
        Case {
            name: "focal, gamma 2",
            loss: Box::new(Focal::new(2.0)),
            targets: SHARES,
            value: 1.047708512840,
            gradient: [
                [-0.178602940574, 0.007269960179, 0.171332980394],
                [0.188987006276, -0.218061830475, 0.029074824199],
                [-0.173894363768, 0.091290921798, 0.08260344197],
                [-0.06453520583, 0.110677130527, -0.046141924697],
            ],
        },
        Case {
            name: "focal, gamma 0.5, weighted",
            loss: Box::new(Focal::new(0.5).class_weights(ClassWeights::List(WEIGHTS.to_vec()))),
            targets: SHARES,
            value: 1.276891504850,
            gradient: [
                [-0.0731651171, 0.004687407911, 0.068477709189],
                [0.344165217544, -0.397056921877, 0.052891704333],
                [-0.091997556519, 0.048296802471, 0.043700754048],
                [-0.030211023798, 0.051085633351, -0.020874609554],
            ],
        },
        Case {
            name: "binary",
            loss: Box::new(BinaryCrossEntropy::new()),
            targets: SHARES,
            value: 0.846972164176,
            gradient: [
                [-0.010463123599, 0.019289601375, 0.048399756498],
                [0.059797873016, -0.031251734377, 0.033442694991],
                [-0.041666666667, 0.045819499776, 0.043748265623],
                [-0.016881177235, 0.031733089831, 0.0310382776],
            ],
        },
        Case {
            name: "binary, weighted, several labels",
            loss: Box::new(BinaryCrossEntropy::new().pos_weight(POSITIVE)),
            targets: SETS,
            value: 1.382837388716,
            gradient: [
                [-0.106389370797, 0.019289601375, -0.004966788418],
                [0.068131206349, -0.03958506771, 0.033442694991],
                [0.041666666667, 0.045819499776, 0.043748265623],
                [-0.238143531706, -0.009933576835, -0.0157308612],
            ],
        },
    ]
}

#[test]
fn values_and_gradients_are_pytorch_s_and_those_of_finite_differences() -> TensorResult<()> {
    for Case { name, mut loss, targets, value, gradient } in cases() {
        loss.learn_class_counts(&COUNTS);
        let targets = Tensor::new(&targets, &Device::Cpu)?;
        let of = |logits: &Tensor| loss.loss_of_targets(logits, &targets).unwrap();
        let logits = Var::new(&LOGITS, &Device::Cpu)?;
        let found = of(logits.as_tensor());
        // Weights and adjustments are kept in `f32`.
        let error = (found.to_scalar::<f64>()? - value).abs();
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
                    of(&Tensor::new(&logits, &Device::Cpu).unwrap()).to_scalar::<f64>().unwrap()
                };
                // The error of central differences is of the order of the step's square.
                let difference = (moved(1e-4) - moved(-1e-4)) / 2e-4;
                assert!((found - difference).abs() < 1e-7, "{name}: {found} {difference}");
            }
        }
    }
    Ok(())
}

/// `F.binary_cross_entropy_with_logits(L, F.one_hot(y, 3).double())`.
#[test]
fn one_label_is_a_question_for_each_class() -> TensorResult<()> {
    let logits = Tensor::new(&LOGITS, &Device::Cpu)?;
    let labels = Tensor::new(&[2u32, 1, 0, 0], &Device::Cpu)?;
    let loss = BinaryCrossEntropy::new().loss(&logits, &labels).unwrap().to_scalar::<f64>()?;
    assert!((loss - 1.040722164176).abs() < 1e-11, "{loss}");
    Ok(())
}

/// A loss of labels alone.
#[derive(Debug)]
struct OwnLoss;

impl Loss for OwnLoss {
    fn loss(&self, logits: &Tensor, _labels: &Tensor) -> Result<Tensor> {
        Ok(logits.sum_all()?)
    }

    fn describe(&self) -> Option<Description> {
        Some(Description::named("own_loss"))
    }
}

#[test]
fn a_loss_of_labels_alone_says_so() {
    let logits = Tensor::new(&LOGITS, &Device::Cpu).unwrap();
    let error = OwnLoss.loss_of_targets(&logits, &logits).unwrap_err().to_string();
    assert!(error.starts_with("the loss `own_loss` takes one label for each image"), "{error}");
    assert!(error.contains("`Loss::loss_of_targets`") && error.lines().count() == 1, "{error}");
    let taken = |loss: &dyn Loss| {
        [TargetKind::Label, TargetKind::Shares, TargetKind::SeveralLabels].map(|k| loss.takes(k))
    };
    assert_eq!(taken(&OwnLoss), [true, false, false]);
    assert_eq!(taken(&CrossEntropy::new()), [true, true, false]);
    assert_eq!(taken(&Focal::new(2.0)), [true, true, false]);
    assert_eq!(taken(&BinaryCrossEntropy::new()), [true; 3]);
}

#[test]
fn a_recipe_names_the_binary_loss_and_gets_every_setting_back() {
    let build = |toml: &str| {
        let description: Description = toml::from_str(toml).unwrap();
        Parts::standard().losses.build(&description)
    };
    for toml in [
        "name = \"binary_cross_entropy\"",
        "name = \"binary_cross_entropy\"\npos_weight = [2.0, 1.0, 0.5]",
    ] {
        let described = build(toml).unwrap().describe().unwrap();
        assert_eq!(described, toml::from_str(toml).unwrap());
    }
    let check = |weights: &str, words: &str| {
        let loss =
            build(&format!("name = \"binary_cross_entropy\"\npos_weight = {weights}")).unwrap();
        let error = loss.check_classes(3).unwrap_err().to_string();
        assert!(error.starts_with("`pos_weight` is ") && error.contains(words), "{error}");
    };
    check("[1.0, 2.0]", "3 numbers, one for each class, or a single one");
    check("[1.0, 2.0, 0.0]", "all above 0");
    let one = build("name = \"binary_cross_entropy\"\npos_weight = [2.0]").unwrap();
    assert!(one.check_classes(3).is_ok());
}
