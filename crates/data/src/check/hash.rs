//! A hash of what an image shows, which is alike for images that look alike.

use std::f64::consts::PI;

use serde::{Serialize, Serializer};

use crate::image::Image;

/// Rows and columns of the reduced image.
const SIDE: usize = 32;

/// Rows and columns of frequencies in a hash.
const LOW: usize = 8;

/// A hash of 64 bits of what an image shows. The hashes of images that look alike differ in few bits, and those of
/// unrelated images in about 32.
///
/// It is the DCT hash (`phash` of Python's `imagehash`): brightness in 32x32 cells, their 8x8 lowest frequencies, and for
/// each whether it is above the median. Changes of size, compression and brightness hardly change it. Crops, turns and
/// mirroring do.
///
/// ```
/// use candle_vision_data::Image;
/// use candle_vision_data::check::Thumbnail;
///
/// let ramp = |side: usize| {
///     let pixels = (0..side * side).map(|i| (i % side * 200 / side) as u8).collect();
///     Image::new(side, side, 1, pixels)
/// };
/// let [large, small] = [ramp(256)?, ramp(64)?].map(|image| Thumbnail::of(&image).hash());
/// assert!(large.distance(small) <= 4);
/// # Ok::<(), candle_vision_data::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PerceptualHash(pub u64);

impl PerceptualHash {
    /// Number of bits in which two hashes differ.
    pub fn distance(self, other: Self) -> u32 {
        (self.0 ^ other.0).count_ones()
    }
}

/// 16 hexadecimal digits, because JSON's numbers have but 53 bits.
impl Serialize for PerceptualHash {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&format!("{:016x}", self.0))
    }
}

/// An image in few numbers: brightness in 32x32 cells for a while, colours in 8x8 cells to keep.
#[derive(Clone, Debug)]
pub struct Thumbnail {
    hash: PerceptualHash,
    is_blank: bool,
    /// Red, green and blue of 8x8 cells.
    colors: [u8; 3 * LOW * LOW],
}

impl Thumbnail {
    /// Reduces an image.
    pub fn of(image: &Image) -> Self {
        let cells = cells(image);
        let luma = cells.map(|[red, green, blue]| 0.299 * red + 0.587 * green + 0.114 * blue);
        let extremes = |channel: fn(&[f64; 3]) -> f64| {
            let values = cells.iter().map(channel);
            values.fold((f64::INFINITY, 0.0_f64), |(low, high), v| (low.min(v), high.max(v)))
        };
        let channels: [fn(&[f64; 3]) -> f64; 3] = [|c| c[0], |c| c[1], |c| c[2]];
        let ranges = channels.map(extremes);
        let mut colors = [0; 3 * LOW * LOW];
        let (block, area) = (SIDE / LOW, (SIDE / LOW).pow(2) as f64);
        for (cell, color) in colors.chunks_exact_mut(3).enumerate() {
            let (x, y) = (cell % LOW * block, cell / LOW * block);
            let inside = (0..block * block).map(|i| cells[(y + i / block) * SIDE + x + i % block]);
            let sum = inside.fold([0.0; 3], |sum: [f64; 3], cell| {
                std::array::from_fn(|channel| sum[channel] + cell[channel])
            });
            color.iter_mut().zip(sum).for_each(|(to, sum)| *to = (sum / area).round() as u8);
        }
        // Within two levels of one colour everywhere: what noise and compression leave of it.
        let is_blank = ranges.iter().all(|(low, high)| high - low <= 4.0);
        Self { hash: hash(&luma), is_blank, colors }
    }

    /// The hash.
    pub fn hash(&self) -> PerceptualHash {
        self.hash
    }

    /// Whether all cells have the same colour, or nearly so. The hash of such an image says nothing.
    pub fn is_blank(&self) -> bool {
        self.is_blank
    }

    /// How alike the colours of two images lie: the correlation of their cells, 1 for the same image or the same with
    /// other brightness or contrast.
    pub fn likeness(&self, other: &Self) -> f64 {
        let count = self.colors.len() as f64;
        let mean = |colors: &[u8]| colors.iter().map(|&v| f64::from(v)).sum::<f64>() / count;
        let (mine, theirs) = (mean(&self.colors), mean(&other.colors));
        let (mut both, mut of_mine, mut of_theirs) = (0.0, 0.0, 0.0);
        for (&a, &b) in self.colors.iter().zip(&other.colors) {
            let (a, b) = (f64::from(a) - mine, f64::from(b) - theirs);
            both += a * b;
            of_mine += a * a;
            of_theirs += b * b;
        }
        if of_mine == 0.0 || of_theirs == 0.0 {
            return f64::from(u8::from(of_mine == of_theirs));
        }
        both / (of_mine * of_theirs).sqrt()
    }
}

