//! The experiments, one recipe per file in `xtask/experiments`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::misuse::Misuse;
use crate::near::near;

/// The part of a recipe that this program reads. The `candle-vision` binary reads the rest.
#[derive(Debug, Deserialize)]
struct Header {
    description: String,
    #[serde(default)]
    variants: Vec<toml::Table>,
}

/// A recipe by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Recipe {
    pub(crate) name: String,
    pub(crate) path: PathBuf,
}

impl Recipe {
    /// Whether it lists variants, which are trained one after the other. A recipe that cannot be read lists none: whoever
    /// reads all of it says what is wrong.
    pub(crate) fn has_variants(&self) -> bool {
        let text = fs::read_to_string(&self.path).unwrap_or_default();
        toml::from_str::<Header>(&text).is_ok_and(|header| !header.variants.is_empty())
    }
}

/// The recipes in `folder`, sorted by name.
pub(crate) fn all(folder: &Path) -> Result<Vec<Recipe>> {
    let entries =
        fs::read_dir(folder).with_context(|| format!("cannot list `{}`", folder.display()))?;
    let mut recipes = Vec::new();
    for entry in entries {
        let path = entry.with_context(|| format!("cannot list `{}`", folder.display()))?.path();
        let is_recipe = path.extension().is_some_and(|extension| extension == "toml");
        if let (true, Some(name)) = (is_recipe, path.file_stem().and_then(|stem| stem.to_str())) {
            recipes.push(Recipe { name: name.to_owned(), path: path.clone() });
        }
    }
    recipes.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(recipes)
}

/// The recipe called `name`. An unknown name is misuse, and the error suggests similar names.
pub(crate) fn find<'a>(name: &str, recipes: &'a [Recipe]) -> Result<&'a Recipe> {
    if let Some(recipe) = recipes.iter().find(|recipe| recipe.name == name) {
        return Ok(recipe);
    }
    let names: Vec<&str> = recipes.iter().map(|recipe| recipe.name.as_str()).collect();
    let hint = match near(name, &names).as_slice() {
        [] => "`cargo xtask experiment` lists them".to_owned(),
        near => format!("did you mean {}?", near.join(" or ")),
    };
    Err(Misuse(format!("no experiment is called `{name}`; {hint}")).into())
}

/// One line per recipe: its name and its description, or why that cannot be read.
pub(crate) fn table(recipes: &[Recipe]) -> String {
    let width = recipes.iter().map(|recipe| recipe.name.len()).max().unwrap_or(0);
    let line = |recipe: &Recipe| {
        let description = fs::read_to_string(&recipe.path)
            .map_err(anyhow::Error::from)
            .and_then(|text| description(&text))
            .unwrap_or_else(|error| format!("(cannot be read: {error})"));
        format!("{:<width$}  {description}\n", recipe.name)
    };
    recipes.iter().map(line).collect()
}

fn description(recipe: &str) -> Result<String> {
    let header: Header =
        toml::from_str(recipe).map_err(|error| anyhow::anyhow!("{}", error.message()))?;
    Ok(header.description)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recipes() -> Vec<Recipe> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("experiments");
        all(&folder).unwrap()
    }

    #[test]
    fn the_project_s_recipes_are_listed_in_order_with_their_descriptions() {
        let recipes = recipes();
        assert!(recipes.iter().any(|recipe| recipe.name == "resnet18"));
        assert!(recipes.is_sorted_by(|a, b| a.name < b.name));
        let table = table(&recipes);
        assert_eq!(table.lines().count(), recipes.len());
        assert!(!table.contains("cannot be read"), "{table}");
    }

    #[test]
    fn a_recipe_without_a_description_is_named_and_does_not_hide_the_others() {
        assert_eq!(description("description = \"a\"\nepochs = 3").unwrap(), "a");
        let error = description("epochs = 3").unwrap_err().to_string();
        assert!(error.contains("description"), "{error}");
        let missing =
            Recipe { name: "gone".to_owned(), path: PathBuf::from("no/such/recipe.toml") };
        assert!(table(&[missing]).contains("gone  (cannot be read"));
    }

    #[test]
    fn an_unknown_name_is_misuse_with_a_hint() {
        let recipes = recipes();
        assert_eq!(find("resnet18", &recipes).unwrap().name, "resnet18");
        let error = find("resnet81", &recipes).unwrap_err();
        assert!(error.downcast_ref::<Misuse>().is_some());
        assert!(error.to_string().contains("did you mean resnet18"), "{error}");
        let error = find("xyzzy", &recipes).unwrap_err().to_string();
        assert!(error.contains("lists them"), "{error}");
    }

    #[test]
    fn series_are_told_from_single_runs() {
        let recipes = recipes();
        let has_variants = |name: &str| find(name, &recipes).unwrap().has_variants();
        assert!(has_variants("cifar10-degradation") && has_variants("cifar10-compare"));
        assert!(!has_variants("cifar10-resnet18"));
    }

    #[test]
    fn a_missing_folder_is_named() {
        let error = all(Path::new("no/such/folder")).unwrap_err().to_string();
        assert!(error.contains("no/such/folder"), "{error}");
    }
}
