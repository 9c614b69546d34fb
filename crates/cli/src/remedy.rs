//! Remedies for errors of a fetch. The fetch crate knows no commands.

use candle_vision_fetch::Error as FetchError;
use candle_vision_recipe::Error;

/// An error of a fetch, with the option that carries out its remedy.
pub(crate) fn with_option(error: Error) -> anyhow::Error {
    let option = match error.fetch_error() {
        // "... or copy it from another machine"
        Some(FetchError::Offline { .. } | FetchError::Download { .. }) => "--from DIR",
        // "... choose another folder for the data"
        Some(FetchError::Io { source, .. })
            if source.kind() == std::io::ErrorKind::ReadOnlyFilesystem =>
        {
            "--data DIR"
        }
        _ => return error.into(),
    };
    anyhow::anyhow!("{} with `{option}`", error.one_line())
}
