//! Recipes as they are read and written, and what is refused.

use candle_vision_models::FrozenBatchNorm;

use super::*;
use crate::EpochRecord;
use crate::optim::Sgd;

const RECIPE: &str = r#"
    epochs = 40
    optimizer = { name = "adam", lr = 0.001, weight_decay = 0.0001 }
    schedule = { name = "reduce_lr_on_plateau", mode = "min", factor = 0.5, patience = 2 }
    freeze = { epochs = 5, unfreeze_lr = 0.0001, batch_norm = "keep_statistics" }
    early_stop = { patience = 4 }
    ema = { decay = 0.99, every = 5 }
    precision = "bf16"
    param_groups = [{ prefix = "layer4", lr = 0.0005 }]
"#;

/// Settings that came later.
const LATER: &str = r#"
    epochs = 4
    optimizer = { name = "muon", lr = 0.02 }
    param_groups = [{ pattern = "**.bias", optimizer = { name = "sgd", lr = 0.1 } }]
    ema = { decay = 0.8, power = 3.0, lookahead = true }
    tta = { name = "mirror_shift" }
    tta_epochs = 1
"#;

fn parse(text: &str) -> Result<TrainerConfig, toml::de::Error> {
    toml::from_str(text)
}

#[test]
fn a_recipe_is_read_and_written_unchanged() {
    let config = parse(RECIPE).unwrap();
    config.validate().unwrap();
    assert_eq!(config.freeze.as_ref().unwrap().batch_norm, FrozenBatchNorm::KeepStatistics);
    assert_eq!(config.precision, Precision::Bf16);
    assert_eq!(parse(&toml::to_string(&config).unwrap()).unwrap(), config);
    let json = serde_json::to_string(&config).unwrap();
    assert_eq!(serde_json::from_str::<TrainerConfig>(&json).unwrap(), config);
    let later = parse(LATER).unwrap();
    assert_eq!(parse(&toml::to_string(&later).unwrap()).unwrap(), later);
    let whole = later.with_defaults(&Parts::standard()).unwrap();
    assert_eq!(whole.param_groups[0].optimizer.as_ref().unwrap().settings["momentum"], 0.0);
    assert_eq!(whole.tta.as_ref().unwrap().settings["pixels"], 1);
    assert!(!toml::to_string(&config).unwrap().contains("tta"));
    let least = parse("epochs = 1\noptimizer = { name = 'sgd', lr = 0.1 }").unwrap();
    let least = least.with_defaults(&Parts::standard()).unwrap();
    assert_eq!(least, TrainerConfig::new(1, Sgd::new(0.1)));
}

#[test]
fn unknown_keys_are_refused_at_every_level() {
    for (old, new) in [
        ("epochs = 40", "epochs = 40\nepohcs = 3"),
        ("unfreeze_lr", "unfreze_lr"),
        ("patience = 4", "patience = 4, patince = 3"),
        ("every = 5", "evry = 5"),
        ("prefix =", "prefx ="),
    ] {
        let error = parse(&RECIPE.replace(old, new)).unwrap_err();
        assert!(error.message().contains("unknown field"), "{error}");
    }
}

#[test]
fn a_table_is_asked_for_by_example() {
    for (setting, example) in [
        ("freeze = 5", "{ epochs = 5 }"),
        ("early_stop = 5", "{ patience = 5 }"),
        ("ema = 0.99", "{ decay = 0.99 }"),
        ("tta = 'mirror'", "{ name = \"mirror\" }"),
        ("schedule = 'cosine'", "{ name = \"step_lr\", step_size = 7 }"),
        ("loss = 'focal'", "{ name = \"cross_entropy\", label_smoothing = 0.1 }"),
    ] {
        let text = format!("epochs = 1\noptimizer = {{ name = 'sgd', lr = 0.1 }}\n{setting}");
        let error = parse(&text).unwrap_err();
        assert!(error.message().contains(&format!("a table such as {example}")), "{error}");
    }
}

