//! Smaller images of whole factors.

use super::Image;

/// The image with the mean of `factor` x `factor` pixels in place of them. At the right and at the lower edge there may be
/// fewer. This is Pillow's `Image.reduce`.
pub(super) fn reduce(image: &Image, factor: usize) -> Image {
    if factor <= 1 {
        return image.clone();
    }
    let channels = image.channels();
    let [width, height] =
        [image.width(), image.height()].map(|length: usize| length.div_ceil(factor));
    let mut reduced = Image::filled(width, height, channels, 0);
    let mut sums = vec![0_u32; width * channels];
    for y in 0..height {
        let rows = y * factor..((y + 1) * factor).min(image.height());
        let high = rows.len();
        sums.fill(0);
        for row in rows {
            let blocks = image.row(row).chunks(factor * channels);
            for (sums, block) in sums.chunks_exact_mut(channels).zip(blocks) {
                for pixel in block.chunks_exact(channels) {
                    sums.iter_mut().zip(pixel).for_each(|(sum, &value)| *sum += u32::from(value));
                }
            }
        }
        let pixels = reduced.row_mut(y).chunks_exact_mut(channels);
        for (x, (pixel, sums)) in pixels.zip(sums.chunks_exact(channels)).enumerate() {
            let count = (factor.min(image.width() - x * factor) * high) as u32;
            pixel.iter_mut().zip(sums).for_each(|(value, &sum)| {
                *value = ((sum + count / 2) / count) as u8;
            });
        }
    }
    reduced
}
