//! What PyTorch's values do not show: errors, groups, saved state.

use candle_core::DType;
use candle_vision_models::{Init, Parameters};

use super::*;
use crate::optim::{Adam, Sgd};

/// Three weights called `a`, `b` and `c`, all 1.
fn parameters() -> Parameters {
    let parameters = Parameters::new();
    let vb = parameters.builder(0, DType::F32, &Device::Cpu);
    for name in ["a", "b", "c"] {
        vb.weight(name, &[2], Init::Constant(1.0)).unwrap();
    }
    parameters
}

/// The gradients of the sum of these parameters: 1 for each element.
fn grads(parameters: &Parameters, names: &[&str]) -> GradStore {
    let mut sum = Tensor::zeros(2, DType::F32, &Device::Cpu).unwrap();
    for name in names {
        sum = (sum + parameters.get(name).unwrap().var().as_tensor()).unwrap();
    }
    sum.sum_all().unwrap().backward().unwrap()
}

fn first_value(parameters: &Parameters, name: &str) -> f32 {
    parameters.get(name).unwrap().detached().to_vec1::<f32>().unwrap()[0]
}

fn optimizer<R: UpdateRule>(parameters: &Parameters, rule: &R) -> PerParameter<R> {
    rule.clone().optimizer(parameters.trainable()).unwrap()
}

#[test]
fn a_cut_gradient_is_an_error_and_changes_nothing() {
    let parameters = parameters();
    let mut optimizer = optimizer(&parameters, &Sgd::new(0.1));
    let error = optimizer.step(&grads(&parameters, &["a", "c"])).unwrap_err();
    assert!(matches!(&error, Error::MissingGradient { parameter } if parameter == "b"));
    assert_eq!(first_value(&parameters, "a"), 1.0);
    // A frozen one needs none.
    parameters.freeze("b").unwrap();
    optimizer.step(&grads(&parameters, &["a", "c"])).unwrap();
    assert_eq!(first_value(&parameters, "a"), 0.9);
    assert_eq!(first_value(&parameters, "b"), 1.0);
}

#[test]
fn a_gradient_may_be_missing_later() {
    let parameters = parameters();
    let mut optimizer = optimizer(&parameters, &Sgd::new(0.1));
    optimizer.step(&grads(&parameters, &["a", "b", "c"])).unwrap();
    optimizer.step(&grads(&parameters, &["a"])).unwrap();
    assert_eq!(first_value(&parameters, "b"), 0.9);
}

#[test]
fn groups_keep_their_ratio_to_the_rate() {
    let parameters = parameters();
    let [slow, others] = ParamGroup::new(parameters.trainable()).split_by_prefix("a");
    let mut optimizer = PerParameter::new(Sgd::new(0.1)).unwrap();
    optimizer.add(vec![slow.lr(0.01), others]).unwrap();
    optimizer.set_lr(1.0);
    optimizer.step(&grads(&parameters, &["a", "b", "c"])).unwrap();
    assert!((first_value(&parameters, "a") - 0.9).abs() < 1e-6);
    assert_eq!(first_value(&parameters, "b"), 0.0);
}

#[test]
fn a_parameter_belongs_to_one_group() {
    let parameters = parameters();
    let group = ParamGroup::new(parameters.trainable());
    let mut optimizer = PerParameter::new(Sgd::new(0.1)).unwrap();
    let error = optimizer.add(vec![group.clone(), group]).unwrap_err();
    assert!(error.to_string().contains("`a` twice"), "{error}");
}

#[test]
fn a_parameter_that_stops_being_finite_is_named() {
    let parameters = parameters();
    let mut optimizer = optimizer(&parameters, &Sgd::new(0.1).momentum(0.9));
    let mut grads = grads(&parameters, &["a", "b", "c"]);
    let bad = Tensor::new(&[0f32, f32::INFINITY], &Device::Cpu).unwrap();
    grads.insert(parameters.get("b").unwrap().var(), bad);
    let error = optimizer.step(&grads).unwrap_err();
    assert!(matches!(&error, Error::NotFinite { parameter } if parameter == "b"), "{error}");
}

#[test]
fn late_parameters_begin_their_own_count() {
    let parameters = parameters();
    let [early, late] = ParamGroup::new(parameters.trainable()).split_by_prefix("a");
    let mut optimizer = PerParameter::new(Adam::new(0.1)).unwrap();
    optimizer.add(vec![early]).unwrap();
    optimizer.step(&grads(&parameters, &["a"])).unwrap();
    optimizer.add(vec![late]).unwrap();
    optimizer.step(&grads(&parameters, &["a", "b", "c"])).unwrap();
    // Adam's first step is as long as its rate; with the others' count it would be shorter.
    assert!((first_value(&parameters, "b") - 0.9).abs() < 1e-5);
    let state = optimizer.state().unwrap();
    let steps = |path: &str| state[&key("step", path)].to_scalar::<i64>().unwrap();
    assert_eq!((steps("a"), steps("b")), (2, 1));
}

#[test]
fn state_that_does_not_fit_is_refused() {
    let parameters = parameters();
    let config = Adam::new(0.1);
    let mut trained = optimizer(&parameters, &config);
    trained.step(&grads(&parameters, &["a", "b", "c"])).unwrap();
    let state = trained.state().unwrap();
    let check = |change: &dyn Fn(&mut BTreeMap<String, Tensor>), expected: &str| {
        let mut state = state.clone();
        change(&mut state);
        let error = optimizer(&parameters, &config).load_state(&state).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    };
    let [scalar, negative] = [1i64, -1].map(|n| Tensor::new(n, &Device::Cpu).unwrap());
    check(&|state| _ = state.remove("exp_avg.b"), "`optimizer.exp_avg.b` is missing");
    check(
        &|state| _ = state.insert("exp_avg.b".into(), scalar.clone()),
        "`optimizer.exp_avg.b` is [] of I64, expected [2] of F32",
    );
    check(
        &|state| _ = state.insert("step.d".into(), scalar.clone()),
        "`optimizer.step.d` belongs to no parameter",
    );
    check(
        &|state| _ = state.insert("step.a".into(), negative.clone()),
        "`optimizer.step.a` is not a positive whole number",
    );
    optimizer(&parameters, &config).load_state(&state).unwrap();
}
