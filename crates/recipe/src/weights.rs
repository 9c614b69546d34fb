//! Weights by name: of a network's publisher, of a file under the data folder, or of any file.

use std::path::{Path, PathBuf};

use candle_core::Device;
use candle_vision::models::{NetworkEntry, Networks, PublishedWeights};
use candle_vision::registry::{did_you_mean, one_line};
use candle_vision::{Classifier, Registry};
use candle_vision_fetch::{
    Content, Error as FetchError, FileSpec, HubFile, Item, Layout, Sha256Sum, Source, catalog,
    find as find_item, is_in_folder,
};

use crate::recorded::near;
use crate::{Error, Result};

/// The name that stands for the best published ImageNet weights of a network.
pub const IMAGENET: &str = "imagenet";

/// The folder of weight files in the data folder.
const FOLDER: &str = "weights";

/// The weights that a name stands for.
#[derive(Debug, Clone, PartialEq)]
pub struct Weights {
    /// The file that holds them, whether it is there or not.
    pub file: PathBuf,
    /// What their publisher says of them, if the name is that of published weights.
    pub published: Option<PublishedWeights>,
    /// The name under which they can be fetched; `None` for a file that was named by its path.
    pub item: Option<String>,
}

impl Weights {
    /// What `name` means for the network `entry`:
    ///
    /// - `imagenet`: its best published weights, or those of its versions that are in `data_dir` already
    /// - the name of a version, such as `IMAGENET1K_V2`, in upper or lower case
    /// - another name without a dot or a slash: the file `DATA/weights/NAME.safetensors`, or a file of that name in
    ///   the current folder
    /// - anything else: the path of a file
    ///
    /// # Errors
    /// If `name` is `imagenet` and nobody published weights of this network, or nothing has this name.
    pub fn find(entry: &NetworkEntry, name: &str, data_dir: &Path) -> Result<Self> {
        let all = entry.published_weights();
        let file = |weights: &PublishedWeights| in_data_folder(&weights.file, data_dir);
        if name.eq_ignore_ascii_case(IMAGENET) {
            let here = all.iter().find(|weights| file(weights).is_file());
            let Some(weights) = here.or_else(|| all.first()) else {
                return Err(Error::invalid(format!(
                    "there are no published weights of `{}`; name a weight file, or train it from scratch \
                     (`candle-vision models` lists the networks that have some)",
                    entry.name()
                )));
            };
            return Ok(Self::of(weights, data_dir));
        }
        if let Some(weights) = all.iter().find(|weights| weights.name.eq_ignore_ascii_case(name)) {
            return Ok(Self::of(weights, data_dir));
        }
        let known = in_data_folder(name, data_dir);
        let is_path = name.contains(['.', '/', '\\']);
        if is_path || (!known.is_file() && Path::new(name).is_file()) {
            let file = PathBuf::from(name);
            return Ok(Self { published: entry.published_in(&file).cloned(), file, item: None });
        }
        let published = all.iter().find(|weights| weights.file == name).cloned();
        if published.is_none() && !known.is_file() && find_item(name).is_err() {
            return Err(Error::invalid(unknown(entry, name)));
        }
        Ok(Self { file: known, published, item: Some(name.to_owned()) })
    }

    fn of(weights: &PublishedWeights, data_dir: &Path) -> Self {
        Self {
            file: in_data_folder(&weights.file, data_dir),
            published: Some(weights.clone()),
            item: Some(weights.file.clone()),
        }
    }

    /// What can be fetched to have them; `None` for a file that was named by its path.
    ///
    /// # Errors
    /// If nothing of that name is known.
    pub fn item(&self) -> Result<Option<Item>> {
        let Some(name) = &self.item else { return Ok(None) };
        let known = find_item(name);
        match (&self.published, known) {
            (_, Ok(item)) => Ok(Some(item.clone())),
            (Some(weights), Err(_)) => Ok(Some(published_item(weights)?)),
            (None, Err(error)) => Err(error.into()),
        }
    }

