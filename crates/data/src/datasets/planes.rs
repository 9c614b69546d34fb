//! Images of one size in memory, stored channel after channel, as several binary formats have them.

use crate::dataset::{Dataset, Fingerprint, Sample, Split, check_index};
use crate::error::Result;
use crate::image::Image;

/// RGB images of one size in memory: for each image a plane of red, one of green and one of blue.
pub(super) struct Planes {
    /// The name of the data set, for the fingerprint.
    pub(super) kind: &'static str,
    pub(super) split: Split,
    /// Width and height.
    pub(super) side: usize,
    /// Whether a plane is stored column by column, as MATLAB does, instead of row by row.
    pub(super) by_column: bool,
    /// All images, one after the other.
    pub(super) pixels: Vec<u8>,
    /// One label per image.
    pub(super) labels: Vec<u8>,
    pub(super) classes: Vec<String>,
}

impl Planes {
    /// Bytes of one image.
    pub(super) const fn bytes(side: usize) -> usize {
        3 * side * side
    }
}

impl Dataset for Planes {
    fn len(&self) -> usize {
        self.labels.len()
    }

    fn sample(&self, index: usize) -> Result<Sample> {
        check_index(index, self.len())?;
        let (side, area) = (self.side, self.side * self.side);
        let planes = &self.pixels[index * 3 * area..][..3 * area];
        let mut pixels = Vec::with_capacity(3 * area);
        for row in 0..side {
            for column in 0..side {
                let at = if self.by_column { column * side + row } else { row * side + column };
                pixels.extend([planes[at], planes[area + at], planes[2 * area + at]]);
            }
        }
        Ok(Sample::new(Image::new(side, side, 3, pixels)?, self.label(index)))
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn label(&self, index: usize) -> u32 {
        u32::from(self.labels[index])
    }

    fn name(&self, index: usize) -> String {
        format!("{}[{index}]", self.split)
    }

    fn fingerprint(&self) -> String {
        let classes = self.classes.len() as u64;
        Fingerprint::new(self.kind).number(classes).bytes(&self.labels).finish()
    }

    fn in_memory(&self) -> bool {
        true
    }

    fn is_cacheable(&self) -> bool {
        true
    }
}
