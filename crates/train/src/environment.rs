//! Where and when a run was started.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

/// Version of candle, which does not tell its own; a test holds it to the lock file.
const CANDLE: &str = "0.11.1";

/// What `environment.json` holds.
#[derive(Debug, Serialize)]
pub(crate) struct Environment {
    /// Version of these crates, which share one.
    candle_vision: &'static str,
    candle: &'static str,
    os: &'static str,
    arch: &'static str,
    cpus: usize,
    /// UTC, as in RFC 3339.
    started: String,
    command: Vec<String>,
}

impl Environment {
    pub(crate) fn now() -> Self {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            candle_vision: env!("CARGO_PKG_VERSION"),
            candle: CANDLE,
            os: std::env::consts::OS,
            arch: std::env::consts::ARCH,
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
            started: timestamp(since_1970.as_secs()),
            command: std::env::args_os().map(|arg| arg.to_string_lossy().into_owned()).collect(),
        }
    }

    pub(crate) fn to_json(&self) -> String {
        let mut text = serde_json::to_string_pretty(self).expect("it is text and numbers");
        text.push('\n');
        text
    }
}

/// `2026-01-31T12:00:00Z` for the seconds since 1970-01-01.
fn timestamp(seconds: u64) -> String {
    let (year, month, day) = date(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// Howard Hinnant's `civil_from_days`: years begin in March, so that the leap day comes last.
fn date(days_since_1970: u64) -> (u64, u64, u64) {
    const DAYS_OF_400_YEARS: u64 = 146_097;
    let days = days_since_1970 + 719_468; // since 0000-03-01
    let (era, day_of_era) = (days / DAYS_OF_400_YEARS, days % DAYS_OF_400_YEARS);
    let leap_days = day_of_era / 1460 - day_of_era / 36_524 + day_of_era / 146_096;
    let year_of_era = (day_of_era - leap_days) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = 400 * era + year_of_era + u64::from(month <= 2);
    (year, month, day)
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
    fn timestamps_are_those_of_date() {
        // date -u -d @SECONDS +%FT%TZ
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_709_251_199, "2024-02-29T23:59:59Z"),
            (1_709_251_200, "2024-03-01T00:00:00Z"),
            (1_798_761_599, "2026-12-31T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(timestamp(seconds), expected);
        }
    }
}
