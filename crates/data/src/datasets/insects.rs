//! Ants and bees that the program draws itself, with masks. They serve for trials without data, and for scoring
//! explanations against the truth.
//!
//! Both classes share grounds, light, clutter, sizes and poses, and the clutter has the insects' colours. Only
//! their build tells them apart: waist, legs and jaws for ants; stripes, fur and wings for bees.

mod ant;
mod bee;
mod canvas;
mod clutter;
mod geometry;
mod ground;
mod light;
mod limbs;
mod scene;

use geometry::{Frame, point};
use scene::Scene;

use super::{DataSetEntry, OpenRequest, Opened};
use crate::dataset::{Dataset, Fingerprint, Sample, Split, check_index};
use crate::error::{Error, Result};
use crate::image::MAX_SIDE;
use crate::random::{self, Purpose};

pub(super) fn entry() -> DataSetEntry {
    DataSetEntry::new("insects", "built-in drawings of ants and bees", open)
}

fn open(request: &OpenRequest) -> Result<Opened> {
    let is_train = request.split == Split::Train;
    let (setting, count) = if is_train {
        ("train_images", request.train_images)
    } else {
        ("val_images", request.val_images)
    };
    let config = InsectsConfig::new(count).size(request.image_size).seed(request.seed);
    // Names the setting that the user gave.
    let named = |error| match error {
        Error::InvalidSetting { setting: "size", reason } => {
            Error::InvalidSetting { setting: "image_size", reason }
        }
        Error::InvalidSetting { setting: "count", reason } => {
            Error::InvalidSetting { setting, reason }
        }
        error => error,
    };
    Ok(Insects::new(request.split, config).map_err(named)?.into())
}

/// Settings of [`Insects`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct InsectsConfig {
    /// Width and height in pixels, at least 8. The same insects are drawn at every size.
    pub size: usize,
    /// Number of images, half of them of each class.
    pub count: usize,
    /// The seed. Together with the split and the index it determines every image.
    pub seed: u64,
}

impl InsectsConfig {
    /// `count` images, half of each class, with 256 pixels a side and seed 0.
    pub fn new(count: usize) -> Self {
        Self { count, ..Self::default() }
    }

    /// Sets the width and height of the images, in pixels.
    pub fn size(self, size: usize) -> Self {
        Self { size, ..self }
    }

    /// Sets the seed.
    pub fn seed(self, seed: u64) -> Self {
        Self { seed, ..self }
    }
}

impl Default for InsectsConfig {
    fn default() -> Self {
        Self { size: 256, count: 244, seed: 0 }
    }
}

/// Ants and bees with a mask of the insect. Each image is drawn when it is read.
///
/// Even indices are ants, odd ones bees. An image depends only on seed, split and index. So a longer data set
/// begins with the images of a shorter one.
#[derive(Clone, Debug)]
pub struct Insects {
    split: Split,
    config: InsectsConfig,
    classes: Vec<String>,
}

impl Insects {
    /// The drawings for a split.
    ///
    /// # Errors
    /// If the size is below 8 or above [`MAX_SIDE`], or the count is 0.
    pub fn new(split: Split, config: InsectsConfig) -> Result<Self> {
        let InsectsConfig { size, count, .. } = config;
        if !(8..=MAX_SIDE).contains(&size) {
            let reason = format!("must be 8 to {MAX_SIDE} pixels, not {size}");
            return Err(Error::InvalidSetting { setting: "size", reason });
        }
        if count == 0 {
            let reason = "must be at least 1".to_owned();
            return Err(Error::InvalidSetting { setting: "count", reason });
        }
        Ok(Self { split, config, classes: ["ants", "bees"].map(str::to_owned).to_vec() })
    }
}

impl Dataset for Insects {
    fn len(&self) -> usize {
        self.config.count
    }

    fn sample(&self, index: usize) -> Result<Sample> {
        check_index(index, self.len())?;
        let number = ((self.split as u64) << 56) | index as u64;
        let rng = random::stream(self.config.seed, Purpose::Draw, number);
        let label = self.label(index);
        let (image, mask) = draw(Scene::new(self.config.size, rng), label)?;
        Ok(Sample { image, label, mask: Some(mask) })
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn label(&self, index: usize) -> u32 {
        (index % 2) as u32
    }

    fn name(&self, index: usize) -> String {
        format!("insects/{}[{index}]", self.split)
    }

    fn fingerprint(&self) -> String {
        let InsectsConfig { size, count, seed } = self.config;
        let kind = Fingerprint::new("insects").text(self.split.name());
        kind.number(size as u64).number(count as u64).number(seed).finish()
    }

    fn is_cacheable(&self) -> bool {
        true
    }
}

/// Draws in this order: ground and clutter, possibly out of focus; the insect; things in front of it; the
/// effects of the camera.
fn draw(mut scene: Scene, label: u32) -> Result<(crate::Image, crate::Image)> {
    ground::cover(&mut scene);
    clutter::scatter(&mut scene, 7);
    let blur = scene.between(-0.01, 0.02).max(0.0);
    scene.canvas.blur(blur);
    clutter::scatter(&mut scene, 3);

    let frame = pose(&mut scene);
    match label {
        0 => ant::draw(&mut scene, frame),
        _ => bee::draw(&mut scene, frame),
    }
    if scene.chance(0.3) {
        clutter::grass_in_front(&mut scene);
    }
    scene.develop();
    scene.canvas.finish()
}

/// A random pose: near the middle, with any heading, seen from above or slightly from the side.
fn pose(scene: &mut Scene) -> Frame {
    let center = point(scene.between(0.36, 0.64), scene.between(0.36, 0.64));
    let heading = scene.angle();
    let length = scene.between(0.42, 0.78);
    let (share, angle) = (scene.between(0.72, 1.0), scene.angle());
    Frame::new(center, heading, length).flattened(share, angle)
}
