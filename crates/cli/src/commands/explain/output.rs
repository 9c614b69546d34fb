//! Writes the maps to files.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use candle_vision::explain::{ClassActivationMap, Method};
use candle_vision::report::{Colormap, Explanation, RgbView, explanation_png};
use candle_vision::train::write_atomically;
use candle_vision::{Classifier, in_channels};
use serde::Serialize;

use crate::args::{ExplainArgs, MapFormat};
use crate::batches::Input;
use crate::named_images::Named;
use crate::output_names::{distinct, unused};

/// The place and format of the maps.
pub(super) struct Outputs {
    format: MapFormat,
    place: DataFolder,
    /// The files written so far.
    written: HashSet<PathBuf>,
}

enum DataFolder {
    /// The file that was asked for.
    File(PathBuf),
    /// A folder, and a name for each image.
    Folder(PathBuf, Vec<String>),
}

impl Outputs {
    /// `--output` is a file for one image and a folder for several. Without it the maps go to the current
    /// folder, because the photographs' folder may be read-only.
    pub(super) fn new(args: &ExplainArgs, named: &Named) -> Result<Self> {
        let format = args.format.unwrap_or_else(|| format_of(args.output.as_deref()));
        let place = match &args.output {
            Some(output) if !is_folder(output, named) => DataFolder::File(output.clone()),
            output => {
                let folder = output.clone().unwrap_or_default();
                check_folder(&folder, named.images.len())?;
                DataFolder::Folder(folder, distinct(&named.images))
            }
        };
        Ok(Self { format, place, written: HashSet::new() })
    }

    /// Writes the map of an image and returns the path of the file.
    pub(super) fn write(
        &mut self,
        method: &Method,
        classifier: &Classifier,
        input: &Input<'_>,
        map: &ClassActivationMap,
        class: &str,
    ) -> Result<PathBuf> {
        let path = self.path(input.index);
        match self.format {
            MapFormat::Png => draw(classifier, input, map, class, &path)?,
            MapFormat::Npy => write_atomically(&path, &map.to_npy())?,
            MapFormat::Json => write_atomically(&path, &json(method, input, map, class)?)?,
        }
        self.written.insert(path.clone());
        Ok(path)
    }

    /// `photo.jpg` becomes `photo.explain.png`. Existing files are not overwritten.
    fn path(&self, index: usize) -> PathBuf {
        let (folder, names) = match &self.place {
            DataFolder::File(path) => return path.clone(),
            DataFolder::Folder(folder, names) => (folder, names),
        };
        let ending = match self.format {
            MapFormat::Png => "png",
            MapFormat::Npy => "npy",
            MapFormat::Json => "json",
        };
        unused(folder.join(format!("{}.explain.{ending}", names[index])), &self.written)
    }
}

fn is_folder(output: &Path, named: &Named) -> bool {
    let is_file_name = known_format(output).is_some();
    named.images.len() > 1
        || output.is_dir()
        || output.to_string_lossy().ends_with(['/', std::path::MAIN_SEPARATOR])
        || (named.is_expanded && !is_file_name)
}

fn check_folder(folder: &Path, images: usize) -> Result<()> {
    if folder.as_os_str().is_empty() || folder.is_dir() {
        return Ok(());
    }
    ensure!(
        known_format(folder).is_none() && !folder.exists(),
        "`{}` is one file, but there are {images} images; name a folder with --output DIR",
        folder.display()
    );
    std::fs::create_dir_all(folder)
        .with_context(|| format!("cannot make the folder `{}`", folder.display()))
}

/// The format that the extension of a file asks for.
fn format_of(output: Option<&Path>) -> MapFormat {
    output.and_then(known_format).unwrap_or(MapFormat::Png)
}

fn known_format(output: &Path) -> Option<MapFormat> {
    match output.extension()?.to_str()? {
        "npy" => Some(MapFormat::Npy),
        "json" => Some(MapFormat::Json),
        "png" => Some(MapFormat::Png),
        _ => None,
    }
}

fn draw(
    classifier: &Classifier,
    input: &Input<'_>,
    map: &ClassActivationMap,
    class: &str,
    path: &Path,
) -> Result<()> {
    let seen = in_channels(classifier.seen(&input.image)?, 3)?;
    let file = input.path.file_name().unwrap_or_default().to_string_lossy();
    let explanation = Explanation {
        image: RgbView::new(seen.width(), seen.height(), seen.pixels())?,
        map,
        file: &file,
        class,
        colormap: Colormap::default(),
    };
    Ok(explanation_png(&explanation, path)?)
}

/// The contents of the file of `--format json`.
#[derive(Serialize)]
struct Numbers<'a> {
    image: String,
    method: &'a str,
    layer: &'a str,
    class: &'a str,
    class_index: usize,
    probability: f64,
    /// Whether the map is positive anywhere.
    positive: bool,
    height: usize,
    width: usize,
    /// Rows of values in `0.0..=1.0`.
    map: Vec<&'a [f32]>,
}

fn json(
    method: &Method,
    input: &Input<'_>,
    map: &ClassActivationMap,
    class: &str,
) -> Result<Vec<u8>> {
    Ok(serde_json::to_vec(&Numbers {
        image: input.path.display().to_string(),
        method: method.name(),
        layer: &map.layer,
        class,
        class_index: map.class,
        probability: map.probability,
        positive: map.positive,
        height: map.height,
        width: map.width,
        map: map.map.chunks(map.width).collect(),
    })?)
}
