//! Recipe files: the settings of a run, what changes where data or weights are missing, and overrides.

use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use toml::{Table, Value};

use crate::settings::Settings;

/// A recipe as written: its settings, and the changes for a machine that lacks something.
#[derive(Debug, Clone)]
pub(crate) struct Recipe {
    settings: Table,
    without_data: Option<Table>,
    without_weights: Option<Table>,
}

impl Recipe {
    /// Reads a recipe file.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read the recipe `{}`", path.display()))?;
        Self::parse(&text).with_context(|| format!("in the recipe `{}`", path.display()))
    }

    /// Reads a recipe and checks every key in it, those for missing data and weights included.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let mut settings: Table = toml::from_str(text).map_err(|error| one_line(&error, text))?;
        let without_data = take_table(&mut settings, "without_data")?;
        let without_weights = take_table(&mut settings, "without_weights")?;
        let recipe = Self { settings, without_data, without_weights };
        recipe.settings()?;
        recipe.clone().lacking_data()?;
        recipe.clone().lacking_weights()?;
        Ok(recipe)
    }

    /// The settings, checked.
    pub(crate) fn settings(&self) -> Result<Settings> {
        let settings: Settings = Settings::deserialize(self.settings.clone())
            .map_err(|error| anyhow::anyhow!(flat(error.message())))?;
        Ok(settings)
    }

    /// The recipe for a machine without the data set; `None` when it has no such part.
    pub(crate) fn lacking_data(self) -> Result<Option<Self>> {
        self.changed_by(|recipe| recipe.without_data.take(), "without_data")
    }

    /// The recipe for a machine without the weights; `None` when it has no such part.
    pub(crate) fn lacking_weights(self) -> Result<Option<Self>> {
        self.changed_by(|recipe| recipe.without_weights.take(), "without_weights")
    }

    fn changed_by(
        mut self,
        take: impl Fn(&mut Self) -> Option<Table>,
        part: &str,
    ) -> Result<Option<Self>> {
        let Some(changes) = take(&mut self) else { return Ok(None) };
        merge(&mut self.settings, changes);
        self.settings().with_context(|| format!("in [{part}]"))?;
        Ok(Some(self))
    }

    /// Sets one value: `training.optimizer.lr=0.01`.
    pub(crate) fn set(&mut self, assignment: &str) -> Result<()> {
        let Some((key, value)) = assignment.split_once('=') else {
            bail!("`--set {assignment}` is not KEY=VALUE, for instance training.epochs=3")
        };
        self.set_value(key.trim(), parse_value(value.trim()))
            .and_then(|()| self.settings().map(|_| ()))
            .with_context(|| format!("in `--set {assignment}`"))
    }

    /// Sets the value at a dotted key.
    pub(crate) fn set_value(&mut self, key: &str, value: Value) -> Result<()> {
        let (parents, last) = key.rsplit_once('.').unwrap_or(("", key));
        let mut table = &mut self.settings;
        for parent in parents.split('.').filter(|parent| !parent.is_empty()) {
            let entry = table.entry(parent).or_insert_with(|| Value::Table(Table::new()));
            match entry {
                Value::Table(inner) => table = inner,
                _ => bail!("`{parent}` in `{key}` is a value, not a table"),
            }
        }
        table.insert(last.to_owned(), value);
        Ok(())
    }
}

/// TOML's own syntax where it fits (`3`, `0.1`, `true`, `[1, 2]`, `{ name = "adam" }`), else text.
fn parse_value(text: &str) -> Value {
    let table: Result<Table, _> = toml::from_str(&format!("value = {text}"));
    table.ok().and_then(|mut table| table.remove("value")).unwrap_or_else(|| text.into())
}

fn take_table(table: &mut Table, key: &str) -> Result<Option<Table>> {
    match table.remove(key) {
        None => Ok(None),
        Some(Value::Table(inner)) => Ok(Some(inner)),
        Some(_) => bail!("`{key}` is a table: write [{key}.data] and the like"),
    }
}

/// Lays `changes` over `base`. A table with a `name` is one choice (an optimizer, a schedule):
/// another name replaces it whole, because settings of one do not fit the other.
fn merge(base: &mut Table, changes: Table) {
    for (key, change) in changes {
        match (base.get_mut(&key), change) {
            (Some(Value::Table(old)), Value::Table(new)) if !is_other_choice(old, &new) => {
                merge(old, new);
            }
            (_, change) => {
                base.insert(key, change);
            }
        }
    }
}

fn is_other_choice(old: &Table, new: &Table) -> bool {
    new.contains_key("name") && old.get("name") != new.get("name")
}

/// A TOML syntax error as one line with its line number.
fn one_line(error: &toml::de::Error, text: &str) -> anyhow::Error {
    let line = error.span().map_or(1, |span| text[..span.start].matches('\n').count() + 1);
    anyhow::anyhow!("line {line}: {}", flat(error.message()))
}

