//! Recipe files: the settings of a run, what changes where data or weights are missing, and overrides.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::{Table, Value};

use crate::error::At;
use crate::renamed::renamed;
use crate::settings::Settings;
use crate::variants::take_variants;
use crate::{Error, Registry, Result};

/// The largest recipe, in bytes: a hundred times any that came up.
const MAX_BYTES: u64 = 1 << 20;

/// The largest number of bytes that the variants of a recipe may have, if each repeats the recipe, as each does in memory.
const MAX_VARIANTS_BYTES: usize = 32 << 20;

/// A recipe as written: its settings, and the changes for a machine that lacks something.
///
/// ```
/// use candle_vision_recipe::Recipe;
///
/// let mut recipe = Recipe::parse(
///     r#"
///     [data]
///     source = "insects"
///     batch_size = 8
///     train = [{ op = "to_tensor" }]
///     eval = [{ op = "to_tensor" }]
///     [model]
///     architecture = "gap_cnn"
///     image_size = 128
///     [training]
///     epochs = 2
///     optimizer = { name = "adam", lr = 0.003 }
///     "#,
/// )?;
/// recipe.set("training.epochs=3")?;
/// assert_eq!(recipe.settings()?.training.epochs, 3);
/// let error = recipe.set("training.epohcs=3").unwrap_err();
/// assert!(error.one_line().contains("epohcs"), "{error}");
/// # Ok::<(), candle_vision_recipe::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Recipe {
    pub(crate) settings: Table,
    /// Variants by name, as changes of the settings.
    pub(crate) variants: Vec<(String, Table)>,
    without_data: Option<Table>,
    without_weights: Option<Table>,
    hints: Vec<String>,
    /// Where it was read, for messages.
    path: Option<PathBuf>,
}

impl Recipe {
    /// Reads a recipe file.
    ///
    /// # Errors
    /// If it cannot be read, or as [`Recipe::parse`]; the message names the file.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let place = || format!("in the recipe `{}`", path.display());
        let size = std::fs::metadata(path).map_or(0, |metadata| metadata.len());
        if size > MAX_BYTES {
            let problem = format!("it has {size} bytes, more than any recipe; name another file");
            return Err(Error::invalid(problem)).at(place);
        }
        let text = std::fs::read_to_string(path)
            .map_err(Error::io("read", path))
            .at(|| "no recipe can be read there")?;
        let recipe = Self::parse(&text).at(place)?;
        Ok(Self { path: Some(path.to_path_buf()), ..recipe })
    }

    /// Reads a recipe and checks every key in it, those for missing data and weights included. Names of
    /// parts are looked up when the recipe is opened.
    ///
    /// # Errors
    /// If it is no TOML (the message names the line), or a key is unknown or has a value of another type.
    pub fn parse(text: &str) -> Result<Self> {
        let mut settings: Table = toml::from_str(text).map_err(|error| one_line(&error, text))?;
        let mut hints = Vec::new();
        let mut part = |settings: &mut Table, key: &str| -> Result<Option<Table>> {
            let mut table = take_table(settings, key)?;
            table.iter_mut().for_each(|table| hints.extend(renamed(table)));
            Ok(table)
        };
        let without_data = part(&mut settings, "without_data")?;
        let without_weights = part(&mut settings, "without_weights")?;
        let mut variants = take_variants(&mut settings)?;
        if variants.len().saturating_mul(text.len()) > MAX_VARIANTS_BYTES {
            let count = variants.len();
            return Err(Error::invalid(format!(
                "it has {count} variants, too many for its {} bytes; make several recipes of it",
                text.len()
            )));
        }
        variants.iter_mut().for_each(|(_, table)| hints.extend(renamed(table)));
        hints.extend(renamed(&mut settings));
        hints.dedup();
        let recipe = Self { settings, variants, without_data, without_weights, hints, path: None };
        recipe.settings()?;
        recipe.clone().lacking_data()?;
        recipe.clone().lacking_weights()?;
        recipe.variants()?;
        Ok(recipe)
    }

    /// The settings, checked.
    ///
    /// # Errors
    /// If a key is unknown or has a value of another type.
    pub fn settings(&self) -> Result<Settings> {
        Settings::deserialize(self.settings.clone())
            .map_err(|error| Error::invalid(flat(error.message())))
    }

    /// The settings with every named part looked up and every default filled in, see [`Settings::check`].
    ///
    /// # Errors
    /// As [`Recipe::settings`] and [`Settings::check`]; the message names the file that the recipe was read from.
    pub fn checked_settings(&self, registry: &Registry) -> Result<Settings> {
        let checked = self.settings().and_then(|mut settings| {
            settings.check(registry)?;
            Ok(settings)
        });
        match &self.path {
            Some(path) => checked.at(|| format!("in the recipe `{}`", path.display())),
            None => checked,
        }
    }

    /// One line for each key that the recipe calls by an older name.
    pub fn hints(&self) -> &[String] {
        &self.hints
    }

    /// The recipe for a machine without the data set; `None` when it has no such part.
    ///
    /// # Errors
    /// If the changes do not fit the settings.
    pub fn lacking_data(self) -> Result<Option<Self>> {
        self.changed_by(|recipe| recipe.without_data.take(), "without_data")
    }

    /// The recipe for a machine without the weights; `None` when it has no such part.
    ///
    /// # Errors
    /// If the changes do not fit the settings.
    pub fn lacking_weights(self) -> Result<Option<Self>> {
        self.changed_by(|recipe| recipe.without_weights.take(), "without_weights")
    }

    fn changed_by(
        mut self,
        take: impl Fn(&mut Self) -> Option<Table>,
        part: &str,
    ) -> Result<Option<Self>> {
        let Some(changes) = take(&mut self) else { return Ok(None) };
        merge(&mut self.settings, changes);
        self.settings().at(|| format!("in [{part}]"))?;
        Ok(Some(self))
    }

    /// Sets one value: `training.optimizer.lr=0.01`.
    ///
    /// # Errors
    /// If this is no `KEY=VALUE`, or the recipe has no such key.
    pub fn set(&mut self, assignment: &str) -> Result<()> {
        let Some((key, value)) = assignment.split_once('=') else {
            return Err(Error::invalid(format!(
                "`--set {assignment}` is not KEY=VALUE, for instance training.epochs=3"
            )));
        };
        self.set_value(key.trim(), parse_value(value.trim()))
            .and_then(|()| self.settings().map(|_| ()))
            .at(|| format!("in `--set {assignment}`"))
    }

    /// Sets the value at a dotted key.
    ///
    /// # Errors
    /// If a part of the key is a value and not a table.
    pub fn set_value(&mut self, key: &str, value: impl Into<Value>) -> Result<()> {
        let (parents, last) = key.rsplit_once('.').unwrap_or(("", key));
        let mut table = &mut self.settings;
        for parent in parents.split('.').filter(|parent| !parent.is_empty()) {
            let entry = table.entry(parent).or_insert_with(|| Value::Table(Table::new()));
            match entry {
                Value::Table(inner) => table = inner,
                _ => {
                    let problem = format!("`{parent}` in `{key}` is a value, not a table");
                    return Err(Error::invalid(problem));
                }
            }
        }
        table.insert(last.to_owned(), value.into());
        self.hints.extend(renamed(&mut self.settings));
        self.hints.dedup();
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
        Some(_) => {
            Err(Error::invalid(format!("`{key}` is a table: write [{key}.data] and the like")))
        }
    }
}