    /// [`Weights::find`], and `bring` fetches the file if it is not there and can be fetched. `imagenet` stands for the best
    /// version that is to be had: from a folder that lacks it, another one is taken.
    ///
    /// # Errors
    /// Those of [`Weights::find`], or what `bring` returns.
    pub fn provide(
        entry: &NetworkEntry,
        name: &str,
        data_dir: &Path,
        bring: impl Fn(&Item) -> Result<()>,
    ) -> Result<Self> {
        let found = Self::find(entry, name, data_dir)?;
        if found.file.is_file() {
            return Ok(found);
        }
        let all = entry.published_weights();
        let versions: Vec<Self> = match name.eq_ignore_ascii_case(IMAGENET) {
            true => all.iter().map(|version| Self::of(version, data_dir)).collect(),
            false => vec![found],
        };
        let mut lacking = Lacking::default();
        for version in versions {
            let Some(item) = version.item()? else { return Ok(version) };
            match bring(&item) {
                Ok(()) => return Ok(version),
                Err(error) => lacking.add(error)?,
            }
        }
        Err(what_lies_there(lacking.into(), all))
    }
}

/// A folder that has none of some items.
#[derive(Default)]
struct Lacking {
    items: Vec<String>,
    folder: PathBuf,
    wanted: Vec<String>,
}

impl Lacking {
    /// Takes what a folder does not hold.
    ///
    /// # Errors
    /// `error`, if it is another one.
    fn add(&mut self, error: Error) -> Result<()> {
        let Some(FetchError::NotInFolder { item, folder, wanted, .. }) = error.fetch_error() else {
            return Err(error);
        };
        self.items.push(item.clone());
        self.folder.clone_from(folder);
        self.wanted.extend_from_slice(wanted);
        Ok(())
    }
}

impl From<Lacking> for Error {
    fn from(Lacking { items, folder, wanted }: Lacking) -> Self {
        let item = items.join("` or `");
        FetchError::NotInFolder { item, folder, wanted, holds: Vec::new() }.into()
    }
}

/// The error of weights that a folder does not hold, with those of `versions` that it does hold.
fn what_lies_there(error: Error, versions: &[PublishedWeights]) -> Error {
    let Some(FetchError::NotInFolder { item, folder, wanted, .. }) = error.fetch_error() else {
        return error;
    };
    let is_there = |version: &&PublishedWeights| {
        published_item(version).is_ok_and(|item| is_in_folder(&item, folder))
    };
    let there = versions.iter().filter(is_there);
    let holds = there.map(|version| format!("`{}` ({})", version.file, version.name)).collect();
    let (item, folder, wanted) = (item.clone(), folder.clone(), wanted.clone());
    FetchError::NotInFolder { item, folder, wanted, holds }.into()
}

/// What an error says of a name that stands for no weights.
fn unknown(entry: &NetworkEntry, name: &str) -> String {
    let versions: Vec<&str> = entry.published_weights().iter().map(|w| w.name.as_str()).collect();
    let known = match versions.as_slice() {
        [] => "nobody published any; name a weight file".to_owned(),
        names => {
            let all = [&[IMAGENET], names].concat();
            format!("take {}, or a weight file{}", all.join(", "), did_you_mean(name, all.clone()))
        }
    };
    format!("`{}` has no weights called `{}`: {known}", entry.name(), one_line(name))
}

fn in_data_folder(name: &str, data_dir: &Path) -> PathBuf {
    data_dir.join(FOLDER).join(format!("{name}.safetensors"))
}

