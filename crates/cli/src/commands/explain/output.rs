//! The map as a file.

use std::path::{Path, PathBuf};

use anyhow::Result;
use candle_vision::data::Picture;
use candle_vision::explain::ClassActivationMap;
use candle_vision::report::{Colormap, Explanation, RgbView, explanation_png};
use candle_vision::train::write_atomically;
use serde::Serialize;

use crate::args::{ExplainArgs, MapFormat};
use crate::sources::{self, Restored};

/// Writes the map where and as `args` say, and returns where that is.
pub(super) fn write(
    args: &ExplainArgs,
    restored: &Restored,
    picture: &Picture,
    map: &ClassActivationMap,
    class: &str,
) -> Result<PathBuf> {
    let format = args.format.unwrap_or_else(|| format_of(args.output.as_deref()));
    let path = args.output.clone().unwrap_or_else(|| default_path(&args.picture, format));
    match format {
        MapFormat::Png => draw(args, restored, picture, map, class, &path)?,
        MapFormat::Npy => write_atomically(&path, &map.to_npy())?,
        MapFormat::Json => write_atomically(&path, &json(args, map, class)?)?,
    }
    Ok(path)
}

/// The format that a file's name asks for.
fn format_of(output: Option<&Path>) -> MapFormat {
    match output.and_then(Path::extension).and_then(|extension| extension.to_str()) {
        Some("npy") => MapFormat::Npy,
        Some("json") => MapFormat::Json,
        _ => MapFormat::Png,
    }
}

/// `photo.jpg` becomes `photo.explain.png` in the folder one stands in: the photograph's own may be
/// read-only.
fn default_path(picture: &Path, format: MapFormat) -> PathBuf {
    let mut name = picture.file_stem().unwrap_or_default().to_os_string();
    name.push(match format {
        MapFormat::Png => ".explain.png",
        MapFormat::Npy => ".explain.npy",
        MapFormat::Json => ".explain.json",
    });
    name.into()
}

fn draw(
    args: &ExplainArgs,
    restored: &Restored,
    picture: &Picture,
    map: &ClassActivationMap,
    class: &str,
    path: &Path,
) -> Result<()> {
    let seen = sources::in_channels(restored.seen(picture)?, 3)?;
    let file = args.picture.file_name().unwrap_or_default().to_string_lossy();
    let explanation = Explanation {
        picture: RgbView::new(seen.width(), seen.height(), seen.pixels())?,
        map,
        file: &file,
        class,
        colormap: Colormap::default(),
    };
    Ok(explanation_png(&explanation, path)?)
}

/// What `--format json` writes.
#[derive(Serialize)]
struct Numbers<'a> {
    picture: String,
    method: &'a str,
    layer: &'a str,
    class: &'a str,
    class_index: usize,
    probability: f64,
    /// Whether any place speaks for the class.
    positive: bool,
    height: usize,
    width: usize,
    /// Rows of values in 0..=1.
    map: Vec<&'a [f32]>,
}

fn json(args: &ExplainArgs, map: &ClassActivationMap, class: &str) -> Result<Vec<u8>> {
    Ok(serde_json::to_vec(&Numbers {
        picture: args.picture.display().to_string(),
        method: args.method.name(),
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
