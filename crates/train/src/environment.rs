//! Where and when a run was started, and by which versions.

use jiff::{Timestamp, Unit};
use serde::Serialize;

/// Version of candle. candle does not report its own version. A test compares this with the lock file.
const CANDLE: &str = "0.11.1";

/// The contents of `environment.json`.
#[derive(Debug, Serialize)]
pub(crate) struct Environment {
    /// Version of these crates. They all have the same one.
    candle_vision: &'static str,
    candle: &'static str,
    os: &'static str,
    arch: &'static str,
    cpus: usize,
    /// Time of the start in UTC, in the format of RFC 3339.
    started: String,
    command: Vec<String>,
    /// What the program that trains adds.
    #[serde(flatten)]
    more: serde_json::Map<String, serde_json::Value>,
}

impl Environment {
    pub(crate) fn now(more: &serde_json::Value) -> Self {
        let now = Timestamp::now();
        Self {
            candle_vision: env!("CARGO_PKG_VERSION"),
            candle: CANDLE,
            os: std::env::consts::OS,
            arch: std::env::consts::ARCH,
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
            started: now.round(Unit::Second).unwrap_or(now).to_string(),
            command: std::env::args_os().map(|arg| arg.to_string_lossy().into_owned()).collect(),
            more: more.as_object().cloned().unwrap_or_default(),
        }
    }

    pub(crate) fn to_json(&self) -> String {
        let mut text = serde_json::to_string_pretty(self).expect("it is text and numbers");
        text.push('\n');
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_of_candle_is_the_one_in_use() {
        let package = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        // That of the workspace, or of the package where it was published.
        let mut locks = package.ancestors().map(|folder| folder.join("Cargo.lock"));
        let lock = locks.find(|path| path.is_file()).expect("it is built with a lock file");
        let lock = std::fs::read_to_string(lock).unwrap();
        assert!(lock.contains(&format!("name = \"candle-core\"\nversion = \"{CANDLE}\"")));
    }

    #[test]
    fn the_start_is_written_in_utc_to_the_second() {
        let started = Environment::now(&serde_json::Value::Null).started;
        let shape: String =
            started.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
        assert_eq!(shape, "0000-00-00T00:00:00Z");
        let age = Timestamp::now().duration_since(started.parse().unwrap());
        assert!(age.as_secs().abs() < 60, "{started}");
    }
}