/// Published weights as an item to fetch, from the address that the publisher names.
///
/// # Errors
/// If the address or the sum is not of a form that can be fetched.
pub fn published_item(weights: &PublishedWeights) -> Result<Item> {
    let unusable = || {
        Error::invalid(format!(
            "the weights `{}` name no file that can be fetched (`{}`); name a file of your own",
            weights.file, weights.url
        ))
    };
    let (folder, name) = weights.url.rsplit_once('/').ok_or_else(unusable)?;
    let sha256 = Some(&weights.sha256).filter(|sum| !sum.is_empty());
    let sha256 = sha256.map(|sum| Sha256Sum::new(sum.as_str())).transpose()?;
    let spec = FileSpec { sha256, ..FileSpec::named(name) };
    let to = format!("{FOLDER}/{}.safetensors", weights.file);
    let source = match hub_place(folder) {
        Some((repo, revision)) => {
            let [repo, revision] = [repo, revision].map(str::to_owned);
            Source::Hub { file: HubFile { repo, revision, spec }, to }
        }
        None => Source::Pth { file: spec, mirrors: vec![format!("{folder}/")], to },
    };
    Ok(Item {
        name: weights.file.clone(),
        about: format!("{} weights ({})", weights.name, weights.source),
        layouts: vec![Layout {
            folder: FOLDER.to_owned(),
            content: Content::Weights {
                name: format!("{}.safetensors", weights.file),
                known: Vec::new(),
            },
        }],
        sources: vec![source],
    })
}

/// Repository and revision of an address on the hub without its file: `https://huggingface.co/REPO/resolve/REVISION`.
fn hub_place(folder: &str) -> Option<(&str, &str)> {
    folder.strip_prefix("https://huggingface.co/")?.split_once("/resolve/")
}

/// What can be fetched by `name`: an item of the catalog, or published weights of a registered network by the name
/// of their file, such as `resnet50`, or `resnet50-imagenet1k_v2`.
///
/// # Errors
/// If there is neither; the message lists the items and near names of weights.
pub fn item_by_name(name: &str, networks: &Networks) -> Result<Item> {
    let unknown = match find_item(name) {
        Ok(item) => return Ok(item.clone()),
        Err(error) => error,
    };
    if let Some((_, weights)) = published_by_file(name, networks) {
        return published_item(weights);
    }
    let published = networks.iter().flat_map(NetworkEntry::published_weights);
    let files: Vec<&str> = published.map(|weights| weights.file.as_str()).collect();
    let near = did_you_mean(name, files);
    match near.as_str() {
        "" => Err(unknown.into()),
        near => Err(Error::invalid(format!("nothing to fetch is called `{name}`{near}"))),
    }
}

fn published_by_file<'a>(
    name: &str,
    networks: &'a Networks,
) -> Option<(&'a NetworkEntry, &'a PublishedWeights)> {
    networks.iter().find_map(|entry| {
        let mut all = entry.published_weights().iter();
        all.find(|weights| weights.file.eq_ignore_ascii_case(name)).map(|weights| (entry, weights))
    })
}

/// The items that `folder` holds: those of the catalog, of which it may also hold none, and published weights of
/// registered networks.
pub fn items_in_folder(folder: &Path, networks: &Networks) -> Vec<Item> {
    let published = networks.iter().flat_map(NetworkEntry::published_weights);
    let others = published.filter(|weights| find_item(&weights.file).is_err());
    let others = others.filter_map(|weights| published_item(weights).ok());
    let others = others.filter(|item| is_in_folder(item, folder));
    catalog().iter().cloned().chain(others).collect()
}

/// An error of fetching the item `name` by its name. If it is that a folder does not hold these weights, the message
/// also names those of the same network that the folder does hold.
pub fn with_other_versions(error: Error, name: &str, networks: &Networks) -> Error {
    match published_by_file(name, networks) {
        Some((entry, _)) => what_lies_there(error, entry.published_weights()),
        None => error,
    }
}

/// The published network `architecture`, with the weights that `name` stands for ([`Weights::find`]). If they are
/// not in `data_dir`, `bring` fetches them.
///
/// # Errors
/// If there is no such network, or its weights are not to be had or do not fit.
pub fn published_classifier(
    architecture: &str,
    name: &str,
    data_dir: &Path,
    registry: &Registry,
    device: &Device,
    bring: impl Fn(&Item) -> Result<()>,
) -> Result<(Classifier, Weights)> {
    registry.check()?;
    let entry = registry.networks.get(architecture)?;
    let weights = Weights::provide(entry, name, data_dir, bring)?;
    let classifier = Classifier::published(architecture, near(&weights.file), registry, device)?;
    Ok((classifier, weights))
}

