//! Variants of a recipe: what a sweep trains one after the other to compare.

use std::collections::BTreeSet;

use candle_vision::registry::did_you_mean;
use toml::{Table, Value};

use crate::error::At;
use crate::recipe::merge;
use crate::{Error, IMAGENET, Recipe, Registry, Result};

/// One variant of a recipe: a name and a whole recipe.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Variant {
    /// The name, which is that of its run.
    pub name: String,
    /// The recipe with the settings of the variant, and without variants of its own.
    pub recipe: Recipe,
}

/// The tables `[[variants]]` of a recipe file, by name.
pub(crate) fn take_variants(settings: &mut Table) -> Result<Vec<(String, Table)>> {
    let tables = match settings.remove("variants") {
        None => return Ok(Vec::new()),
        Some(Value::Array(tables)) => tables,
        Some(_) => return Err(not_tables()),
    };
    let mut variants = Vec::new();
    for table in tables {
        let Value::Table(mut table) = table else { return Err(not_tables()) };
        let name = match table.remove("name") {
            Some(Value::String(name)) => name,
            Some(_) => return Err(Error::invalid("the `name` of a variant is a text")),
            None => architecture(&table).ok_or_else(|| {
                Error::invalid(
                    "a variant has neither a `name` nor a `model.architecture` to be called by",
                )
            })?,
        };
        variants.push((name, table));
    }
    check_names(variants.iter().map(|(name, _)| name.as_str()))?;
    Ok(variants)
}

fn not_tables() -> Error {
    Error::invalid("`variants` are tables: write [[variants]] in front of the settings of each")
}

fn architecture(table: &Table) -> Option<String> {
    Some(table.get("model")?.get("architecture")?.as_str()?.to_owned())
}

/// A name is that of a folder, and each has its own.
fn check_names<'a>(names: impl Iterator<Item = &'a str>) -> Result<()> {
    let mut seen = BTreeSet::new();
    for name in names {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if name.is_empty() || name.starts_with('.') || !name.chars().all(plain) {
            return Err(Error::invalid(format!(
                "`{name}` cannot be the name of a variant; use letters, digits, `-`, `_` and `.`"
            )));
        }
        if !seen.insert(name) {
            return Err(Error::invalid(format!("`{name}` is named twice; each is trained once")));
        }
    }
    Ok(())
}

impl Recipe {
    /// The variants that the recipe lists as `[[variants]]`, in its order. There are none in most recipes.
    ///
    /// ```
    /// use candle_vision_recipe::Recipe;
    ///
    /// let recipe = Recipe::parse(
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
    ///     [[variants]]
    ///     model.architecture = "gap_cnn_deep"
    ///     [[variants]]
    ///     name = "slow"
    ///     training.optimizer.lr = 0.001
    ///     "#,
    /// )?;
    /// let names: Vec<String> = recipe.variants()?.into_iter().map(|variant| variant.name).collect();
    /// assert_eq!(names, ["gap_cnn_deep", "slow"]);
    /// # Ok::<(), candle_vision_recipe::Error>(())
    /// ```
    ///
    /// # Errors
    /// If the settings of a variant do not fit the recipe.
    pub fn variants(&self) -> Result<Vec<Variant>> {
        let listed = self.variants.iter();
        listed.map(|(name, changes)| self.variant(name, changes.clone())).collect()
    }

    /// One variant for each name: the variant that the recipe calls so, or else the network of that name in place of the
    /// recipe's. If the recipe starts from weights, another network starts from its published ones
    /// ([`IMAGENET`]).
    ///
    /// # Errors
    /// If there is neither a variant nor a network of a name (the message suggests near ones), or a name is there twice.
    pub fn for_networks(&self, names: &[String], registry: &Registry) -> Result<Vec<Variant>> {
        check_names(names.iter().map(String::as_str))?;
        names.iter().map(|name| self.for_network(name, registry)).collect()
    }

    fn for_network(&self, name: &str, registry: &Registry) -> Result<Variant> {
        if let Some((name, changes)) = self.variants.iter().find(|(listed, _)| listed == name) {
            return self.variant(name, changes.clone());
        }
        if registry.networks.get(name).is_err() {
            let listed = self.variants.iter().map(|(name, _)| name.as_str());
            let near = did_you_mean(name, listed.chain(registry.networks.names()));
            return Err(Error::invalid(format!("no network is called `{name}`{near}")));
        }
        let own = self.settings()?.model;
        let mut recipe = self.variant(name, Table::new())?.recipe;
        if own.architecture != name {
            recipe.set_value("model.architecture", name)?;
            if !own.weights.is_empty() {
                recipe.set_value("model.weights", IMAGENET)?;
            }
        }
        Ok(Variant { name: name.to_owned(), recipe })
    }

