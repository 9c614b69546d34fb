//! Finds files that Rust code reads from outside its crate's folder. A published crate lacks them.
//!
//! There are two ways to such a file. The first is a path in `include_str!` and similar macros or in
//! `#[path]`, which begins at the file's folder. The second is a path that is joined to
//! `CARGO_MANIFEST_DIR`, which begins at the crate's folder. The check misses code that names the folder in
//! one place and builds the path in another.

use super::rust_code::placed_literals;

/// The macros that include a file by the path that follows.
const INCLUDES: [&str; 3] = ["include!(", "include_str!(", "include_bytes!("];

/// Such paths with their lines, counted from 1. `file` is relative to the crate's folder.
pub(super) fn paths(file: &str, source: &str) -> Vec<(usize, String)> {
    let folder = file.rsplit_once('/').map_or("", |(folder, _)| folder);
    let literals = placed_literals(source);
    let mut found = Vec::new();
    for (index, &(at, literal)) in literals.iter().enumerate() {
        let line = 1 + source[..at].matches('\n').count();
        let begin = index.checked_sub(1).map_or(0, |before| end_of(literals[before]));
        let path = content(literal);
        if is_included(&source[begin..at]) && leaves(folder, path) {
            found.push((line, path.to_owned()));
        }
        if path == "CARGO_MANIFEST_DIR" {
            let outside = joined(source, &literals[index..]);
            found.extend(outside.map(|path| (line, path)));
        }
    }
    found
}

fn end_of((at, literal): (usize, &str)) -> usize {
    at + literal.len()
}

/// The text between the quotes.
fn content(literal: &str) -> &str {
    let start = literal.find('"').map_or(0, |at| at + 1);
    literal[start..].trim_end_matches('#').trim_end_matches('"')
}

/// Whether code ends where it expects the path of a file.
fn is_included(code: &str) -> bool {
    let code = code.trim_end();
    let attribute = code.strip_suffix('=').map(str::trim_end);
    INCLUDES.iter().any(|include| code.ends_with(include))
        || attribute.is_some_and(|code| code.ends_with("#[path"))
}

/// The path that the statement builds from the crate's folder, if the path leaves that folder.
fn joined(source: &str, literals: &[(usize, &str)]) -> Option<String> {
    let mut at = end_of(*literals.first()?);
    for &literal in &literals[1..] {
        if let Some(end) = source[at..literal.0].find(';') {
            return upwards(&source[at..at + end]);
        }
        let path = content(literal.1).trim_start_matches('/');
        if leaves("", path) {
            return Some(path.to_owned());
        }
        if let Some(call) = upwards(&source[at..literal.0]) {
            return Some(call);
        }
        at = end_of(literal);
    }
    let rest = &source[at..];
    upwards(&rest[..rest.find(';').unwrap_or(rest.len())])
}

fn upwards(code: &str) -> Option<String> {
    [".parent()", ".ancestors()"].into_iter().find(|call| code.contains(call)).map(str::to_owned)
}

/// Whether `path`, which begins in `folder`, leads above the crate's folder.
pub(super) fn leaves(folder: &str, path: &str) -> bool {
    if path.starts_with('/') {
        return true;
    }
    let mut depth = folder.split('/').filter(|part| !part.is_empty()).count();
    for part in path.split('/').filter(|part| !part.is_empty() && *part != ".") {
        if part != ".." {
            depth += 1;
        } else if depth == 0 {
            return true;
        } else {
            depth -= 1;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(file: &str, source: &str, expected: &[(usize, &str)]) {
        let found = paths(file, source);
        let found: Vec<_> = found.iter().map(|(line, path)| (*line, path.as_str())).collect();
        assert_eq!(found, expected, "{source}");
    }

    #[test]
    fn included_files_lie_in_the_crate() {
        check("src/a/b.rs", "const A: &str = include_str!(\"../../c.toml\");", &[]);
        let outside = "fn a() {}\nconst A: &str = include_str!(\"../../c.toml\");";
        check("src/lib.rs", outside, &[(2, "../../c.toml")]);
        check("src/lib.rs", "#![doc = include_str!(\"../README.md\")]", &[]);
        check("src/a.rs", "include_bytes!(\n    \"/etc/hosts\")", &[(2, "/etc/hosts")]);
        check("src/a.rs", "// include_str!(\"../../c.toml\")\nlet a = \"../../c\";", &[]);
    }

    #[test]
    fn modules_lie_in_the_crate() {
        let source = "#[path = \"../../../tests/support/reference.rs\"]\nmod reference;";
        check("tests/a.rs", source, &[(1, "../../../tests/support/reference.rs")]);
        check("tests/a.rs", "#[path = \"a/b.rs\"]\nmod b;", &[]);
    }

    #[test]
    fn paths_from_the_crate_s_folder_stay_there() {
        let join = |path: &str| {
            format!(
                "let p =\n    Path::new(env!(\"CARGO_MANIFEST_DIR\")).join(\"{path}\");\nf(\"../../a\");"
            )
        };
        check("tests/a.rs", &join("tests/reference"), &[]);
        check("tests/a.rs", &join("tests/../src"), &[]);
        check("tests/a.rs", &join("../../docs/a.md"), &[(2, "../../docs/a.md")]);
        let concatenated = "include_str!(concat!(env!(\"CARGO_MANIFEST_DIR\"), \"/../a.md\"))";
        check("src/a.rs", concatenated, &[(1, "../a.md")]);
        let parent = "let p = Path::new(env!(\"CARGO_MANIFEST_DIR\")).parent().unwrap();";
        check("src/a.rs", parent, &[(1, ".parent()")]);
    }
}
