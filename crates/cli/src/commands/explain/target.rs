//! Parses `--target`.

use std::path::Path;

use anyhow::{Context, Result, bail};
use candle_vision::Classifier;
use candle_vision::explain::{Target, embeddings};

use crate::batches::input;

/// The target, and the text that follows the class's name in the output.
pub(super) struct AskedFor {
    pub(super) target: Target,
    pub(super) beside: String,
}

/// Parses `CLASS`, `CLASS:OTHER` or `@IMAGE`. Without a text the target is the predicted class.
pub(super) fn parse(text: Option<&str>, classifier: &Classifier) -> Result<AskedFor> {
    let Some(text) = text else {
        return Ok(AskedFor { target: Target::Predicted, beside: String::new() });
    };
    match (asked(text, classifier.classes())?, text.strip_prefix('@')) {
        (Some(Asked::Class(class)), _) => {
            Ok(AskedFor { target: Target::Class(class), beside: String::new() })
        }
        (Some(Asked::Difference(class, other)), _) => {
            let beside = format!(" rather than {}", classifier.class_name(other));
            Ok(AskedFor { target: Target::Difference { class, other }, beside })
        }
        (None, Some(path)) => like(Path::new(path), classifier),
        (None, None) => Err(unknown(text, classifier)),
    }
}

/// The error for a text that names no class. It names the wrong side of the colon.
fn unknown(text: &str, classifier: &Classifier) -> anyhow::Error {
    let side = match text.split_once(':') {
        Some((class, other)) if is_class(class, classifier.classes()) => other,
        Some((class, _)) => class,
        None => text,
    };
    let error = match classifier.class(side) {
        Ok(_) => anyhow::anyhow!("`{side}`"),
        Err(error) => anyhow::Error::from(error),
    };
    if side.contains(['"', ':', '@']) || text.matches(':').count() > 1 {
        return error.context(format!(
            "cannot read the target `{text}`; put a name with `:` or `@` into double quotes, as in \
             '\"a:b\":other'"
        ));
    }
    error
}

/// A target without an image.
#[derive(Debug, PartialEq, Eq)]
enum Asked {
    Class(usize),
    Difference(usize, usize),
}

/// Reads a target. A class name may contain any characters, so the whole text is tried first as a class,
/// and then each colon as the one between two classes. `None` if no reading fits.
///
/// # Errors
/// If several readings fit.
fn asked(text: &str, classes: &[String]) -> Result<Option<Asked>> {
    if let Some(class) = class(text, classes) {
        return Ok(Some(Asked::Class(class)));
    }
    let mut readings = text.match_indices(':').filter_map(|(at, _)| {
        let (first, second) = (&text[..at], &text[at + 1..]);
        Some((first, second, Asked::Difference(class(first, classes)?, class(second, classes)?)))
    });
    let Some((first, second, reading)) = readings.next() else { return Ok(None) };
    if let Some((other_first, other_second, _)) = readings.next() {
        bail!(
            "the target `{text}` may be `{first}` rather than `{second}`, or `{other_first}` rather \
             than `{other_second}`; put the names into double quotes, as in '\"{first}\":\"{second}\"'"
        )
    }
    Ok(Some(reading))
}

fn is_class(text: &str, classes: &[String]) -> bool {
    class(text, classes).is_some()
}

/// The class with the name `text`, with the number `text`, or with the name in double quotes.
fn class(text: &str, classes: &[String]) -> Option<usize> {
    let named = |name: &str| classes.iter().position(|class| class == name);
    let quoted = || named(text.strip_prefix('"')?.strip_suffix('"')?);
    let numbered = || text.parse().ok().filter(|number| *number < classes.len());
    named(text).or_else(numbered).or_else(quoted)
}

fn like(path: &Path, classifier: &Classifier) -> Result<AskedFor> {
    let (_, input) = input(classifier, path)?;
    let vector = embeddings(classifier.model(), &input)?;
    let vector = vector.get(0)?.to_vec1().context("cannot read what the network makes of it")?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    Ok(AskedFor { target: Target::Similarity(vector), beside: format!(", like {name}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(classes: &[&str], text: &str, expected: Option<Asked>) {
        let classes: Vec<String> = classes.iter().map(ToString::to_string).collect();
        assert_eq!(asked(text, &classes).expect("one reading"), expected, "{text}");
    }

    #[test]
    fn a_class_with_a_colon_has_a_way() {
        let classes = ["a", "a:b", "b", "c", "@home", "7", "say \"x\""];
        for (text, expected) in [
            ("a:b", Asked::Class(1)),
            ("a:b:c", Asked::Difference(1, 3)),
            ("c:a:b", Asked::Difference(3, 1)),
            ("\"a\":\"b\"", Asked::Difference(0, 2)),
            ("\"a\":b", Asked::Difference(0, 2)),
            ("\"a:b\":\"c\"", Asked::Difference(1, 3)),
            ("\"a:b\"", Asked::Class(1)),
            ("@home", Asked::Class(4)),
            ("@home:c", Asked::Difference(4, 3)),
            ("\"@home\"", Asked::Class(4)),
            // A name goes before a number, and a number counts from 0.
            ("7", Asked::Class(5)),
            ("5", Asked::Class(5)),
            ("0:1", Asked::Difference(0, 1)),
            ("say \"x\"", Asked::Class(6)),
        ] {
            check(&classes, text, Some(expected));
        }
        for text in ["d", "a:d", "@other.jpg", "8", "\"7", ":", ""] {
            check(&classes, text, None);
        }
    }

    #[test]
    fn two_readings_are_named() {
        let classes = ["a", "b:c", "a:b", "c"].map(str::to_owned);
        let error = asked("a:b:c", &classes).expect_err("it may be either").to_string();
        assert!(error.contains("`a` rather than `b:c`, or `a:b` rather than `c`"), "{error}");
        assert!(error.contains("'\"a\":\"b:c\"'"), "{error}");
        let quoted = asked("\"a\":\"b:c\"", &classes).expect("one reading");
        assert_eq!(quoted, Some(Asked::Difference(0, 1)));
    }
}
