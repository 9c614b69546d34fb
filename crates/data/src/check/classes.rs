//! The sizes of the classes, and names that mean the same.

use std::collections::BTreeMap;

use serde::Serialize;
use unicode_normalization::UnicodeNormalization;

use super::files::CheckedFile;
use crate::dataset::Split;

/// Number of images of a class that can be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ClassCounts {
    /// Its name.
    pub name: String,
    /// Images to train on.
    pub train: usize,
    /// Images to validate on.
    pub val: usize,
    /// Images to test on.
    pub test: usize,
    /// Images in a folder that is not split.
    pub not_split: usize,
}

impl ClassCounts {
    /// All images of the class.
    pub fn total(&self) -> usize {
        self.train + self.val + self.test + self.not_split
    }

    /// The images that can come into training.
    pub fn trainable(&self) -> usize {
        self.train + self.not_split
    }
}

/// Counts the images of each class, sorted by name. A class whose files all are unreadable has 0.
pub(super) fn count(files: &[CheckedFile]) -> Vec<ClassCounts> {
    let mut classes: BTreeMap<&str, ClassCounts> = BTreeMap::new();
    for file in files {
        let Some(name) = &file.class else { continue };
        let none = || ClassCounts { name: name.clone(), train: 0, val: 0, test: 0, not_split: 0 };
        let counts = classes.entry(name).or_insert_with(none);
        let place = match file.split {
            Some(Split::Train) => &mut counts.train,
            Some(Split::Val) => &mut counts.val,
            Some(Split::Test) => &mut counts.test,
            None => &mut counts.not_split,
        };
        *place += usize::from(file.image().is_some());
    }
    classes.into_values().collect()
}

/// Groups of names that differ only in case, spaces, punctuation or the form of their characters.
pub(super) fn collisions(classes: &[ClassCounts]) -> Vec<Vec<&ClassCounts>> {
    let mut groups: BTreeMap<String, Vec<&ClassCounts>> = BTreeMap::new();
    for class in classes {
        groups.entry(meaning(&class.name)).or_default().push(class);
    }
    groups.into_values().filter(|names| names.len() > 1).collect()
}

/// What is left of a name without case, spaces and punctuation, with characters in their compatible form. A name of
/// nothing else stays as it is.
fn meaning(name: &str) -> String {
    let plain: String = name
        .nfkc()
        .flat_map(char::to_lowercase)
        .filter(|c| c.is_alphanumeric() || is_mark(*c))
        .collect();
    if plain.is_empty() { name.to_owned() } else { plain }
}

/// Whether a character is a sign of its own that is neither letter nor punctuation: an emoji, `+`, or a combining accent.
fn is_mark(c: char) -> bool {
    let is_invisible = matches!(c, '\u{200B}'..='\u{200F}' | '\u{FE00}'..='\u{FE0F}' | '\u{FEFF}');
    (!c.is_ascii() && !c.is_whitespace() && !is_invisible) || matches!(c, '+' | '#')
}

/// A name with its invisible characters made visible.
pub(super) fn shown(name: &str) -> String {
    let visible = |c: char| match c {
        ' ' => "␠".to_owned(),
        c if c.is_whitespace() || c.is_control() || ('\u{200B}'..='\u{200F}').contains(&c) => {
            format!("<U+{:04X}>", u32::from(c))
        }
        c => c.to_string(),
    };
    name.chars().map(visible).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_mean_the_same_are_found() {
        for (a, b) in [
            ("Ants", "ants"),
            ("ant ", "ant"),
            ("sea_lion", "Sea Lion"),
            ("sea-lion", "sealion"),
            ("ｃａｔ", "cat"),
            ("cat\u{200B}", "cat"),
        ] {
            assert_eq!(meaning(a), meaning(b), "{a:?} {b:?}");
        }
        for (a, b) in
            [("ant", "ants"), ("c", "c++"), ("猫", "犬"), ("🐱", "🐶"), ("_", "-"), ("1", "2")]
        {
            assert_ne!(meaning(a), meaning(b), "{a:?} {b:?}");
        }
        assert_eq!(shown("ant \u{200B}"), "ant␠<U+200B>");
    }
}
