//! What a run is going to be: the recipe, what this machine lacks, and what was asked on top.

use std::path::Path;

use anyhow::{Result, bail};
use candle_vision::models::ModelSpec;
use candle_vision_fetch::{Error as FetchError, find};

use crate::args::TrainArgs;
use crate::commands::fetch;
use crate::recipe::Recipe;
use crate::settings::{Settings, Source};
use crate::{say, sources};

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
        (None, None) => bail!("name a --recipe or a --folder of pictures"),
    };
    let mut notes = Vec::new();
    let mut settings = asked(args, recipe.clone())?.settings()?;
    if let Err(missing) = provide_data(args, &settings) {
        let cause = why(args, &missing);
        recipe = recipe.lacking_data()?.ok_or(missing)?;
        settings = asked(args, recipe.clone())?.settings()?;
        notes.push(
            "no network and no hymenoptera data here: training on built-in drawings of ants and \
             bees instead (get the photographs with `cargo xtask fetch-data hymenoptera resnet18`)"
                .to_owned(),
        );
        notes.extend(cause);
    }
    if let Err(missing) = provide_weights(args, &settings) {
        let cause = why(args, &missing);
        recipe = recipe.lacking_weights()?.ok_or(missing)?;
        notes.push(format!(
            "no network and no weights `{}` here: training from scratch instead",
            settings.model.weights
        ));
        notes.extend(cause);
        settings = asked(args, recipe)?.settings()?;
    }
    let name = args.name.clone().unwrap_or(name);
    Ok(Plan { name, settings, notes })
}

/// What a fetch that was tried has failed of: it need not be the network.
fn why(args: &TrainArgs, missing: &anyhow::Error) -> Option<String> {
    (!args.offline).then(|| say::one_line(missing))
}

fn stem(path: &Path) -> String {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let plain = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' };
    let name: String = stem.chars().map(plain).collect();
    let name = name.trim_start_matches(['.', '-']);
    if name.is_empty() { "run".to_owned() } else { name.to_owned() }
}

/// The recipe with what was asked on the command line.
fn asked(args: &TrainArgs, mut recipe: Recipe) -> Result<Recipe> {
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

/// Sees to it that the data set is there.
fn provide_data(args: &TrainArgs, settings: &Settings) -> Result<()> {
    let data_dir = &args.data.data;
    let folders: &[&str] = match settings.data.source {
        Source::Insects | Source::Folder => return Ok(()),
        Source::Mnist => &["mnist"],
        Source::Cifar10 => &["cifar-10-batches-bin", "cifar10"],
        Source::Hymenoptera => &["hymenoptera_data"],
    };
    if folders.iter().any(|folder| data_dir.join(folder).is_dir()) {
        return Ok(());
    }
    provide(args, name_of(settings.data.source))
}

/// Sees to it that the weights are there.
fn provide_weights(args: &TrainArgs, settings: &Settings) -> Result<()> {
    let weights = &settings.model.weights;
    if weights.is_empty() {
        return Ok(());
    }
    let path = sources::weight_file(weights, &args.data.data);
    let is_name = path != Path::new(weights);
    if path.is_file() || !is_name {
        return Ok(());
    }
    provide(args, weights)
}

fn provide(args: &TrainArgs, name: &str) -> Result<()> {
    let data_dir = &args.data.data;
    let fetched = find(name)
        .map_err(anyhow::Error::from)
        .and_then(|item| fetch::bring(item, data_dir, None, args.offline));
    match fetched {
        Ok(_) => Ok(()),
        Err(error) => bail!(
            "`{name}` is not in `{}` and cannot be fetched: {}; name the folder that has it with \
             --data DIR, or copy it from another machine with `cargo xtask fetch-data {name} --from DIR`",
            data_dir.display(),
            without_remedy(&error)
        ),
    }
}

/// What went wrong, without the remedies that are options of `fetch`.
fn without_remedy(error: &anyhow::Error) -> String {
    match error.downcast_ref::<FetchError>() {
        Some(FetchError::Offline { .. }) => "the network is switched off".to_owned(),
        Some(FetchError::Download { attempts, .. }) => {
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
    // A run may be resumed or reported on from somewhere else.
    let folder = std::path::absolute(folder)?.to_string_lossy().into_owned();
    recipe.set_value("data.path", folder.into())?;
    recipe.set_value("model.architecture", args.model.clone().into())?;
    recipe.set_value("model.channels", i64::try_from(spec.input[0])?.into())?;
    recipe.set_value("model.weights", weights.into())?;
    if weights.is_empty() {
        recipe.set_value("training.optimizer.lr", 0.01.into())?;
    }
    Ok(recipe)
}
