//! An image that the network found hard, with its map and its caption.

use serde::Serialize;

use super::WorstImage;
use super::data_uri::{LONGEST, data_uri};
use crate::Result;
use crate::image::{SMALL, fit};
use crate::overlay::overlaid;

/// One of the worst images as its template wants it.
#[derive(Debug, Serialize)]
pub(super) struct Card<'a> {
    image: String,
    /// Image with map.
    overlay: Option<String>,
    /// Whether the map is positive anywhere.
    positive: bool,
    /// Whether its pixels are to stay squares when enlarged.
    pixels: bool,
    name: &'a str,
    label: &'a str,
    predicted: &'a str,
    right: bool,
    probability: f64,
    loss: f64,
}

impl<'a> Card<'a> {
    pub(super) fn of(worst: &WorstImage<'a>, classes: &'a [String]) -> Result<Self> {
        let prediction = worst.prediction;
        let class = |number: u32| classes.get(number as usize).map_or("?", String::as_str);
        let (width, height) = worst.image.size();
        // A page enlarges images of few pixels by itself, but a map on them needs room.
        let image = worst.image.resized(fit((width, height), LONGEST));
        let overlay = worst.map.map(|map| data_uri(&overlaid(&image, map)?)).transpose()?;
        Ok(Self {
            image: data_uri(&worst.image.resized(small((width, height))))?,
            overlay,
            positive: worst.map.is_some_and(|map| map.positive),
            pixels: width.max(height) <= SMALL,
            name: worst.name,
            label: class(prediction.label),
            predicted: class(prediction.predicted),
            right: prediction.label == prediction.predicted,
            probability: prediction.probability,
            loss: prediction.loss,
        })
    }
}

/// At most [`LONGEST`] a side, never enlarged.
fn small((width, height): (u32, u32)) -> (u32, u32) {
    if width.max(height) <= LONGEST { (width, height) } else { fit((width, height), LONGEST) }
}