#[test]
fn impossible_values_are_named() {
    for (old, new, named) in [
        ("epochs = 40", "epochs = 0", "`epochs` is 0"),
        ("lr = 0.001", "lr = 0.0", "`optimizer.lr` is 0"),
        ("unfreeze_lr = 0.0001", "unfreeze_lr = 0.0", "`freeze.unfreeze_lr` is 0"),
        ("patience = 4", "patience = 0", "`early_stop.patience` is 0"),
        ("decay = 0.99", "decay = 1.0", "`ema.decay` is 1"),
        ("every = 5", "every = 0", "`ema.every` is 0"),
        ("factor = 0.5", "factor = 2.0", "`schedule.factor` is 2"),
        ("factor = 0.5", "factr = 0.5", "the settings of `reduce_lr_on_plateau` are wrong"),
        ("epochs = 40", "epochs = 40\nlabel_smoothing = 1.0", "`label_smoothing` is 1"),
        ("epochs = 40", "epochs = 40\nmonitor = 'top_5'", "`monitor` is top_5"),
        ("patience = 4", "patience = 4, monitor = 'val_acc'", "`early_stop.monitor` is val_acc"),
        ("lr = 0.0005", "lr = nan", "`lr of a parameter group` is NaN"),
        ("prefix = \"layer4\", ", "", "`prefix of a parameter group` is not given"),
        ("every = 5", "every = 5, power = 0.0", "`ema.power` is 0"),
        (
            "epochs = 40",
            "epochs = 40\ntta = { name = 'miror' }",
            "no test-time augmentation is called `miror`",
        ),
        ("epochs = 40", "epochs = 40\ntta_epochs = 2", "`tta_epochs` is 2"),
        (
            "epochs = 40",
            "epochs = 40\ntta = { name = 'mirror' }\ntta_epochs = 0",
            "`tta_epochs` is 0",
        ),
        ("prefix =", "optimizer = { name = 'sgd', lr = 0.0 }, prefix =", "`optimizer.lr` is 0"),
        ("epochs = 40", "epochs = 40\ngrad_clip_norm = -1.0", "`grad_clip_norm` is -1"),
        (
            "epochs = 40",
            "epochs = 40\nloss_scale = 1000",
            "`loss_scale` is 1000; it must be a power",
        ),
        ("epochs = 40", "epochs = 40\nlimit_batches = 0", "`limit_batches` is 0"),
    ] {
        let error = parse(&RECIPE.replace(old, new)).unwrap().validate().unwrap_err();
        assert!(error.to_string().starts_with(named), "{error}");
    }
}

#[test]
fn settings_of_the_loss_may_stand_where_they_used_to() {
    let old = "label_smoothing = 0.1\nclass_weights = [1.0, 2.0]";
    let new =
        "loss = { name = 'cross_entropy', label_smoothing = 0.1, class_weights = [1.0, 2.0] }";
    let [old, new] = [old, new].map(|loss| format!("{loss}\n{RECIPE}"));
    assert_eq!(parse(&old).unwrap(), parse(&new).unwrap());
    assert_eq!(parse(&format!("label_smoothing = 0.0\n{new}")).unwrap(), parse(&new).unwrap());
    let both = parse(&format!("label_smoothing = 0.2\n{new}")).unwrap_err();
    assert!(both.message().contains("settings of the loss"), "{both}");
}

#[test]
fn defaults_are_filled_in() {
    let parts = Parts::standard();
    let whole = parse(RECIPE).unwrap().with_defaults(&parts).unwrap();
    assert_eq!(whole.optimizer.settings["eps"], 1e-8);
    assert_eq!(whole.schedule.settings["monitor"], "val_loss");
    assert_eq!(whole.with_defaults(&parts).unwrap(), whole);
    assert_eq!(parse(&toml::to_string(&whole).unwrap()).unwrap(), whole);
}

fn epochs(losses: &[f64]) -> Vec<EpochRecord> {
    let record = |(i, &val_loss): (usize, &f64)| EpochRecord {
        val_loss,
        val_accuracy: 0.5,
        ..EpochRecord::new(i + 1)
    };
    losses.iter().enumerate().map(record).collect()
}

#[test]
fn patience_counts_epochs_without_improvement() {
    let is_reached = |stop: &EarlyStopConfig, losses: &[f64], forgiven| {
        let monitor = stop.monitored(&Measured::default()).unwrap();
        stop.is_reached(&monitor, &epochs(losses), forgiven)
    };
    let stop = EarlyStopConfig::new(2).min_delta(0.1);
    assert!(!is_reached(&stop, &[1.0, 1.0], 0));
    assert!(is_reached(&stop, &[1.0, 1.0, 0.95], 0));
    assert!(!is_reached(&stop, &[1.0, 1.0, 0.85], 0));
    assert!(!is_reached(&stop, &[1.0, 1.0, 0.85, 0.85], 0));
    let stopped = [1.0, 1.0, 0.95, 0.95];
    assert!(!is_reached(&stop, &stopped, 3) && is_reached(&stop, &stopped, 2));
    assert!(is_reached(&stop.clone().monitor("val_accuracy"), &[3.0, 2.0, 1.0], 0));
    let old: EarlyStopConfig = toml::from_str("patience = 2\nmode = 'max'").unwrap();
    assert_eq!(old, EarlyStopConfig::new(2).monitor("val_accuracy"));
}
