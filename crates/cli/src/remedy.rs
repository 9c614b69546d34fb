//! What to type against an error of the libraries, which know of no commands.

use candle_vision::data::Error as DataError;
use candle_vision_fetch::Error as FetchError;

use crate::plan::name_of;
use crate::say;
use crate::settings::Source;

/// An error of a data set that can be fetched, with the command that brings it.
pub(crate) fn with_fetch(error: impl Into<anyhow::Error>, source: Source) -> anyhow::Error {
    let error = error.into();
    let is_the_data = matches!(
        error.downcast_ref(),
        Some(DataError::NotFound { .. } | DataError::FileSize { .. } | DataError::Invalid { .. })
    );
    match source {
        Source::Mnist | Source::Cifar10 | Source::Hymenoptera if is_the_data => {
            let text = say::one_line(&error);
            anyhow::anyhow!("{text} ({})", fetch_command(name_of(source)))
        }
        _ => error,
    }
}

/// How to bring a data set or weights.
pub(crate) fn fetch_command(name: &str) -> String {
    format!("`candle-vision fetch {name}`, or `cargo xtask fetch-data {name}`")
}

/// An error of a fetch, with the option that its remedy asks for.
pub(crate) fn with_option(error: anyhow::Error) -> anyhow::Error {
    let option = match error.downcast_ref::<FetchError>() {
        // "... or copy it from another machine"
        Some(FetchError::Offline { .. } | FetchError::Download { .. }) => "--from DIR",
        // "... choose another folder for the data"
        Some(FetchError::Io { source, .. })
            if source.kind() == std::io::ErrorKind::ReadOnlyFilesystem =>
        {
            "--data DIR"
        }
        _ => return error,
    };
    anyhow::anyhow!("{} with `{option}`", say::one_line(&error))
}
