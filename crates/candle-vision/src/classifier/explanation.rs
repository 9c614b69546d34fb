//! An image with the map that explains what a classifier says of it.

use std::path::Path;

use candle_vision_data::Image;
use candle_vision_explain::ClassActivationMap;
use candle_vision_report::{Colormap, Explanation, RgbView, explanation_png};

use super::in_channels;
use crate::{Error, Result};

/// A map with the image that it is about.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ExplainedImage {
    /// Which places of the image speak for the class.
    pub map: ClassActivationMap,
    /// The name of the class that the map is about.
    pub class: String,
    /// The part of the image that the network saw; `None` for a tensor, which is no image any more.
    pub seen: Option<Image>,
    name: String,
}

impl ExplainedImage {
    pub(super) fn new(
        map: ClassActivationMap,
        class: String,
        seen: Option<Image>,
        name: String,
    ) -> Self {
        Self { map, class, seen, name }
    }

    /// Writes the image, the map and one over the other as a PNG.
    ///
    /// # Errors
    /// If the file cannot be written, or if a tensor was explained.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let Some(seen) = &self.seen else {
            return Err(Error::NoImage);
        };
        let seen = in_channels(seen.clone(), 3)?;
        let file = Path::new(&self.name).file_name().unwrap_or_default().to_string_lossy();
        let explanation = Explanation {
            image: RgbView::new(seen.width(), seen.height(), seen.pixels())?,
            map: &self.map,
            file: &file,
            class: &self.class,
            colormap: Colormap::default(),
        };
        Ok(explanation_png(&explanation, path.as_ref())?)
    }
}
