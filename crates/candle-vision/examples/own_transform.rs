//! A random transform of one's own: GridDropout (Chen et al. 2020) cuts squares out of the image.

#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;

use candle_vision::Registry;
use candle_vision::data::transforms::{
    Compose, Normalize, RandomResizedCrop, ToTensor, Transform, TransformEntry, describe,
};
use candle_vision::data::{Generator, Image, Result, random};
use candle_vision::registry::Description;
use serde::{Deserialize, Serialize};

/// Blackens cells of a grid, each with probability `p`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GridDropout {
    /// Side of a cell, in pixels.
    pub cell: usize,
    /// Probability that a cell is blackened.
    pub p: f64,
}

impl Transform for GridDropout {
    fn apply(&self, mut image: Image, rng: &mut Generator) -> Result<Image> {
        let (width, channels) = (image.width(), image.channels());
        let columns = width.div_ceil(self.cell);
        let cells = columns * image.height().div_ceil(self.cell);
        let dropped: Vec<bool> = (0..cells).map(|_| random::chance(rng, self.p)).collect();
        for (index, pixel) in image.pixels_mut().chunks_mut(channels).enumerate() {
            let (row, column) = (index / width / self.cell, index % width / self.cell);
            if dropped[row * columns + column] {
                pixel.fill(0);
            }
        }
        Ok(image)
    }

    fn is_random(&self) -> bool {
        true
    }

    fn describe(&self) -> Description {
        describe("grid_dropout", self)
    }
}

/// Applies the transform, and names it in a recipe.
pub fn run() -> std::result::Result<(), Box<dyn Error>> {
    let train = Compose::new()
        .with(RandomResizedCrop::new(224).scale(0.35, 1.0))
        .with(GridDropout { cell: 32, p: 0.3 })
        .with(ToTensor)
        .with(Normalize::imagenet());
    let photo = Image::new(300, 200, 3, vec![200; 300 * 200 * 3])?;
    let first = train.apply(&photo, &mut random::generator(0))?;
    println!("{:?}", first.shape());

    let registry = Registry::standard()
        .transform(TransformEntry::of::<GridDropout>("grid_dropout", "blackens cells of a grid"));
    registry.check()?;
    let again = train.describe().build(&registry.transforms)?;
    assert_eq!(again.apply(&photo, &mut random::generator(0))?, first);
    Ok(())
}

fn main() -> std::result::Result<(), Box<dyn Error>> {
    run()
}
