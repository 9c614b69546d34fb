//! What a run is going to be: the recipe, what this machine lacks, and what was asked on top.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use candle_vision::models::ModelSpec;
use candle_vision_fetch::{Error as FetchError, check_fetched, find};

use crate::args::TrainArgs;
use crate::commands::fetch;
use crate::recipe::Recipe;
use crate::remedy::fetch_command;
use crate::settings::{Settings, Source};
use crate::{image_folders, say, sources};

/// A run before it begins.
pub(crate) struct Plan {
    /// The name of the run's folder.
    pub(crate) name: String,
    pub(crate) settings: Settings,
    /// What differs from the recipe as written, and why: the first lines of the run.
    pub(crate) notes: Vec<String>,
}

/// Reads the recipe, fetches what is missing, and falls back on what the recipe says where that
/// fails. What was asked on the command line goes over all of it.
pub(crate) fn plan(args: &TrainArgs) -> Result<Plan> {
    let (name, mut recipe) = match (&args.recipe, &args.folder) {
        (Some(path), _) => (stem(path), Recipe::read(path)?),
        (None, Some(folder)) => (stem(folder), folder_recipe(args, folder)?),
        (None, None) => bail!("name a --recipe or a --folder of images"),
    };
    let mut notes = Vec::new();
    let mut settings = asked(args, recipe.clone())?.settings()?;
    if let Err(missing) = provide_data(args, &settings) {
        recipe = missing.fall_back(recipe.lacking_data()?)?;
        let name = name_of(settings.data.source);
        settings = asked(args, recipe.clone())?.settings()?;
        notes.push(format!(
            "{}: training on built-in drawings of ants and bees instead (get the photographs with {})",
            missing.told(&format!("{name} data")),
            fetch_command(name)
        ));
    }
    if settings.data.source == Source::Folder
        && let Some(path) = &settings.data.path
    {
        // No weights are fetched for a folder that cannot be trained on.
        image_folders::check(path)?;
    }
    if let Err(missing) = provide_weights(args, &settings) {
        recipe = missing.fall_back(recipe.lacking_weights()?)?;
        let weights = format!("weights `{}`", settings.model.weights);
        notes.push(format!("{}: training from scratch instead", missing.told(&weights)));
        settings = asked(args, recipe)?.settings()?;
    }
    let data_dir = data_dir(args, &settings);
    record_places(&mut settings, &data_dir)?;
    let name = args.name.clone().unwrap_or(name);
    Ok(Plan { name, settings, notes })
}

/// Makes the places in the settings absolute: a run may be resumed or reported on, or its
/// `config.toml` run again, from another folder.
fn record_places(settings: &mut Settings, data_dir: &Path) -> Result<()> {
    let weights = Path::new(&settings.model.weights);
    let is_path = sources::weight_file(&settings.model.weights, data_dir) == weights;
    let has_data_there = !matches!(settings.data.source, Source::Insects | Source::Folder);
    let has_weights_there = !settings.model.weights.is_empty() && !is_path;
    if has_data_there || has_weights_there {
        settings.data.dir = Some(std::path::absolute(data_dir)?);
    }
    if is_path && weights.is_file() {
        settings.model.weights = std::path::absolute(weights)?.to_string_lossy().into_owned();
    }
    if let Some(path) = &mut settings.data.path {
        *path = std::path::absolute(&*path)?;
    }
    Ok(())
}

fn stem(path: &Path) -> String {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let plain = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' };
    let name: String = stem.chars().map(plain).collect();
    let name = name.trim_start_matches(['.', '-']);
    if name.is_empty() { "run".to_owned() } else { name.to_owned() }
}

/// The recipe with what was asked on the command line.
pub(crate) fn asked(args: &TrainArgs, mut recipe: Recipe) -> Result<Recipe> {
    if let Some(epochs) = args.epochs {
        recipe.set_value("training.epochs", i64::from(epochs).into())?;
    }
    if let Some(seed) = args.seed {
        recipe.set_value("training.seed", i64::from(seed).into())?;
    }
    if let Some(precision) = args.precision {
        recipe.set_value("training.precision", precision.name().into())?;
    }
    if args.skip_broken {
        recipe.set_value("data.skip_broken", true.into())?;
    }
    for assignment in &args.set {
        recipe.set(assignment)?;
    }
    Ok(recipe)
}

pub(crate) fn name_of(source: Source) -> &'static str {
    match source {
        Source::Mnist => "mnist",
        Source::Cifar10 => "cifar10",
        Source::Hymenoptera => "hymenoptera",
        Source::Insects => "insects",
        Source::Folder => "folder",
    }
}

/// Something that is not here and could not be brought, or is here but not sound.
struct Missing {
    error: anyhow::Error,
    /// What went wrong, without the remedies that are options of `fetch`.
    cause: String,
    /// Whether it was simply not to be had. Anything else stops the run: a damaged file, a full disk
    /// or a wrong name is no reason to train something else.
    is_not_available: bool,
    is_no_network: bool,
}

