//! Words that were replaced by the field's own terms and must not come back.

/// A word, and the term that the project uses instead.
struct Refused {
    found: Found,
    instead: &'static str,
    /// Places where the word means something else: prefixes of paths.
    places: &'static [&'static str],
    /// Texts that contain the word and are correct.
    texts: &'static [&'static str],
}

/// What counts as the word. Upper and lower case are the same.
enum Found {
    /// These letters anywhere, even within a name.
    Letters(&'static str),
    /// One of these words, alone or as a part of a name: `taps` matches in `layer_taps`, but not in
    /// `tapset`.
    Words(&'static [&'static str]),
}

use Found::{Letters, Words};

const REFUSED: [Refused; 6] = [
    Refused {
        found: Letters("rectifier"),
        instead: "`ReLU`, or `activation` for any of them",
        places: &[],
        texts: &[],
    },
    Refused {
        found: Words(&["tap", "taps", "tapped", "tapping"]),
        instead: "`hook`",
        // In a convolution and in resampling, a tap is one weight of a kernel and its place.
        places: &["crates/kernels/", "crates/ops/src/", "crates/ops/tests/"],
        texts: &[],
    },
    // The line above lets it pass in the ops.
    Refused { found: Letters("LayerTap"), instead: "`LayerHook`", places: &[], texts: &[] },
    Refused {
        found: Letters("picture"),
        instead: "`image`",
        places: &[],
        // Keys of recipes and fields of run folders from older versions. They can still be read.
        texts: &["\"pictures\"", "train_pictures", "val_pictures", "picture_size"],
    },
    Refused {
        found: Letters("DecayConfig"),
        instead: "`ScheduleConfig` (decay is what weights do)",
        places: &[],
        texts: &[],
    },
    Refused {
        found: Letters("MayDiffer"),
        instead: "a name that says what happens to the head",
        places: &[],
        texts: &[],
    },
];

/// Refused phrases, which are unclear out of their context.
const PHRASES: [(&str, &str); 1] = [("a folder a class", "`one folder per class`")];

/// The changelog keeps its words, and so does this table.
const FREE: [&str; 2] = ["CHANGELOG.md", "xtask/src/tidy/words.rs"];

/// Whether words are checked in this file: whether it contains prose.
pub(super) fn are_checked_in(path: &str) -> bool {
    let is_text = [".rs", ".md", ".toml", ".html"].iter().any(|ending| path.ends_with(ending));
    let is_fixture = path.split('/').any(|part| part == "fixtures" || part == "reference");
    is_text && !is_fixture && !FREE.contains(&path)
}

/// Each refused word of a file, with its line and the replacement.
pub(super) fn check(path: &str, text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let mut fault = |word: &str, instead: &str| {
            let line = index + 1;
            faults.push(format!("`{path}` line {line} has `{word}`; write {instead}"));
        };
        for refused in REFUSED.iter().filter(|refused| refused.is_for(path)) {
            if let Some(word) = refused.word_in(line) {
                fault(&word, refused.instead);
            }
        }
        for (phrase, instead) in PHRASES {
            if line.to_lowercase().contains(phrase) {
                fault(phrase, instead);
            }
        }
    }
    faults
}

impl Refused {
    fn is_for(&self, path: &str) -> bool {
        !self.places.iter().any(|place| path.starts_with(place))
    }

    /// The word as it is written in the line.
    fn word_in(&self, line: &str) -> Option<String> {
        let mut line = line.to_owned();
        for text in self.texts {
            line = line.replace(text, " ");
        }
        match self.found {
            // The lower case of other letters may take more bytes. These ASCII letters keep their length.
            Letters(letters) => {
                let at = line.to_ascii_lowercase().find(&letters.to_ascii_lowercase())?;
                Some(line[at..at + letters.len()].to_owned())
            }
            Words(words) => parts(&line).find(|part| words.iter().any(|word| part == word)),
        }
    }
}

/// The words of a line in lower case. The parts of a name count one by one.
fn parts(line: &str) -> impl Iterator<Item = String> + use<'_> {
    line.split(|c: char| !c.is_alphanumeric()).flat_map(|name| {
        let mut parts = vec![String::new()];
        let mut after_small = false;
        for c in name.chars() {
            if c.is_uppercase() && after_small {
                parts.push(String::new());
            }
            after_small = c.is_lowercase();
            parts.last_mut().expect("there is always one").extend(c.to_lowercase());
        }
        parts
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_line(path: &str, line: &str, expected: &[&str]) {
        let faults = check(path, &format!("fine\n{line}\n"));
        assert_eq!(faults.len(), expected.len(), "{faults:?}");
        for (fault, expected) in faults.iter().zip(expected) {
            assert!(fault.contains(path) && fault.contains("line 2"), "{fault}");
            assert!(fault.contains(expected), "{fault}");
        }
    }

    #[test]
    fn a_refused_word_is_named_with_its_place_and_the_right_one() {
        check_line(
            "docs/cuda.md",
            "| batch norm with a Rectifier |",
            &["`Rectifier`; write `ReLU`"],
        );
        check_line("crates/ops/src/a.rs", "fn rectifier_gradient()", &["`rectifier`"]);
        check_line("crates/cli/src/a.rs", "struct PictureFolder;", &["`Picture`; write `image`"]);
        check_line("crates/train/src/a.rs", "pub enum DecayConfig {", &["`ScheduleConfig`"]);
        check_line("README.md", "A folder with a folder a class", &["`one folder per class`"]);
        check_line("crates/models/src/a.rs", "Head::MayDiffer", &["the head"]);
    }

    #[test]
    fn a_tap_is_a_hook_except_in_a_kernel() {
        for line in ["/// Taps see inputs.", "let layer_taps = 1;", "trait GradientTap"] {
            check_line("crates/models/src/a.rs", line, &["write `hook`"]);
            check_line("crates/kernels/src/a.rs", line, &[]);
        }
        check_line("crates/ops/src/a.rs", "trait LayerTap", &["`LayerHook`"]);
        check_line("docs/architecture.md", "a tape, taped, staples, the tapestry", &[]);
    }

    #[test]
    fn old_keys_of_recipes_are_still_read() {
        check_line("crates/cli/src/a.rs", "#[serde(alias = \"pictures\")]", &[]);
        check_line("crates/cli/src/a.rs", "data.train_pictures = 40 # pictures", &["`picture`"]);
    }

    #[test]
    fn only_what_people_write_is_checked() {
        assert!(are_checked_in("crates/data/src/lib.rs") && are_checked_in("docs/cuda.md"));
        for free in
            ["CHANGELOG.md", "xtask/src/tidy/words.rs", "a.png", "tests/fixtures/run/a.toml"]
        {
            assert!(!are_checked_in(free), "{free}");
        }
    }
}
