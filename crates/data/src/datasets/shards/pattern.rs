//! Names of shards: paths, folders, globs (`train-*.tar`), braces (`train-{000..127}.tar`) and addresses.

use std::path::Path;

use crate::datasets::{has_glob, paths_matching};
use crate::error::{Error, Result};

/// The most shards that a pattern may name. A hundred million samples are about ten thousand shards.
const MAX_SHARDS: usize = 1_000_000;

/// Whether this is the address of a file on a server.
pub(super) fn is_url(name: &str) -> bool {
    name.starts_with("http://") || name.starts_with("https://")
}

/// The shards that a pattern names, in order.
pub(super) fn shards(pattern: &str) -> Result<Vec<String>> {
    let invalid = |reason: String| Error::InvalidSetting { setting: "path", reason };
    let mut names = Vec::new();
    for name in braces(pattern).map_err(invalid)? {
        if is_url(&name) || !has_glob(Path::new(&name)) || Path::new(&name).exists() {
            names.push(name);
            continue;
        }
        let before = names.len();
        for path in paths_matching(Path::new(&name))? {
            let utf8 = path.to_str().ok_or_else(|| Error::Invalid {
                path: path.clone(),
                problem: "has a name that is not UTF-8".to_owned(),
                remedy: "rename the shard".to_owned(),
            })?;
            names.push(utf8.to_owned());
        }
        if names.len() == before {
            return Err(Error::NotFound {
                path: name.into(),
                expected: "at least one shard of this pattern".to_owned(),
                remedy: "check the pattern".to_owned(),
            });
        }
    }
    Ok(names)
}

/// The most braces in a pattern. Each adds a call to itself.
const MAX_BRACES: usize = 64;

/// The names that braces stand for: `{000..127}` numbers, with as many digits as the first has, and `{a,b}` words.
fn braces(pattern: &str) -> Result<Vec<String>, String> {
    let Some(start) = pattern.find('{') else { return Ok(vec![pattern.to_owned()]) };
    if pattern.matches('{').count() > MAX_BRACES {
        return Err(format!("is a pattern with more than {MAX_BRACES} braces"));
    }
    let Some(length) = pattern[start..].find('}') else {
        return Err(format!("is `{pattern}`, where a brace is not closed"));
    };
    let (before, inside) = (&pattern[..start], &pattern[start + 1..start + length]);
    let behind = braces(&pattern[start + length + 1..])?;
    let middle = match inside.split_once("..") {
        None => inside.split(',').map(str::to_owned).collect(),
        Some((first, last)) => numbers(first, last).ok_or_else(|| {
            format!("is `{pattern}`, where `{{{inside}}}` is no range of numbers")
        })?,
    };
    if middle.len().saturating_mul(behind.len()) > MAX_SHARDS {
        return Err(format!("is `{pattern}`, which names more than {MAX_SHARDS} shards"));
    }
    let mut names = Vec::with_capacity(middle.len() * behind.len());
    for middle in &middle {
        names.extend(behind.iter().map(|end| format!("{before}{middle}{end}")));
    }
    Ok(names)
}

fn numbers(first: &str, last: &str) -> Option<Vec<String>> {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let digits = first.len();
    let (first, last) = (
        is_number(first).then(|| first.parse().ok())??,
        is_number(last).then(|| last.parse().ok())??,
    );
    let range: std::ops::RangeInclusive<usize> = first..=last;
    if range.is_empty() || last - first > MAX_SHARDS {
        return None;
    }
    Some(range.map(|number| format!("{number:0digits$}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn braces_are_numbers_or_words() {
        let check =
            |pattern: &str, expected: &[&str]| assert_eq!(braces(pattern).unwrap(), expected);
        check("a.tar", &["a.tar"]);
        check("a-{08..11}.tar", &["a-08.tar", "a-09.tar", "a-10.tar", "a-11.tar"]);
        check("{a,b}-{0..1}", &["a-0", "a-1", "b-0", "b-1"]);
        let many = braces(&"{a}".repeat(100_000)).unwrap_err();
        assert_eq!(many, "is a pattern with more than 64 braces");
        for wrong in ["a-{0..", "{3..1}", "{a..c}", "{0..99999999999999999999}", "{0..9999999}"] {
            assert!(braces(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_glob_without_files_is_an_error() {
        let error = shards("/nowhere/*.tar").unwrap_err().to_string();
        assert!(error.contains("/nowhere/*.tar") && error.contains("check the pattern"), "{error}");
        assert_eq!(shards("https://host/a-{0..1}.tar").unwrap()[1], "https://host/a-1.tar");
    }
}
