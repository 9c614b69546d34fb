//! One of the worst images, with its map and caption.

use serde::Serialize;

use super::WorstImage;
use super::data_uri::{LONGEST, data_uri};
use crate::Result;
use crate::image::{SMALL, fit};
use crate::overlay::overlaid;

/// One of the worst images, in the form for its template.
#[derive(Debug, Serialize)]
pub(super) struct Card<'a> {
    image: String,
    /// The image with the map over it, as a `data:` address.
    overlay: Option<String>,
    /// Whether the map is positive anywhere.
    positive: bool,
    /// Whether its pixels stay squares when the page enlarges it.
    pixels: bool,
    name: &'a str,
    /// The class of the image, or all its labels.
    label: String,
    /// The class that the network names, or all labels.
    predicted: String,
    /// The most probable class. The map is about it.
    named: &'a str,
    right: bool,
    probability: f64,
    loss: f64,
}

impl<'a> Card<'a> {
    pub(super) fn of(worst: &WorstImage<'a>, classes: &'a [String]) -> Result<Self> {
        let prediction = worst.prediction;
        let class = |number: u32| classes.get(number as usize).map_or("?", String::as_str);
        let all = |numbers: &[u32]| match numbers {
            [] => "no label".to_owned(),
            numbers => numbers.iter().map(|&n| class(n)).collect::<Vec<_>>().join(", "),
        };
        let named = class(prediction.predicted);
        let (label, predicted) = match &prediction.label_sets {
            Some(sets) => (all(&sets.labels), all(&sets.predicted)),
            None => (class(prediction.label).to_owned(), named.to_owned()),
        };
        let (width, height) = worst.image.size();
        // A page enlarges small images by itself, but a map over one needs a larger image.
        let image = worst.image.resized(fit((width, height), LONGEST));
        let overlay = worst.map.map(|map| data_uri(&overlaid(&image, map)?)).transpose()?;
        Ok(Self {
            image: data_uri(&worst.image.resized(small((width, height))))?,
            overlay,
            positive: worst.map.is_some_and(|map| map.positive),
            pixels: width.max(height) <= SMALL,
            name: worst.name,
            label,
            predicted,
            named,
            right: prediction.is_right(),
            probability: prediction.probability,
            loss: prediction.loss,
        })
    }
}

/// The size with sides of at most [`LONGEST`] pixels. It is never enlarged.
fn small((width, height): (u32, u32)) -> (u32, u32) {
    if width.max(height) <= LONGEST { (width, height) } else { fit((width, height), LONGEST) }
}
