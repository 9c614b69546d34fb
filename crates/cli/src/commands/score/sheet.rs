//! The maps of one image side by side.

use std::path::Path;

use anyhow::Result;
use candle_vision::data::Image;
use candle_vision::explain::ClassActivationMap;
use candle_vision::report::{Colormap, GridImage, RgbView, image_grid_png};

const COLUMNS: usize = 6;

/// An image, its mask, and maps of it, in the order in which they were added.
pub(super) struct Sheet {
    width: usize,
    height: usize,
    tiles: Vec<(String, Vec<u8>)>,
}

impl Sheet {
    /// A sheet that begins with the image as the network sees it.
    pub(super) fn new(image: Image, mask: Option<&[bool]>) -> Self {
        let (width, height) = (image.width(), image.height());
        let mut tiles = vec![("image".to_owned(), image.into_pixels())];
        if let Some(mask) = mask {
            let pixels = mask.iter().flat_map(|inside| [if *inside { 255 } else { 0 }; 3]);
            tiles.push(("mask".to_owned(), pixels.collect()));
        }
        Self { width, height, tiles }
    }

    /// Width of the image, in pixels.
    pub(super) fn width(&self) -> usize {
        self.width
    }

    /// Width or height of the image, in pixels.
    pub(super) fn longer_side(&self) -> usize {
        self.width.max(self.height)
    }

    pub(super) fn add(&mut self, name: &str, map: &ClassActivationMap) {
        let colors = map.map.iter().flat_map(|value| Colormap::default().color(f64::from(*value)));
        let caption = if map.positive { name.to_owned() } else { format!("{name}: nothing") };
        self.tiles.push((caption, colors.collect()));
    }

    pub(super) fn write(&self, title: &str, path: &Path) -> Result<()> {
        let mut images = Vec::with_capacity(self.tiles.len());
        for (caption, pixels) in &self.tiles {
            let image = RgbView::new(self.width, self.height, pixels)?;
            images.push(GridImage { image, caption: caption.clone() });
        }
        Ok(image_grid_png(&images, COLUMNS, title, path)?)
    }
}
