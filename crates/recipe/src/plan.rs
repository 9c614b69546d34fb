//! What a run is going to be: the recipe, and what this machine lacks.

use std::path::{Path, PathBuf};

use candle_vision::registry::Entry;
use candle_vision_fetch::{Error as FetchError, Fetched, Item, check_fetched, find};

use crate::data::DataFolder;
use crate::fetching::fetch_command;
use crate::{Error, IMAGENET, Recipe, Registry, Result, Settings, Weights};

/// How a recipe becomes the settings of a run on this machine.
pub struct Planner<'a> {
    /// The parts that the recipe may name.
    pub registry: &'a Registry,
    /// The folder of data sets and weights, where it is not the one that the recipe records.
    pub data_dir: &'a dyn Fn(Option<&Path>) -> PathBuf,
    /// What is asked on top of the recipe.
    pub overrides: &'a dyn Fn(Recipe) -> Result<Recipe>,
    /// Fetches a data set or weights into a folder, see [`bring`](crate::bring).
    pub bring: &'a dyn Fn(&Item, &Path) -> Result<Fetched>,
}

impl std::fmt::Debug for Planner<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Planner").finish_non_exhaustive()
    }
}

/// The settings of a run that can begin on this machine.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Plan {
    /// The settings, checked.
    pub settings: Settings,
    /// What differs from the recipe as written, and why: the first lines of the run.
    pub notes: Vec<String>,
}

impl<'a> Planner<'a> {
    /// Fetches what is missing, and falls back on what the recipe says for a machine without it where that
    /// fails.
    ///
    /// # Errors
    /// If data or weights are missing and the recipe has no part for that, or if they are damaged.
    pub fn plan(&self, mut recipe: Recipe) -> Result<Plan> {
        let mut notes = Vec::new();
        let mut settings = self.settings(&recipe)?;
        if let Err(missing) = self.provide_data(&settings) {
            recipe = missing.fall_back(recipe.lacking_data()?)?;
            let name = settings.data.source.clone();
            settings = self.settings(&recipe)?;
            let instead = self.registry.data_sets.get(&settings.data.source)?.summary();
            notes.push(format!(
                "{}: training on {instead} instead (get the images with {})",
                missing.told(&format!("{name} data")),
                fetch_command(&name)
            ));
        }
        // No weights are fetched for a folder that cannot be trained on.
        self.place(&self.data_dir(&settings)).check(&settings.data)?;
        if let Err(missing) = self.provide_weights(&settings) {
            recipe = missing.fall_back(recipe.lacking_weights()?)?;
            let weights = format!("weights `{}`", settings.model.weights);
            notes.push(format!("{}: training from scratch instead", missing.told(&weights)));
            settings = self.settings(&recipe)?;
        }
        let mut all = recipe.hints().to_vec();
        all.append(&mut notes);
        let data_dir = self.data_dir(&settings);
        let weights_are_there = match settings.model.weights.as_str() {
            "" => false,
            _ => self.weights(&settings, &data_dir)?.item.is_some(),
        };
        record_places(&mut settings, &self.place(&data_dir), weights_are_there)?;
        Ok(Plan { settings, notes: all })
    }

    /// Fetches the weights that a recipe starts from, if they are not here. Says why they are missing if they are not
    /// to be had.
    ///
    /// # Errors
    /// If the settings are wrong, or the weights are damaged.
    pub fn missing_weights(&self, recipe: &Recipe) -> Result<Option<String>> {
        let settings = self.settings(recipe)?;
        let entry = self.registry.networks.get(&settings.model.architecture)?;
        let is_imagenet = settings.model.weights.eq_ignore_ascii_case(IMAGENET);
        if is_imagenet && entry.published_weights().is_empty() {
            return Ok(Some("nobody published any".to_owned()));
        }
        match self.provide_weights(&settings) {
            Ok(()) => Ok(None),
            Err(missing) if missing.is_not_available => Ok(Some(missing.cause)),
            Err(missing) => Err(missing.error),
        }
    }

    fn settings(&self, recipe: &Recipe) -> Result<Settings> {
        (self.overrides)(recipe.clone())?.checked_settings(self.registry)
    }

