//! Recipes. They have a module of their own because their crate brings all others, with those that draw: a build for the other
//! parsers takes half as long without them.

use std::path::Path;
use std::sync::LazyLock;

use candle_vision_recipe::{Error, Recipe, Registry};

use super::parsers::{Parser, checked};

/// The parser of recipes.
pub const PARSER: Parser = Parser { name: "recipe", read: recipe };

static REGISTRY: LazyLock<Registry> = LazyLock::new(Registry::standard);

/// Recipes. What is behind the first zero byte is set as `--set` does.
pub fn recipe(bytes: &[u8], _: &Path) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let (text, assignment) = text.split_once('\0').unwrap_or((text, ""));
    let line = |error: Error| {
        let line = error.one_line();
        assert!(!line.is_empty() && !line.contains(char::is_control), "{line:?}");
    };
    let mut recipe = match Recipe::parse(text) {
        Ok(recipe) => recipe,
        Err(error) => return line(error),
    };
    if let Err(error) = recipe.variants() {
        line(error);
    }
    if !assignment.is_empty()
        && let Err(error) = recipe.set(assignment)
    {
        line(error);
    }
    match recipe.checked_settings(&REGISTRY) {
        Ok(settings) => {
            for transforms in [&settings.data.train, &settings.data.eval] {
                checked(transforms.build(&REGISTRY.transforms));
            }
        }
        Err(error) => line(error),
    }
}