    fn variant(&self, name: &str, changes: Table) -> Result<Variant> {
        let mut recipe = self.clone();
        recipe.variants.clear();
        merge(&mut recipe.settings, changes);
        recipe.settings().at(|| format!("in the variant `{name}`"))?;
        Ok(Variant { name: name.to_owned(), recipe })
    }

    /// The recipe for a start from scratch: what it says for a machine without the weights. If it does not say, the same
    /// settings without weights and without frozen epochs, in which nothing but the head of a random network would learn.
    ///
    /// # Errors
    /// If the changes do not fit the settings.
    pub fn from_scratch(self) -> Result<Self> {
        let mut recipe = match self.clone().lacking_weights()? {
            Some(recipe) => recipe,
            None => {
                let mut recipe = self;
                if let Some(Value::Table(training)) = recipe.settings.get_mut("training") {
                    training.remove("freeze");
                }
                recipe
            }
        };
        recipe.set_value("model.weights", "")?;
        Ok(recipe)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECIPE: &str = r#"
        [data]
        source = "insects"
        batch_size = 8
        train = [{ op = "to_tensor" }]
        eval = [{ op = "to_tensor" }]
        [model]
        architecture = "resnet18"
        weights = "resnet18"
        image_size = 32
        [training]
        epochs = 2
        optimizer = { name = "adam", lr = 0.003 }
        freeze = { epochs = 1 }
        [without_weights.training]
        optimizer = { name = "adam", lr = 0.01 }
        [[variants]]
        model.architecture = "gap_cnn"
        model.weights = ""
        [[variants]]
        name = "sgd"
        training.optimizer = { name = "sgd", lr = 0.1 }
    "#;

    fn recipe() -> Recipe {
        Recipe::parse(RECIPE).unwrap()
    }

    fn networks(names: &[&str]) -> Result<Vec<Variant>> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        recipe().for_networks(&names, &Registry::standard())
    }

    #[test]
    fn a_variant_changes_what_it_names() {
        let variants = recipe().variants().unwrap();
        let of = |i: usize| (variants[i].name.as_str(), variants[i].recipe.settings().unwrap());
        let (name, settings) = of(0);
        assert_eq!((name, settings.model.architecture.as_str()), ("gap_cnn", "gap_cnn"));
        assert_eq!((settings.model.weights.as_str(), settings.training.epochs), ("", 2));
        let (name, settings) = of(1);
        assert_eq!((name, settings.model.architecture.as_str()), ("sgd", "resnet18"));
        // Another optimizer takes nothing over from the one before.
        assert_eq!(settings.training.optimizer.name, "sgd");
        assert!(variants[1].recipe.variants().unwrap().is_empty());
    }

    #[test]
    fn networks_start_from_their_own_weights() {
        let variants = networks(&["resnet18", "mobilenet_v2", "sgd"]).unwrap();
        let weights: Vec<String> = variants
            .iter()
            .map(|variant| variant.recipe.settings().unwrap().model.weights)
            .collect();
        assert_eq!(weights, ["resnet18", IMAGENET, "resnet18"]);
    }

    #[test]
    fn wrong_names_are_one_line() {
        let error = |names: &[&str]| networks(names).unwrap_err().one_line();
        let near = error(&["resnet81"]);
        assert!(near.contains("no network is called `resnet81`; did you mean"), "{near}");
        assert!(error(&["resnet18", "mlp", "resnet18"]).contains("`resnet18` is named twice"));
        assert!(error(&[""]).contains("cannot be the name"));
        assert!(error(&["../mlp"]).contains("cannot be the name"));
    }

    #[test]
    fn damaged_variants_are_refused_when_the_recipe_is_read() {
        for (variants, expected) in [
            ("[variants]\nname = 'a'", "[[variants]]"),
            ("[[variants]]\ntraining.epochs = 3", "neither a `name` nor a `model.architecture`"),
            ("[[variants]]\nname = 3", "is a text"),
            ("[[variants]]\nname = 'a'\n[[variants]]\nname = 'a'", "`a` is named twice"),
            ("[[variants]]\nname = 'a/b'", "cannot be the name"),
            ("[[variants]]\nname = 'a'\ntraining.epohcs = 3", "in the variant `a`"),
        ] {
            let (base, _) = RECIPE.split_once("[[variants]]").unwrap();
            let error = Recipe::parse(&format!("{base}\n{variants}")).unwrap_err().one_line();
            assert!(error.contains(expected), "{variants}: {error}");
        }
    }

    #[test]
    fn from_scratch_is_as_the_recipe_says_or_without_frozen_epochs() {
        let settings = recipe().from_scratch().unwrap().settings().unwrap();
        assert_eq!(settings.model.weights, "");
        assert!(settings.training.freeze.is_some());
        let silent = RECIPE.replace("without_weights", "without_data");
        let silent = Recipe::parse(&silent).unwrap().from_scratch().unwrap();
        let settings = silent.settings().unwrap();
        assert_eq!((settings.model.weights.as_str(), settings.training.freeze), ("", None));
    }
}
