//! Keys of recipes that have another name now. Recipes and run folders with the old ones are still read.

use toml::{Table, Value};

/// A table of the recipe, its key of earlier versions, and the one that it has now.
const KEYS: &[([&str; 2], &str)] = &[
    (["data", "train_pictures"], "train_images"),
    (["data", "val_pictures"], "val_images"),
    (["data", "picture_size"], "image_size"),
    (["score", "pictures"], "images"),
];

/// Tables whose `mode` also chose the metric: `min` the validation loss, `max` the validation accuracy.
const MONITORS: &[&[&str]] =
    &[&["training", "schedule"], &["training", "schedule", "decay"], &["training", "early_stop"]];

/// Renames what has an old name, and says so in one line each.
pub(crate) fn renamed(recipe: &mut Table) -> Vec<String> {
    let mut hints = Vec::new();
    for ([table, old], new) in KEYS {
        let Some(inner) = at(recipe, &[table]) else { continue };
        if inner.contains_key(*new) {
            continue;
        }
        if let Some(value) = inner.remove(*old) {
            inner.insert((*new).to_owned(), value);
            hints.push(format!("`{table}.{old}` is called `{table}.{new}` now; change it there"));
        }
    }
    for path in MONITORS {
        let Some(inner) = at(recipe, path) else { continue };
        let monitor = match inner.get("mode").and_then(Value::as_str) {
            Some("min") => "val_loss",
            Some("max") => "val_accuracy",
            _ => continue,
        };
        if inner.contains_key("monitor") {
            continue;
        }
        let old = inner.remove("mode");
        inner.insert("monitor".to_owned(), monitor.into());
        let (table, old) = (path.join("."), old.map_or_else(String::new, |old| old.to_string()));
        hints.push(format!(
            "`{table}.mode = {old}` is written `{table}.monitor = \"{monitor}\"` now; change it there"
        ));
    }
    hints
}

fn at<'t>(table: &'t mut Table, path: &[&str]) -> Option<&'t mut Table> {
    path.iter().try_fold(table, |table, key| table.get_mut(*key)?.as_table_mut())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_names_become_new_ones_with_a_hint() {
        let text = "[data]\ntrain_pictures = 3\n[training]\nearly_stop = { mode = 'max' }";
        let mut table: Table = toml::from_str(text).unwrap();
        let hints = renamed(&mut table);
        assert_eq!(hints.len(), 2, "{hints:?}");
        assert!(hints[0].contains("`data.train_images`"), "{hints:?}");
        assert!(hints[1].contains("monitor = \"val_accuracy\""), "{hints:?}");
        assert_eq!(table["data"]["train_images"].as_integer(), Some(3));
        let early_stop = table["training"]["early_stop"].as_table().unwrap();
        assert_eq!(early_stop.keys().collect::<Vec<_>>(), ["monitor"]);
        assert!(renamed(&mut table).is_empty());
    }

    #[test]
    fn the_direction_of_a_named_metric_stays() {
        let text = "[training]\nearly_stop = { monitor = 'my_error', mode = 'min' }";
        let mut table: Table = toml::from_str(text).unwrap();
        assert!(renamed(&mut table).is_empty());
    }
}