/// The network `architecture` as a backbone, whose weights need no head ([`Classifier::backbone`]). `name` is as in
/// [`Weights::find`], or `none` for an untrained network. If the weights are not in `data_dir`, `bring` fetches them. The
/// second value is the file, if there is one.
///
/// # Errors
/// If there is no such network, or its weights are not to be had or do not fit.
pub fn backbone(
    architecture: &str,
    name: &str,
    data_dir: &Path,
    registry: &Registry,
    device: &Device,
    bring: impl Fn(&Item) -> Result<()>,
) -> Result<(Classifier, Option<PathBuf>)> {
    registry.check()?;
    let entry = registry.networks.get(architecture)?;
    if name == "none" {
        return Ok((Classifier::backbone(architecture, None, registry, device)?, None));
    }
    let weights = Weights::provide(entry, name, data_dir, bring)?;
    let file = near(&weights.file);
    Ok((Classifier::backbone(architecture, Some(file), registry, device)?, Some(weights.file)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str) -> NetworkEntry {
        Networks::standard().get(name).unwrap().clone()
    }

    #[test]
    fn names_stand_for_versions_files_and_paths() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path();
        let find = |name: &str| Weights::find(&entry("resnet50"), name, data).unwrap();
        let version = |weights: Weights| weights.published.map(|published| published.name);

        let best = find(IMAGENET);
        assert_eq!(best.file, data.join("weights/resnet50-imagenet1k_v2.safetensors"));
        assert_eq!(version(best), Some("IMAGENET1K_V2".to_owned()));
        let first = find("imagenet1k_v1");
        assert_eq!(first.file, data.join("weights/resnet50.safetensors"));
        assert_eq!(version(find("resnet50")), Some("IMAGENET1K_V1".to_owned()));
        assert_eq!(version(find("my/resnet50-11ad3fa6.pth")), Some("IMAGENET1K_V2".to_owned()));
        assert_eq!(find("my/best.safetensors").item, None);
        let unknown = |name: &str| Weights::find(&entry("resnet50"), name, data).unwrap_err();
        let message = unknown("imagenat").to_string();
        assert!(message.contains("did you mean `imagenet`"), "{message}");
        let message = unknown("IMAGENET1K_V3").to_string();
        assert!(message.contains("take imagenet, IMAGENET1K_V2, IMAGENET1K_V1"), "{message}");

        // What is here already is taken.
        std::fs::create_dir(data.join("weights")).unwrap();
        std::fs::write(&first.file, "").unwrap();
        assert_eq!(find("ImageNet").file, first.file);
    }

    #[test]
    fn published_weights_are_items_with_their_publishers_address_and_sum() {
        let folder = Path::new("data");
        let item = |network: &str, name: &str| {
            Weights::find(&entry(network), name, folder).unwrap().item().unwrap().unwrap()
        };
        let item50 = item("resnet50", "IMAGENET1K_V2");
        let Some(Source::Pth { file, mirrors, to }) = item50.sources.first() else { panic!() };
        assert_eq!(file.name, "resnet50-11ad3fa6.pth");
        assert_eq!(file.sha256.as_ref().map(ToString::to_string), Some("11ad3fa6".to_owned()));
        assert_eq!(mirrors, &["https://download.pytorch.org/models/"]);
        assert_eq!(to, "weights/resnet50-imagenet1k_v2.safetensors");
        // The catalog knows more of this one.
        assert_eq!(item("resnet18", IMAGENET).sources.len(), 2);
        assert!(Weights::find(&entry("mlp"), IMAGENET, folder).is_err());
    }

    #[test]
    fn what_can_be_fetched_is_found_by_name() {
        let networks = Networks::standard();
        for name in ["mnist", "resnet18", "resnet50", "resnet50-imagenet1k_v2"] {
            assert!(
                item_by_name(&name.to_uppercase(), &networks).is_ok() || name == "mnist",
                "{name}"
            );
            assert_eq!(item_by_name(name, &networks).unwrap().name, name);
        }
        let error = item_by_name("resnet5", &networks).unwrap_err().to_string();
        assert!(error.contains("did you mean `resnet50`"), "{error}");
    }
}