    fn place<'p>(&self, data_dir: &'p Path) -> DataFolder<'p>
    where
        'a: 'p,
    {
        DataFolder::new(self.registry, data_dir)
    }

    fn data_dir(&self, settings: &Settings) -> PathBuf {
        (self.data_dir)(settings.data.dir.as_deref())
    }

    /// Sees to it that the data set is there.
    fn provide_data(&self, settings: &Settings) -> Result<(), Box<Missing>> {
        let data_dir = &self.data_dir(settings);
        let entry = self.registry.data_sets.get(&settings.data.source).map_err(Missing::other)?;
        let Some(name) = entry.catalog_item() else { return Ok(()) };
        if !self.place(data_dir).is_there(&settings.data).map_err(Missing::other)? {
            let item = find(name).map_err(|error| Missing::new(error.into(), name, data_dir))?;
            return self.provide(item, data_dir);
        }
        // Whoever opens a folder checks its form, but only the record of the fetch knows its bytes.
        find(name)
            .and_then(|item| check_fetched(item, data_dir))
            .map_err(|error| Missing::damaged(error, name))
    }

    /// Sees to it that the weights are there.
    fn provide_weights(&self, settings: &Settings) -> Result<(), Box<Missing>> {
        let weights = &settings.model.weights;
        if weights.is_empty() {
            return Ok(());
        }
        let data_dir = self.data_dir(settings);
        let found = self.weights(settings, &data_dir).map_err(Missing::other)?;
        let (Some(name), false) = (&found.item, found.file.is_file()) else { return Ok(()) };
        let entry = self.registry.networks.get(&settings.model.architecture);
        let bring = |item: &Item| (self.bring)(item, &data_dir).map(drop);
        let provided = Weights::provide(entry.map_err(Missing::other)?, weights, &data_dir, bring);
        provided.map(drop).map_err(|error| Missing::new(error, name, &data_dir))
    }

    fn weights(&self, settings: &Settings, data_dir: &Path) -> Result<Weights> {
        let entry = self.registry.networks.get(&settings.model.architecture)?;
        Weights::find(entry, &settings.model.weights, data_dir)
    }

    fn provide(&self, item: &Item, data_dir: &Path) -> Result<(), Box<Missing>> {
        let fetched = (self.bring)(item, data_dir);
        fetched.map(|_| ()).map_err(|error| Missing::new(error, &item.name, data_dir))
    }
}

/// Makes the places in the settings absolute: a run may be resumed or reported on, or its
/// `config.toml` run again, from another folder. `has_weights_there` tells whether the weights lie in the data
/// folder.
fn record_places(
    settings: &mut Settings,
    place: &DataFolder<'_>,
    has_weights_there: bool,
) -> Result<()> {
    let data_dir = place.path();
    let absolute = |path: &Path| std::path::absolute(path).map_err(Error::io("find", path));
    let weights = Path::new(&settings.model.weights);
    let has_data_there = matches!(place.location(&settings.data)?, Some((_, false)));
    if has_data_there || has_weights_there {
        settings.data.dir = Some(absolute(data_dir)?);
    }
    if !has_weights_there && weights.is_file() {
        settings.model.weights = absolute(weights)?.to_string_lossy().into_owned();
    }
    let data = &mut settings.data;
    for path in [&mut data.path, &mut data.val_list, &mut data.decoded].into_iter().flatten() {
        // An address is absolute already.
        if !path
            .to_str()
            .is_some_and(|path| path.starts_with("http://") || path.starts_with("https://"))
        {
            *path = absolute(path)?;
        }
    }
    Ok(())
}

/// Something that is not here and could not be brought, or is here but not sound.
struct Missing {
    error: Error,
    /// What went wrong, without the remedies that are options of `fetch`.
    cause: String,
    /// Whether it was simply not to be had. Anything else stops the run: a damaged file, a full disk
    /// or a wrong name is no reason to train something else.
    is_not_available: bool,
    is_no_network: bool,
}