/// The mean red, green and blue of 32x32 cells. A cell of a small image has at least one pixel.
fn cells(image: &Image) -> [[f64; 3]; SIDE * SIDE] {
    let range = |cell: usize, length: usize| {
        let start = cell * length / SIDE;
        start..((cell + 1) * length).div_ceil(SIDE).max(start + 1).min(length)
    };
    let columns: [_; SIDE] = std::array::from_fn(|cell| range(cell, image.width()));
    let channels = image.channels();
    let mut means = [[0.0; 3]; SIDE * SIDE];
    for (row, means) in means.chunks_exact_mut(SIDE).enumerate() {
        let rows = range(row, image.height());
        let mut sums = [[0_u64; 3]; SIDE];
        for y in rows.clone() {
            let pixels = image.row(y);
            for (sum, columns) in sums.iter_mut().zip(&columns) {
                let part = &pixels[columns.start * channels..columns.end * channels];
                for pixel in part.chunks_exact(channels) {
                    for (channel, sum) in sum.iter_mut().enumerate() {
                        *sum += u64::from(pixel[channel.min(channels - 1)]);
                    }
                }
            }
        }
        for ((mean, sum), columns) in means.iter_mut().zip(sums).zip(&columns) {
            let pixels = (rows.len() * columns.len()) as f64;
            *mean = sum.map(|sum| sum as f64 / pixels);
        }
    }
    means
}

/// The lowest frequencies of the cosine transform (DCT-II), each compared with their median.
fn hash(luma: &[f64; SIDE * SIDE]) -> PerceptualHash {
    let wave = |frequency: usize, at: usize| {
        (PI * frequency as f64 * (2 * at + 1) as f64 / (2 * SIDE) as f64).cos()
    };
    let waves: [[f64; SIDE]; LOW] =
        std::array::from_fn(|frequency| std::array::from_fn(|at| wave(frequency, at)));
    let mut across = [[0.0; LOW]; SIDE];
    for (row, across) in luma.chunks_exact(SIDE).zip(&mut across) {
        for (value, wave) in across.iter_mut().zip(&waves) {
            *value = row.iter().zip(wave).map(|(a, b)| a * b).sum();
        }
    }
    let mut low = [0.0; LOW * LOW];
    for (i, value) in low.iter_mut().enumerate() {
        let (down, along) = (i / LOW, i % LOW);
        *value = (0..SIDE).map(|y| across[y][along] * waves[down][y]).sum();
    }
    let mut sorted = low;
    sorted.sort_by(f64::total_cmp);
    let median = f64::midpoint(sorted[LOW * LOW / 2 - 1], sorted[LOW * LOW / 2]);
    let bits = low.iter().fold(0, |bits, value| (bits << 1) | u64::from(*value > median));
    PerceptualHash(bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(seed: u64) -> Vec<f64> {
        let mut rng = crate::random::generator(seed);
        (0..64 * 48).map(|_| crate::random::between(&mut rng, 0.0, 255.0)).collect()
    }

    /// Blobs rather than single pixels, as photos have them.
    fn image(seed: u64, change: impl Fn(f64) -> f64, scale: usize) -> Image {
        let coarse = noise(seed);
        let (width, height) = (160 * scale, 120 * scale);
        let pixels = (0..width * height * 3).map(|i| {
            let (x, y, channel) =
                (i / 3 % width / (20 * scale), i / 3 / width / (20 * scale), i % 3);
            change(coarse[(y * 8 + x) * 3 + channel]).clamp(0.0, 255.0) as u8
        });
        Image::new(width, height, 3, pixels.collect()).unwrap()
    }

    #[test]
    fn images_that_look_alike_have_hashes_that_are_alike() {
        let of = |image: &Image| Thumbnail::of(image);
        let plain = of(&image(1, |v| v, 1));
        for changed in [image(1, |v| v, 2), image(1, |v| 0.7 * v + 40.0, 1)] {
            let changed = of(&changed);
            let distance = plain.hash().distance(changed.hash());
            assert!(distance <= 2, "{distance}");
            assert!(plain.likeness(&changed) > 0.99);
        }
        for seed in 2..20 {
            let other = of(&image(seed, |v| v, 1));
            assert!(plain.hash().distance(other.hash()) > 12);
            assert!(plain.likeness(&other) < 0.8);
        }
    }

    #[test]
    fn an_image_of_one_colour_is_blank() {
        let image = |pixels: Vec<u8>| Image::new(40, 30, 3, pixels).unwrap();
        assert!(Thumbnail::of(&image(vec![200; 3600])).is_blank());
        let mut half = vec![200; 1800];
        half.extend([190; 1800]);
        assert!(!Thumbnail::of(&image(half)).is_blank());
        // Equally bright, but of two colours.
        let reds = [[128, 0, 0], [0, 65, 0]].concat().repeat(600);
        assert!(!Thumbnail::of(&Image::new(2, 600, 3, reds).unwrap()).is_blank());
    }

    #[test]
    fn the_smallest_images_have_a_hash() {
        for (width, height) in [(1, 1), (1, 500), (33, 1), (31, 7)] {
            let image = Image::new(width, height, 1, vec![7; width * height]).unwrap();
            assert!(Thumbnail::of(&image).is_blank());
        }
    }

    /// Made with scipy 1.17.1 (`scipy.fftpack`) on 32x32 values `(13 * x * x + 7 * y * x + 29 * y) % 256`:
    /// `low = dct(dct(v, axis=0), axis=1)[:8, :8]; low > np.median(low)`.
    #[test]
    fn hashes_are_those_of_python_s_imagehash() {
        let value = |i: usize| {
            ((13 * (i % 32).pow(2) + 7 * (i / 32) * (i % 32) + 29 * (i / 32)) % 256) as u8
        };
        let image = Image::new(32, 32, 1, (0..1024).map(value).collect()).unwrap();
        assert_eq!(Thumbnail::of(&image).hash(), PerceptualHash(REFERENCE));
    }

    const REFERENCE: u64 = 0x8FDD_2ADC_29AA_203D;
}
