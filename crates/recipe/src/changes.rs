//! Which settings of a run may change when it goes on, and the record of those that did.

use std::collections::BTreeMap;

use candle_vision::models::is_under;
use candle_vision::train::RunFolder;
use toml::Value;

use crate::settings::Settings;
use crate::{Error, Result};

/// Settings, or tables of them, that decide none of the numbers which come, only how many. Another way of summing gradients
/// between cards (`collectives`) may change last bits, as another device does.
const MAY_CHANGE: [&str; 16] = [
    "training.epochs",
    "training.early_stop",
    "training.check_gradients",
    "training.gradient_norms",
    "training.distributed.optimizer_state",
    "training.distributed.collectives",
    "data.workers",
    "data.on_device",
    "data.path",
    "data.val_list",
    "data.dir",
    "data.max_pixels",
    "data.decoded",
    "data.skip_broken",
    "description",
    "score",
];

/// A setting that is not what it was.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    key: String,
    before: Option<Value>,
    now: Option<Value>,
}

/// All that differs, by the settings' names.
///
/// # Errors
/// If a setting differs that must not.
pub fn between(before: &Settings, now: &Settings) -> Result<Vec<Change>> {
    let (before, now) = (flat(before)?, flat(now)?);
    let mut keys: Vec<&String> = before.keys().chain(now.keys()).collect();
    keys.sort();
    keys.dedup();
    let mut changes = Vec::new();
    for key in keys.into_iter().filter(|key| before.get(*key) != now.get(*key)) {
        let (before, now) = (before.get(key).cloned(), now.get(key).cloned());
        let change = Change { key: key.clone(), before, now };
        if !MAY_CHANGE.iter().any(|allowed| is_under(key, allowed)) {
            return Err(Error::invalid(format!(
                "`{}` cannot change when a run goes on ({}): {}; only {} may change; start a new run \
                 for another value",
                change.key,
                change.told(),
                why(key),
                MAY_CHANGE.join(", ")
            )));
        }
        changes.push(change);
    }
    Ok(changes)
}

fn why(key: &str) -> &'static str {
    match key {
        "training.seed" => "it decides every random draw",
        "training.precision" => "it decides how every step is rounded",
        _ if key.starts_with("conv.") => "it decides how every step is rounded",
        _ if key.starts_with("model.") => "the saved weights are those of this network",
        _ if key.starts_with("data.") => "it decides which batches come",
        _ => "it decides what every step does",
    }
}

impl Change {
    /// `4 now, 2 before`.
    pub fn told(&self) -> String {
        let text = |value: &Option<Value>| {
            value.as_ref().map_or_else(|| "not set".to_owned(), |value| value.to_string())
        };
        format!("{} now, {} before", text(&self.now), text(&self.before))
    }

    /// The setting's name, with dots.
    pub fn key(&self) -> &str {
        &self.key
    }
}

/// The values of all settings by their dotted names, defaults included.
fn flat(settings: &Settings) -> Result<BTreeMap<String, Value>> {
    let table = Value::try_from(settings)
        .map_err(|error| Error::invalid(format!("the settings cannot be compared: {error}")))?;
    let mut values = BTreeMap::new();
    flatten(String::new(), table, &mut values);
    Ok(values)
}

fn flatten(key: String, value: Value, values: &mut BTreeMap<String, Value>) {
    let Value::Table(table) = value else {
        values.insert(key, value);
        return;
    };
    for (name, value) in table {
        let key = if key.is_empty() { name } else { format!("{key}.{name}") };
        flatten(key, value, values);
    }
}

/// Writes the settings that a run goes on with to its `config.toml`, and says there what changed. Those it had are kept beside it,
/// as `config-1.toml`, `config-2.toml` and so on.
///
/// # Errors
/// If the folder cannot be written to.
pub fn record(
    folder: &RunFolder,
    settings: &Settings,
    changes: &[Change],
    epochs: usize,
) -> Result<()> {
    let path = folder.path().join("config.toml");
    let before = std::fs::read(&path).map_err(Error::io("read", &path))?;
    let names = (1..).map(|number: u32| format!("config-{number}.toml"));
    let mut free = names.filter(|name| !folder.path().join(name).exists());
    let kept = free.next().expect("there are more numbers than files");
    folder.write(&kept, &before)?;
    let mut text =
        format!("# After epoch {epochs} the run went on with changed settings ({kept} has");
    text += " those it had until then):\n";
    for change in changes {
        text += &format!("# {}: {}\n", change.key, change.told().replace('\n', " "));
    }
    text += "\n";
    text += &settings.to_toml()?;
    folder.write("config.toml", text.as_bytes())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::Recipe;

    const RECIPE: &str = r#"
        [data]
        source = "insects"
        batch_size = 8
        train = [{ op = "to_tensor" }]
        eval = [{ op = "to_tensor" }]
        [model]
        architecture = "gap_cnn"
        image_size = 32
        [training]
        epochs = 2
        optimizer = { name = "adam", lr = 0.003 }
    "#;

    fn changed(assignments: &[&str]) -> Result<Vec<Change>> {
        let recipe = Recipe::parse(RECIPE)?;
        let mut now = recipe.clone();
        assignments.iter().try_for_each(|assignment| now.set(assignment))?;
        between(&recipe.settings()?, &now.settings()?)
    }

    #[test]
    fn what_decides_no_number_may_change() -> Result<()> {
        let changes = changed(&["training.epochs=4", "training.early_stop.patience=3"])?;
        let told: Vec<String> =
            changes.iter().map(|change| format!("{}: {}", change.key, change.told())).collect();
        assert!(told.contains(&"training.epochs: 4 now, 2 before".to_owned()), "{told:?}");
        let patience = "training.early_stop.patience: 3 now, not set before".to_owned();
        assert!(told.contains(&patience), "{told:?}");
        let places = ["data.path=a", "data.dir=a", "data.val_list=a", "data.decoded=a"];
        let others =
            ["data.workers=0", "data.skip_broken=true", "data.max_pixels=9", "description=x"];
        for free in places.into_iter().chain(others) {
            assert_eq!(changed(&[free])?.len(), 1, "{free}");
        }
        assert!(changed(&["training.epochs=2", "data.workers=2"])?.is_empty());
        Ok(())
    }

    #[test]
    fn what_decides_a_number_must_not() {
        for (assignment, reason) in [
            ("training.seed=1", "random draw"),
            ("training.precision=bf16", "rounded"),
            ("training.optimizer.lr=0.1", "every step"),
            ("training.schedule={name = \"step_lr\", step_size = 1}", "every step"),
            ("training.limit_batches=1", "every step"),
            ("training.epochs_more=1", "unknown field"),
            ("data.batch_size=4", "batches"),
            ("data.source=mnist", "batches"),
            ("data.train=[{op = \"grayscale\"}, {op = \"to_tensor\"}]", "batches"),
            ("model.architecture=mlp", "this network"),
            ("conv.exact=true", "rounded"),
        ] {
            let error = changed(&[assignment]).err().map(|error| error.one_line());
            assert!(error.as_ref().is_some_and(|error| error.contains(reason)), "{error:?}");
        }
    }
}