impl Missing {
    fn new(error: Error, name: &str, data_dir: &Path) -> Box<Self> {
        let failed = error.fetch_error();
        let is_not_available = failed.is_some_and(FetchError::is_not_available);
        let is_no_network = failed.is_some_and(FetchError::is_no_network);
        let cause = without_remedy(&error);
        let error = if is_not_available {
            Error::invalid(format!(
                "`{name}` is not in `{}` and cannot be fetched: {cause}; name the folder that has it \
                 with --data DIR, or take it from a folder with --from DIR ({})",
                data_dir.display(),
                fetch_command(name)
            ))
        } else {
            Error::invalid(format!("cannot fetch `{name}` into `{}`: {cause}", data_dir.display()))
        };
        Box::new(Self { error, cause, is_not_available, is_no_network })
    }

    /// What is found wrong with data that are there.
    fn damaged(error: FetchError, name: &str) -> Box<Self> {
        Self::other(Error::invalid(format!("{error} ({})", fetch_command(name))))
    }

    fn other(error: impl Into<Error>) -> Box<Self> {
        let error = error.into();
        let cause = error.one_line();
        Box::new(Self { error, cause, is_not_available: false, is_no_network: false })
    }

    /// The recipe for a machine without it, if the recipe has such a part and that is what is wrong.
    fn fall_back(&self, lacking: Option<Recipe>) -> Result<Recipe> {
        match lacking {
            Some(recipe) if self.is_not_available => Ok(recipe),
            _ => Err(Error::invalid(self.error.one_line())),
        }
    }

    /// Why the run does without `what`.
    fn told(&self, what: &str) -> String {
        if self.is_no_network {
            format!("no network and no {what} here ({})", self.cause)
        } else {
            format!("no {what} here, and they cannot be fetched ({})", self.cause)
        }
    }
}

/// What went wrong, without the remedies that are options of `fetch`.
fn without_remedy(error: &Error) -> String {
    match error.fetch_error() {
        Some(FetchError::Offline { .. }) => "the network is switched off".to_owned(),
        Some(FetchError::Download { attempts, .. }) if !attempts.is_empty() => {
            let attempts: Vec<String> = attempts.iter().map(ToString::to_string).collect();
            attempts.join("; ")
        }
        _ => error.one_line(),
    }
}

impl Recipe {
    /// The recipe for an image folder of one's own: fine-tuning as in the transfer-learning tutorials. `weights`
    /// is a name or a file as in a recipe, `none` for a start from scratch; if not given, the published
    /// weights of the network, where there are any.
    ///
    /// # Errors
    /// If the network is not registered, or the path is not UTF-8.
    pub fn for_folder(
        folder: &Path,
        architecture: &str,
        weights: Option<&str>,
        registry: &Registry,
    ) -> Result<Self> {
        registry.check()?;
        let entry = registry.networks.get(architecture)?;
        let spec = registry.networks.spec(architecture, 1)?;
        let side = spec.input[1];
        let published = (!entry.published_weights().is_empty()).then_some(IMAGENET);
        let wanted = weights.or(published).unwrap_or("none");
        let weights = if wanted == "none" { "" } else { wanted };
        let mut recipe =
            Self::parse(&include_str!("folder.toml").replace("SIDE", &side.to_string()).replace(
                "RESIZE",
                // torchvision's evaluation keeps an eighth around the crop.
                &(side + side / 7).to_string(),
            ))?;
        let path = folder.to_str().ok_or_else(|| {
            Error::invalid(format!(
                "the path `{}` is not UTF-8, and a run's config.toml holds only text; rename it, or name a link to it",
                folder.display()
            ))
        })?;
        recipe.set_value("data.path", path)?;
        recipe.set_value("model.architecture", architecture)?;
        recipe.set_value("model.channels", i64::try_from(spec.input[0]).unwrap_or(i64::MAX))?;
        recipe.set_value("model.weights", weights)?;
        if weights.is_empty() {
            recipe.set_value("training.optimizer.lr", 0.01)?;
        }
        Ok(recipe)
    }
}

/// The name of a run after the file or folder that it is made from.
pub fn run_name(path: &Path) -> String {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let plain = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' };
    let name: String = stem.chars().map(plain).collect();
    let name = name.trim_start_matches(['.', '-']);
    if name.is_empty() { "run".to_owned() } else { name.to_owned() }
}
