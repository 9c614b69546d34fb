//! What to type against an error of a fetch, which knows of no commands.

use candle_vision_fetch::Error as FetchError;
use candle_vision_recipe::Error;

/// An error of a fetch, with the option that its remedy asks for.
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
