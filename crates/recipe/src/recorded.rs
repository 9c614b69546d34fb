//! What a run records of itself: its settings, and where its data lies.

use std::path::Path;

use crate::data::DataFolder;
use crate::{DataSettings, Error, Recipe, Registry, Result, Settings};

/// The settings of the run in a folder.
///
/// # Errors
/// If there is no `config.toml`, or as [`Recipe::parse`] and [`Settings::check`].
pub fn settings(run: &Path, registry: &Registry) -> Result<Settings> {
    let mut settings = Recipe::read(run.join("config.toml"))?.checked_settings(registry)?;
    find_again(&mut settings.data, run);
    Ok(settings)
}

/// Corrects the places in the settings of the run in a folder where they are seen from elsewhere now.
pub fn find_again(settings: &mut DataSettings, run: &Path) {
    // Older versions recorded paths as they were given, relative to where the run was started: as a
    // rule the folder that holds `runs`.
    let started_in = run.join("../../..");
    if let Some(path) = &mut settings.path
        && path.is_relative()
        && !path.is_dir()
        && let Ok(there) = started_in.join(&*path).canonicalize()
    {
        *path = there;
    }
    if settings.dir.is_none()
        && !Path::new("data").is_dir()
        && let Ok(there) = started_in.join("data").canonicalize()
    {
        settings.dir = Some(there);
    }
}

/// Checks that the data of a run is where the run has recorded it.
///
/// # Errors
/// If it is not; the message names the option that helps.
pub fn check_data(settings: &DataSettings, place: &DataFolder<'_>) -> Result<()> {
    let Some((location, is_own)) = place.location(settings)? else { return Ok(()) };
    let option =
        if is_own { "their folder with --folder" } else { "the folder they are in with --data" };
    if place.is_there(settings)? || location.exists() {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "`{}`, where the run has its images, is not there; name {option} DIR",
        location.display()
    )))
}

/// A path as it is seen from the current folder: run folders record absolute ones.
pub fn near(path: &Path) -> &Path {
    let here = std::env::current_dir().ok();
    let below = here.and_then(|here| path.strip_prefix(here).ok());
    below.filter(|path| !path.as_os_str().is_empty()).unwrap_or(path)
}
