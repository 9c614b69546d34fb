//! What PyTorch's values do not show: rates from outside, saved state, descriptions.

use std::f64::consts::PI;
use std::sync::Arc;

use super::*;

fn learning_rate(schedule: impl Schedule + 'static, base_lr: f64, epochs: usize) -> LearningRate {
    let run = RunLength { epochs, steps_per_epoch: 1 };
    LearningRate::new(Arc::new(schedule), base_lr, run).unwrap()
}

fn step(lr: &mut LearningRate) {
    lr.step(&EpochRecord::new(1), &Measured::default()).unwrap();
}

fn rates(mut lr: LearningRate, count: usize) -> Vec<f64> {
    let next = |_| {
        let rate = lr.lr();
        step(&mut lr);
        rate
    };
    (0..count).map(next).collect()
}

#[track_caller]
fn assert_close(rates: &[f64], expected: &[f64]) {
    assert_eq!(rates.len(), expected.len());
    for (a, b) in rates.iter().zip(expected) {
        assert!((a - b).abs() < 1e-12, "{rates:?}, expected {expected:?}");
    }
}

#[test]
fn a_cosine_without_length_ends_with_the_run() {
    let schedule = CosineAnnealingLr::new().warmup(2).start_factor(0.5);
    let cosine = |epoch: f64| 0.05 * (1.0 + (PI * epoch / 4.0).cos());
    let expected = [0.05, 0.075, 0.1, cosine(1.0), cosine(2.0), cosine(3.0), 0.0];
    assert_close(&rates(learning_rate(schedule, 0.1, 6), 7), &expected);
}

#[test]
fn a_rate_from_outside_is_gone_on_from() {
    let mut lr = learning_rate(StepLr::new(2, 0.1), 0.1, 10);
    step(&mut lr);
    lr.set_lr(0.05);
    assert_close(&rates(lr, 4), &[0.05, 0.005, 0.005, 0.0005]);
}

#[test]
fn a_rate_set_in_a_warm_up_is_climbed_to() {
    let mut lr = learning_rate(Constant::new().warmup(4).start_factor(0.2), 1.0, 10);
    step(&mut lr);
    lr.set_lr(0.1);
    assert_close(&rates(lr, 5), &[0.04, 0.06, 0.08, 0.1, 0.1]);
}

#[test]
fn a_cosine_of_one_epoch_falls_and_climbs() {
    let lr = learning_rate(CosineAnnealingLr::new().t_max(1), 0.1, 10);
    assert_close(&rates(lr, 5), &[0.1, 0.0, 0.1, 0.0, 0.1]);
}

#[test]
fn saved_state_goes_on_bit_for_bit() {
    let schedule = || CosineAnnealingLr::new().t_max(7).eta_min(1e-5);
    let mut whole = learning_rate(schedule(), 0.1, 10);
    (0..5).for_each(|_| step(&mut whole));
    let saved = serde_json::to_string(whole.state()).unwrap();
    let mut resumed = learning_rate(schedule(), 0.1, 10);
    resumed.load_state(serde_json::from_str(&saved).unwrap());
    assert_eq!(rates(whole, 20), rates(resumed, 20));
}

fn read(text: &str) -> Result<Box<dyn Schedule>> {
    let description: Description = toml::from_str(text).unwrap();
    Schedules::standard().build(&description)
}

#[test]
fn a_description_gives_itself_back() {
    for text in [
        "name = 'constant'",
        "name = 'step_lr'\nstep_size = 7\ngamma = 0.1",
        "name = 'cosine_annealing_lr'\n[warmup]\nepochs = 5\nstart_factor = 0.01",
        "name = 'reduce_lr_on_plateau'\nmode = 'max'\nfactor = 0.5\npatience = 3",
        "name = 'one_cycle_lr'\npct_start = 0.2\nanneal_strategy = 'linear'",
    ] {
        let schedule = read(text).unwrap();
        schedule.validate(0.1).unwrap();
        let whole = schedule.describe().unwrap();
        let again = Schedules::standard().build(&whole).unwrap().describe().unwrap();
        assert_eq!(again, whole, "{text}");
        assert_eq!(
            toml::from_str::<Description>(&toml::to_string(&whole).unwrap()).unwrap(),
            whole
        );
    }
    let built = CosineAnnealingLr::new().warmup(5).start_factor(0.01);
    let text = "name = 'cosine_annealing_lr'\nwarmup = { epochs = 5, start_factor = 0.01 }";
    assert_eq!(read(text).unwrap().describe(), built.describe());
}

#[test]
fn unknown_names_and_settings_are_named() {
    for (text, named) in [
        ("name = 'step'\nstep_size = 7", "no schedule is called `step`"),
        ("name = 'step_lr'\nstep_size = 7\ngama = 0.1", "did you mean `gamma`"),
        ("name = 'constant'\ngamma = 0.1", "gamma"),
        ("name = 'constant'\n[warmup]\nepochs = 5\nstart = 0.1", "start"),
    ] {
        let error = read(text).unwrap_err().to_string();
        assert!(error.contains(named), "{text}: {error}");
    }
}

#[test]
fn impossible_values_are_named() {
    for (text, named) in [
        ("name = 'step_lr'\nstep_size = 0", "`schedule.step_size` is 0"),
        ("name = 'step_lr'\nstep_size = 1\ngamma = -1.0", "`schedule.gamma` is -1"),
        ("name = 'cosine_annealing_lr'\nt_max = 0", "`schedule.t_max` is 0"),
        ("name = 'cosine_annealing_lr'\neta_min = 1.0", "`schedule.eta_min` is 1"),
        ("name = 'reduce_lr_on_plateau'\nfactor = 1.0", "`schedule.factor` is 1"),
        ("name = 'constant'\n[warmup]\nepochs = 0", "`schedule.warmup.epochs` is 0"),
        ("name = 'one_cycle_lr'\npct_start = 1.5", "`schedule.pct_start` is 1.5"),
        ("name = 'one_cycle_lr'\ndiv_factor = 0.5", "`schedule.div_factor` is 0.5"),
        ("name = 'one_cycle_lr'\n[warmup]\nepochs = 5", "`schedule.warmup.epochs` is 5"),
    ] {
        let error = read(text).unwrap().validate(0.1).unwrap_err().to_string();
        assert!(error.starts_with(named), "{error}");
    }
}
