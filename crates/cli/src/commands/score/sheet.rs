//! The maps of one picture side by side.

use std::path::Path;

use anyhow::Result;
use candle_vision::data::Picture;
use candle_vision::explain::ClassActivationMap;
use candle_vision::report::{Colormap, GridPicture, RgbView, picture_grid_png};

const COLUMNS: usize = 6;

/// A picture, its mask, and maps of it, in the order in which they were added.
pub(super) struct Sheet {
    width: usize,
    height: usize,
    tiles: Vec<(String, Vec<u8>)>,
}

impl Sheet {
    /// Begins with the picture as the network sees it.
    pub(super) fn new(picture: Picture, mask: Option<&[bool]>) -> Self {
        let (width, height) = (picture.width(), picture.height());
        let mut tiles = vec![("picture".to_owned(), picture.into_pixels())];
        if let Some(mask) = mask {
            let pixels = mask.iter().flat_map(|inside| [if *inside { 255 } else { 0 }; 3]);
            tiles.push(("mask".to_owned(), pixels.collect()));
        }
        Self { width, height, tiles }
    }

    /// Width of the picture, in pixels.
    pub(super) fn width(&self) -> usize {
        self.width
    }

    /// Width or height of the picture, in pixels.
    pub(super) fn longer_side(&self) -> usize {
        self.width.max(self.height)
    }

    pub(super) fn add(&mut self, name: &str, map: &ClassActivationMap) {
        let colors = map.map.iter().flat_map(|value| Colormap::default().color(f64::from(*value)));
        let caption = if map.positive { name.to_owned() } else { format!("{name}: nothing") };
        self.tiles.push((caption, colors.collect()));
    }

    pub(super) fn write(&self, title: &str, path: &Path) -> Result<()> {
        let mut pictures = Vec::with_capacity(self.tiles.len());
        for (caption, pixels) in &self.tiles {
            let picture = RgbView::new(self.width, self.height, pixels)?;
            pictures.push(GridPicture { picture, caption: caption.clone() });
        }
        Ok(picture_grid_png(&pictures, COLUMNS, title, path)?)
    }
}