fn flat(message: &str) -> String {
    message.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{ConvSettings, Source};

    const RECIPE: &str = r#"
        [data]
        source = "hymenoptera"
        batch_size = 32
        train = [{ op = "to_tensor" }]
        eval = [{ op = "to_tensor" }]
        [model]
        architecture = "resnet18"
        image_size = 224
        [training]
        epochs = 10
        optimizer = { name = "sgd", lr = 0.001, momentum = 0.9 }
        [without_data.data]
        source = "insects"
        [without_data.training]
        optimizer = { name = "adam", lr = 0.01 }
    "#;

    fn recipe() -> Recipe {
        Recipe::parse(RECIPE).expect("the recipe above is whole")
    }

    #[test]
    fn a_value_is_set_by_its_dotted_key() -> Result<()> {
        let mut recipe = recipe();
        recipe.set("training.epochs=3")?;
        recipe.set("data.source = insects")?;
        let settings = recipe.settings()?;
        assert_eq!(settings.training.epochs, 3);
        assert_eq!(settings.data.source, Source::Insects);
        Ok(())
    }

    #[test]
    fn convolutions_are_as_in_pytorch_unless_told_otherwise() -> Result<()> {
        let mut recipe = recipe();
        let ConvSettings { exact, tf32, benchmark } = recipe.settings()?.conv;
        assert!(!exact && tf32 && !benchmark);
        recipe.set("conv.tf32=false")?;
        assert!(!recipe.settings()?.conv.tf32);
        recipe.set("conv.exact=true")?;
        assert!(recipe.settings()?.conv.exact);
        recipe.set("conv.benchmark=true")?;
        assert!(recipe.settings()?.conv.benchmark);
        Ok(())
    }

    #[test]
    fn an_unknown_key_is_named() {
        let error = recipe().set("training.epohcs=3").expect_err("there is no such key");
        let text = format!("{error:#}");
        assert!(text.contains("training.epohcs=3") && text.contains("epohcs"), "{text}");
        assert!(!text.contains('\n'), "{text}");
    }

    #[test]
    fn an_unknown_key_for_missing_data_is_found_at_once() {
        let text = RECIPE.replace("source = \"insects\"", "source = \"insects\"\nbtach_size = 3");
        let error = Recipe::parse(&text).expect_err("there is no such key");
        assert!(format!("{error:#}").contains("btach_size"), "{error:#}");
    }

    #[test]
    fn another_optimizer_replaces_the_first_whole() -> Result<()> {
        let lacking = recipe().lacking_data()?.expect("the recipe has this part");
        let settings = lacking.settings()?;
        assert_eq!(settings.data.source, Source::Insects);
        assert_eq!(settings.data.batch_size, 32);
        Ok(())
    }

    #[test]
    fn a_syntax_error_names_its_line() {
        let error = Recipe::parse("[data]\nsource = \n").expect_err("a value is missing");
        assert!(error.to_string().starts_with("line 2"), "{error}");
    }

    /// The whole recipe of `docs/recipes.md`, and each of its single settings in that recipe.
    #[test]
    fn the_documentation_s_settings_are_settings() -> Result<()> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/recipes.md");
        let page = std::fs::read_to_string(path)?;
        let mut blocks =
            page.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next());
        let whole = Recipe::parse(blocks.next().context("the page begins with a recipe")?)?;
        whole.settings()?.training.validate()?;
        let mut count = 0;
        for line in blocks.flat_map(str::lines).filter(|line| line.contains(" = ")) {
            let line = line.split(" #").next().unwrap_or_default();
            let mut changed = whole.clone();
            // A table with a name is chosen as a whole.
            changed.set(line).with_context(|| line.to_owned())?;
            let settings = changed.settings()?;
            settings.training.validate().with_context(|| line.to_owned())?;
            settings.data.train.validate().with_context(|| line.to_owned())?;
            count += 1;
        }
        assert!(count > 30, "{count} settings");
        Ok(())
    }

    /// Each recipe that comes with the program, and what it becomes where data or weights lack.
    #[test]
    fn every_experiment_is_whole() -> Result<()> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../xtask/experiments");
        let mut count = 0;
        for entry in std::fs::read_dir(folder)? {
            let recipe = Recipe::read(&entry?.path())?;
            let forms = [
                Some(recipe.clone()),
                recipe.clone().lacking_data()?,
                recipe.clone().lacking_weights()?,
            ];
            for form in forms.into_iter().flatten() {
                let settings = form.settings()?;
                settings.training.validate()?;
                for transforms in [&settings.data.train, &settings.data.eval] {
                    transforms.validate()?;
                    let side = settings.model.image_size;
                    let size = transforms.output_size().unwrap_or((side, side));
                    assert_eq!(size, (side, side), "{}", settings.description);
                }
            }
            count += 1;
        }
        assert!(count >= 11, "{count} recipes");
        Ok(())
    }
}
