//! Renders pages from the templates in the program.

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Serde, Value};
use minijinja::{Environment, UndefinedBehavior};
use serde::Serialize;

use crate::{Error, Result};

const TEMPLATES: [(&str, &str); 9] = [
    ("page.html", include_str!("templates/page.html")),
    ("chart.html", include_str!("templates/chart.html")),
    ("run.html", include_str!("templates/run.html")),
    ("comparison.html", include_str!("templates/comparison.html")),
    ("data_check.html", include_str!("templates/data_check.html")),
    ("classes.html", include_str!("templates/classes.html")),
    ("reliability.html", include_str!("templates/reliability.html")),
    ("page.css", include_str!("templates/page.css")),
    ("page.js", include_str!("templates/page.js")),
];

/// Renders the template called `name` with `values`. Text is escaped.
pub(crate) fn render(name: &str, values: &impl Serialize) -> Result<String> {
    let mut environment = Environment::new();
    // A misspelt name must be an error, not an empty place on a page.
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
    environment.set_syntax(syntax.map_err(Error::page)?);
    environment.add_filter("percent", percent);
    environment.add_filter("fixed", fixed);
    environment.add_filter("grouped", grouped);
    environment.add_filter("memory", memory);
    for (name, source) in TEMPLATES {
        environment.add_template(name, source).map_err(Error::page)?;
    }
    let page = environment
        .get_template(name)
        .and_then(|template| template.render(Value::from(Serde(values))));
    page.map_err(Error::page)
}

/// A fraction as a percentage with `digits` decimals.
fn percent(fraction: f64, digits: usize) -> String {
    format!("{:.digits$} %", 100.0 * fraction)
}

fn fixed(value: f64, digits: usize) -> String {
    format!("{value:.digits$}")
}

/// Groups digits: 11689512 becomes 11,689,512.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> = digits.as_bytes().rchunks(3).rev().filter_map(ascii).collect();
    groups.join(",")
}

/// A number of bytes: `412 MiB`, `1.5 GiB`.
pub(crate) fn memory(bytes: u64) -> String {
    let gibibyte = f64::from(1 << 30);
    match bytes as f64 {
        bytes if bytes < gibibyte => format!("{:.0} MiB", bytes / f64::from(1 << 20)),
        bytes => format!("{:.1} GiB", bytes / gibibyte),
    }
}

fn ascii(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_for_people() {
        assert_eq!([7, 123, 1234, 11_689_512].map(grouped), ["7", "123", "1,234", "11,689,512"]);
        assert_eq!(percent(0.123_45, 2), "12.35 %");
        assert_eq!(fixed(0.5, 3), "0.500");
        assert_eq!([412 << 20, 3 << 29].map(memory), ["412 MiB", "1.5 GiB"]);
    }
}