/// Lays `changes` over `base`. A table with a `name` is one choice (an optimizer, a schedule):
/// another name replaces it whole, because settings of one do not fit the other.
pub(crate) fn merge(base: &mut Table, changes: Table) {
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
fn one_line(error: &toml::de::Error, text: &str) -> Error {
    let before = error.span().and_then(|span| text.as_bytes().get(..span.start));
    let line = before.unwrap_or_default().iter().filter(|byte| **byte == b'\n').count() + 1;
    Error::invalid(format!("line {line}: {}", flat(error.message())))
}

fn flat(message: &str) -> String {
    message.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::BatchSize;
    use crate::settings::ConvSettings;

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
        assert_eq!(settings.data.source, "insects");
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
        let text = error.one_line();
        assert!(text.contains("training.epohcs=3") && text.contains("epohcs"), "{text}");
        assert!(!text.contains('\n'), "{text}");
    }

    #[test]
    fn an_unknown_key_for_missing_data_is_found_at_once() {
        let text = RECIPE.replace("source = \"insects\"", "source = \"insects\"\nbtach_size = 3");
        let error = Recipe::parse(&text).expect_err("there is no such key");
        assert!(error.one_line().contains("btach_size"), "{error}");
    }

    #[test]
    fn another_optimizer_replaces_the_first_whole() -> Result<()> {
        let lacking = recipe().lacking_data()?.expect("the recipe has this part");
        let settings = lacking.settings()?;
        assert_eq!(settings.data.source, "insects");
        assert_eq!(settings.data.batch_size, BatchSize::Images(32));
        Ok(())
    }

    #[test]
    fn a_syntax_error_names_its_line() {
        let error = Recipe::parse("[data]\nsource = \n").expect_err("a value is missing");
        assert!(error.to_string().starts_with("line 2"), "{error}");
    }
}