impl Missing {
    fn new(error: anyhow::Error, name: &str, data_dir: &Path) -> Self {
        let failed = error.downcast_ref::<FetchError>();
        let is_not_available = failed.is_some_and(FetchError::is_not_available);
        let is_no_network = failed.is_some_and(FetchError::is_no_network);
        let cause = without_remedy(&error);
        let error = if is_not_available {
            anyhow::anyhow!(
                "`{name}` is not in `{}` and cannot be fetched: {cause}; name the folder that has it \
                 with --data DIR, or copy it from another machine with `cargo xtask fetch-data {name} \
                 --from DIR`",
                data_dir.display()
            )
        } else {
            anyhow::anyhow!("cannot fetch `{name}` into `{}`: {cause}", data_dir.display())
        };
        Self { error, cause, is_not_available, is_no_network }
    }

    /// What is found wrong with data that are there.
    fn damaged(error: FetchError, name: &str) -> Self {
        let cause = error.to_string();
        let error = anyhow::anyhow!("{cause} ({})", fetch_command(name));
        Self { error, cause, is_not_available: false, is_no_network: false }
    }

    /// The recipe for a machine without it, if the recipe has such a part and that is what is wrong.
    fn fall_back(&self, lacking: Option<Recipe>) -> Result<Recipe> {
        match lacking {
            Some(recipe) if self.is_not_available => Ok(recipe),
            _ => bail!("{}", self.error),
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

/// Sees to it that the data set is there.
fn provide_data(args: &TrainArgs, settings: &Settings) -> Result<(), Missing> {
    let data_dir = &data_dir(args, settings);
    let folders: &[&str] = match settings.data.source {
        Source::Insects | Source::Folder => return Ok(()),
        Source::Mnist => &["mnist"],
        Source::Cifar10 => &["cifar-10-batches-bin", "cifar10"],
        Source::Hymenoptera => &["hymenoptera_data"],
    };
    let name = name_of(settings.data.source);
    if !folders.iter().any(|folder| data_dir.join(folder).is_dir()) {
        return provide(args, name, data_dir);
    }
    // Whoever opens a folder checks its form, but only the record of the fetch knows its bytes.
    find(name)
        .and_then(|item| check_fetched(item, data_dir))
        .map_err(|error| Missing::damaged(error, name))
}

/// Sees to it that the weights are there.
fn provide_weights(args: &TrainArgs, settings: &Settings) -> Result<(), Missing> {
    let weights = &settings.model.weights;
    if weights.is_empty() {
        return Ok(());
    }
    let path = sources::weight_file(weights, &data_dir(args, settings));
    let is_name = path != Path::new(weights);
    if path.is_file() || !is_name {
        return Ok(());
    }
    provide(args, weights, &data_dir(args, settings))
}

fn data_dir(args: &TrainArgs, settings: &Settings) -> PathBuf {
    args.data.or(settings.data.dir.as_deref())
}

fn provide(args: &TrainArgs, name: &str, data_dir: &Path) -> Result<(), Missing> {
    let fetched = find(name)
        .map_err(anyhow::Error::from)
        .and_then(|item| fetch::bring(item, data_dir, None, args.offline));
    fetched.map(|_| ()).map_err(|error| Missing::new(error, name, data_dir))
}

/// What went wrong, without the remedies that are options of `fetch`.
fn without_remedy(error: &anyhow::Error) -> String {
    match error.downcast_ref::<FetchError>() {
        Some(FetchError::Offline { .. }) => "the network is switched off".to_owned(),
        Some(FetchError::Download { attempts, .. }) if !attempts.is_empty() => {
            let attempts: Vec<String> = attempts.iter().map(ToString::to_string).collect();
            attempts.join("; ")
        }
        _ => say::one_line(error),
    }
}

/// The recipe for somebody's own folder: fine-tuning as in the transfer-learning tutorials.
fn folder_recipe(args: &TrainArgs, folder: &Path) -> Result<Recipe> {
    let spec = ModelSpec::new(&args.model, 1);
    let side = spec.input[1];
    let wanted = args.weights.as_deref().unwrap_or(match args.model.as_str() {
        "resnet18" | "resnet34" | "alexnet" => &args.model,
        _ => "none",
    });
    let weights = if wanted == "none" { "" } else { wanted };
    let mut recipe =
        Recipe::parse(&include_str!("folder.toml").replace("SIDE", &side.to_string()).replace(
            "RESIZE",
            // torchvision's evaluation keeps an eighth around the crop.
            &(side + side / 7).to_string(),
        ))?;
    recipe.set_value("data.path", folder.to_string_lossy().into_owned().into())?;
    recipe.set_value("model.architecture", args.model.clone().into())?;
    recipe.set_value("model.channels", i64::try_from(spec.input[0])?.into())?;
    recipe.set_value("model.weights", weights.into())?;
    if weights.is_empty() {
        recipe.set_value("training.optimizer.lr", 0.01.into())?;
    }
    Ok(recipe)
}
