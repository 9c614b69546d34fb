//! Entries of one kind by name.

use crate::{did_you_mean, one_line};

/// The most names that an error lists.
const MOST_SHOWN: usize = 20;

/// What a [`Table`] wants to know of an entry.
pub trait Entry {
    /// The name that recipes, checkpoints and command lines use.
    fn name(&self) -> &str;

    /// One line for people who choose among the entries.
    fn summary(&self) -> &str;
}

/// Entries of one kind, in the order in which they were added.
///
/// ```
/// use candle_vision_registry::{Entry, Table};
///
/// struct Greeting(&'static str, fn() -> String);
/// impl Entry for Greeting {
///     fn name(&self) -> &str { self.0 }
///     fn summary(&self) -> &str { "a greeting" }
/// }
///
/// let mut greetings = Table::new("greeting");
/// greetings.add(Greeting("hello", || "Hello!".to_owned()))?;
/// assert_eq!((greetings.get("hello")?.1)(), "Hello!");
///
/// let error = greetings.get("helo").err().unwrap();
/// assert_eq!(error.to_string(), "no greeting is called `helo`; did you mean `hello`?");
/// let error = greetings.add(Greeting("hello", String::new)).err().unwrap();
/// assert!(error.to_string().starts_with("there are two entries `hello` among the greetings"));
/// # Ok::<(), candle_vision_registry::TableError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Table<E> {
    kind: &'static str,
    entries: Vec<E>,
}

/// Why a name gives no entry, or an entry no name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TableError {
    /// Nothing is registered under this name.
    #[error("no {kind} is called `{}`{remedy}", one_line(name))]
    Unknown {
        /// What the table holds, such as `optimizer`.
        kind: &'static str,
        /// The name that was asked for.
        name: String,
        /// Near names, or all names, as the end of a sentence.
        remedy: String,
    },
    /// Something else is registered under this name.
    #[error(
        "there are two entries `{}` among the {kind}s; give yours another name",
        one_line(name)
    )]
    Duplicate {
        /// What the table holds.
        kind: &'static str,
        /// The name that both have.
        name: String,
    },
    /// The name could not be written in a recipe.
    #[error(
        "`{}` is no name for {kind}s; use letters, digits, `_`, `-`, `.` and `+`, with a letter first",
        one_line(name)
    )]
    BadName {
        /// What the table holds.
        kind: &'static str,
        /// The name.
        name: String,
    },
}

impl<E: Entry> Table<E> {
    /// An empty table. `kind` is one entry in words, such as `optimizer`; messages put an `s` behind it
    /// where they speak of several.
    pub fn new(kind: &'static str) -> Self {
        Self { kind, entries: Vec::new() }
    }

    /// A table of built-in entries.
    ///
    /// # Panics
    /// If two have the same name: that is a mistake in the program's own list.
    pub fn of(kind: &'static str, entries: impl IntoIterator<Item = E>) -> Self {
        let mut table = Self::new(kind);
        for entry in entries {
            table.add(entry).expect("the built-in names differ");
        }
        table
    }

    /// Adds an entry.
    ///
    /// # Errors
    /// If another entry has its name, or if the name could not be written in a recipe.
    pub fn add(&mut self, entry: E) -> Result<&mut Self, TableError> {
        let name = entry.name();
        let is_part = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '+');
        if !name.starts_with(char::is_alphabetic) || !name.chars().all(is_part) {
            return Err(TableError::BadName { kind: self.kind, name: name.to_owned() });
        }
        if self.entries.iter().any(|known| known.name() == name) {
            return Err(TableError::Duplicate { kind: self.kind, name: name.to_owned() });
        }
        self.entries.push(entry);
        Ok(self)
    }

    /// The entry called `name`.
    ///
    /// # Errors
    /// If there is none; the message says which kind of part was asked for and offers near names, or all
    /// names if none is near.
    pub fn get(&self, name: &str) -> Result<&E, TableError> {
        let found = self.entries.iter().find(|entry| entry.name() == name);
        found.ok_or_else(|| self.unknown(name))
    }

    /// Whether there is an entry called `name`.
    pub fn contains(&self, name: &str) -> bool {
        self.entries.iter().any(|entry| entry.name() == name)
    }

    /// The entries, in the order in which they were added.
    pub fn iter(&self) -> std::slice::Iter<'_, E> {
        self.entries.iter()
    }

    /// Their names, in the order in which they were added.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(Entry::name)
    }

    /// What one entry is, in words.
    pub fn kind(&self) -> &'static str {
        self.kind
    }

    /// Names and summaries as a Markdown table, for documentation that is made from the table.
    pub fn to_markdown(&self) -> String {
        let rows = self.entries.iter();
        let rows = rows.map(|entry| format!("| `{}` | {} |\n", entry.name(), entry.summary()));
        format!("| {} | what it is |\n|---|---|\n{}", self.kind, rows.collect::<String>())
    }

    fn unknown(&self, name: &str) -> TableError {
        let near = did_you_mean(name, self.names());
        let remedy = if near.is_empty() {
            let shown = self.names().take(MOST_SHOWN).collect::<Vec<_>>().join(", ");
            match self.entries.len() {
                count if count > MOST_SHOWN => format!("; known: {shown}, ... ({count} in all)"),
                _ => format!("; known: {shown}"),
            }
        } else {
            near
        };
        TableError::Unknown { kind: self.kind, name: name.to_owned(), remedy }
    }
}

impl<'a, E> IntoIterator for &'a Table<E> {
    type Item = &'a E;
    type IntoIter = std::slice::Iter<'a, E>;

    fn into_iter(self) -> Self::IntoIter {
        self.entries.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Named(&'static str);

    impl Entry for Named {
        fn name(&self) -> &str {
            self.0
        }

        fn summary(&self) -> &str {
            "something"
        }
    }

    #[test]
    fn names_that_no_recipe_could_hold_are_refused() {
        for name in ["", "1st", "a b", "a\nb", "`"] {
            let error = Table::new("part").add(Named(name)).map(|_| ()).unwrap_err();
            assert!(matches!(error, TableError::BadName { .. }), "{name}: {error}");
        }
        Table::new("part").add(Named("resnext50_32x4d")).unwrap();
        Table::new("part").add(Named("vit-b.16")).unwrap();
    }

    #[test]
    fn all_names_are_listed_where_none_is_near() {
        let table = Table::of("loss", [Named("cross_entropy"), Named("focal")]);
        let error = table.get("wasserstein").unwrap_err().to_string();
        assert_eq!(error, "no loss is called `wasserstein`; known: cross_entropy, focal");
    }

    #[test]
    fn documentation_is_made_from_the_entries() {
        let table = Table::of("loss", [Named("focal")]);
        assert_eq!(
            table.to_markdown(),
            "| loss | what it is |\n|---|---|\n| `focal` | something |\n"
        );
    }
}
