use candle_core::{DType, Device};
use candle_vision_models::{Init, Parameters};

use super::*;
use crate::optim::{Adam, Sgd, UpdateRule as _};

/// `w` and `a.w`, of which one is the end of the other, and `b`. All are 1.
fn parameters() -> Parameters {
    let parameters = Parameters::new();
    let vb = parameters.builder(0, DType::F32, &Device::Cpu);
    for name in ["w", "a.w", "b"] {
        vb.weight(name, &[2], Init::Constant(1.0)).unwrap();
    }
    parameters
}

/// `w` and `b` by SGD with a rate of 0.1, `a.w` by Adam with a rate of 0.01.
fn optimizer(parameters: &Parameters) -> Grouped {
    let main = Sgd::new(0.1).momentum(0.5).optimizer(Vec::new()).unwrap();
    let adam = Description::from(Adam::new(0.01));
    let of_adam = Kind { optimizer: Some(adam.clone()), epochs: None };
    let others = [of_adam.clone(), of_adam];
    let mut optimizer = Grouped::new(Box::new(main), others, &Optimizers::standard()).unwrap();
    assert_eq!(optimizer.members.len(), 2);
    let [mut own, rest] = ParamGroup::new(parameters.trainable()).split_by_prefix("a");
    own.optimizer = Some(adam);
    optimizer.add(vec![own, rest]).unwrap();
    optimizer
}

fn grads(parameters: &Parameters, names: &[&str]) -> GradStore {
    let mut sum = Tensor::zeros(2, DType::F32, &Device::Cpu).unwrap();
    for name in names {
        sum = (sum + parameters.get(name).unwrap().var().as_tensor()).unwrap();
    }
    sum.sum_all().unwrap().backward().unwrap()
}

fn value(parameters: &Parameters, name: &str) -> f32 {
    parameters.get(name).unwrap().detached().to_vec1::<f32>().unwrap()[0]
}

const ALL: [&str; 3] = ["w", "a.w", "b"];

#[test]
fn each_group_moves_by_its_own_optimizer() {
    let parameters = parameters();
    let mut optimizer = optimizer(&parameters);
    optimizer.step(&grads(&parameters, &ALL)).unwrap();
    // Adam's first step is as long as its rate.
    let values = ALL.map(|name| value(&parameters, name));
    let far = values.iter().zip([0.9, 0.99, 0.9]).map(|(found, expected)| found - expected);
    assert!(far.clone().all(|far| far.abs() < 1e-6), "{values:?}");
    // A rate of twice the first one is twice the rate of every member.
    optimizer.set_lr(0.2);
    optimizer.step(&grads(&parameters, &ALL)).unwrap();
    assert!((value(&parameters, "a.w") - 0.97).abs() < 1e-5);
    assert!((value(&parameters, "w") - 0.6).abs() < 1e-6);
}

#[test]
fn the_state_finds_its_member_again() {
    let of_first = parameters();
    let mut first = optimizer(&of_first);
    first.step(&grads(&of_first, &ALL)).unwrap();
    let state = first.state().unwrap();
    let names: Vec<&str> = state.keys().map(String::as_str).collect();
    let expected = [
        "exp_avg.a.w",
        "exp_avg_sq.a.w",
        "momentum.b",
        "momentum.w",
        "step.a.w",
        "step.b",
        "step.w",
    ];
    assert_eq!(names, expected);
    let of_second = parameters();
    let mut second = optimizer(&of_second);
    second.load_state(&state).unwrap();
    for name in ALL {
        let tensor = of_first.get(name).unwrap().detached().copy().unwrap();
        of_second.get(name).unwrap().set(&tensor).unwrap();
    }
    for (optimizer, parameters) in [(&mut first, &of_first), (&mut second, &of_second)] {
        // A parameter that has moved may lack a gradient later.
        optimizer.step(&grads(parameters, &["w", "a.w"])).unwrap();
    }
    for name in ALL {
        assert_eq!(value(&of_first, name).to_bits(), value(&of_second, name).to_bits(), "{name}");
    }
    let mut foreign = state.clone();
    foreign.insert("step.c".to_owned(), Tensor::new(1i64, &Device::Cpu).unwrap());
    let error = second.load_state(&foreign).unwrap_err().to_string();
    assert!(error.contains("`optimizer.step.c` belongs to no parameter"), "{error}");
}

#[test]
fn a_cut_gradient_changes_nothing_in_any_member() {
    for missing in ALL {
        let parameters = parameters();
        let mut optimizer = optimizer(&parameters);
        let there: Vec<&str> = ALL.into_iter().filter(|name| *name != missing).collect();
        let error = optimizer.step(&grads(&parameters, &there)).unwrap_err();
        assert!(matches!(&error, Error::MissingGradient { parameter } if parameter == missing));
        assert_eq!(ALL.map(|name| value(&parameters, name)), [1.0; 3]);
        assert!(optimizer.state().unwrap().is_empty());
    }
}

#[test]
fn a_parameter_that_stops_being_finite_is_named() {
    let parameters = parameters();
    let mut optimizer = optimizer(&parameters);
    let mut grads = grads(&parameters, &ALL);
    let bad = Tensor::new(&[0f32, f32::INFINITY], &Device::Cpu).unwrap();
    grads.insert(parameters.get("a.w").unwrap().var(), bad);
    let error = optimizer.step(&grads).unwrap_err();
    assert!(matches!(&error, Error::NotFinite { parameter } if parameter == "a.w"), "{error}");
}

#[test]
fn an_optimizer_of_one_rule_refuses_a_group_with_another() {
    let parameters = parameters();
    let mut group = ParamGroup::new(parameters.trainable());
    group.optimizer = Some(Adam::new(0.1).into());
    let mut sgd = Sgd::new(0.1).optimizer(Vec::new()).unwrap();
    let error = sgd.add(vec![group]).unwrap_err().to_string();
    assert!(error.starts_with("`optimizer of a parameter group` is adam"), "{error}");
}
