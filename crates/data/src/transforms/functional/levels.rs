//! Changes that give each value another value, with the arithmetic of Pillow's `ImageOps`.

use crate::image::Image;

/// Turns each value `v` into `255 - v`.
pub fn invert(image: &Image) -> Image {
    with_tables(image, |_| std::array::from_fn(|value| 255 - value as u8))
}

/// Keeps the highest `bits` bits of each value. 8 and more change nothing, 0 gives black.
pub fn posterize(image: &Image, bits: u32) -> Image {
    let mask = !(0xFF_u16 >> bits.min(8)) as u8;
    with_tables(image, |_| std::array::from_fn(|value| value as u8 & mask))
}

/// Inverts the values from `threshold` on. The range is `0.0..=256.0`.
pub fn solarize(image: &Image, threshold: f64) -> Image {
    let inverted = |value: usize| {
        if (value as f64) < threshold { value as u8 } else { 255 - value as u8 }
    };
    with_tables(image, |_| std::array::from_fn(inverted))
}

/// Stretches the values of each channel to the range from 0 to 255. A channel of one value does not change.
pub fn autocontrast(image: &Image) -> Image {
    with_tables(image, |histogram| {
        let first = histogram.iter().position(|&count| count > 0).unwrap_or(0);
        let last = histogram.iter().rposition(|&count| count > 0).unwrap_or(0);
        if first >= last {
            return std::array::from_fn(|value| value as u8);
        }
        let scale = 255.0 / (last - first) as f64;
        let shift = -(first as f64) * scale;
        // A cast from float truncates, and saturates at 0 and 255.
        std::array::from_fn(|value| (value as f64 * scale + shift) as u8)
    })
}

/// Makes all values of a channel about equally frequent.
pub fn equalize(image: &Image) -> Image {
    with_tables(image, |histogram| {
        let last = histogram.iter().rev().copied().find(|&count| count > 0).unwrap_or(0);
        let step = (histogram.iter().sum::<u64>() - last) / 255;
        if step == 0 {
            return std::array::from_fn(|value| value as u8);
        }
        let mut sum = step / 2;
        std::array::from_fn(|value| {
            let level = (sum / step).min(255) as u8;
            sum += histogram[value];
            level
        })
    })
}

/// Puts the channels into another order: channel `i` of the result is channel `order[i]`. A grey image does not change.
pub fn permute_channels(image: &Image, order: [usize; 3]) -> Image {
    let mut permuted = image.clone();
    if image.channels() == 3 {
        for pixel in permuted.pixels_mut().as_chunks_mut::<3>().0 {
            *pixel = order.map(|channel| pixel[channel % 3]);
        }
    }
    permuted
}

/// Gives each value the one of its channel's table, which `table` makes from the channel's histogram.
fn with_tables(image: &Image, table: impl Fn(&[u64; 256]) -> [u8; 256]) -> Image {
    let mut changed = image.clone();
    let channels = image.channels();
    for channel in 0..channels {
        let mut histogram = [0; 256];
        let values = image.pixels().iter().skip(channel).step_by(channels);
        values.for_each(|value| histogram[usize::from(*value)] += 1);
        let table = table(&histogram);
        let values = changed.pixels_mut().iter_mut().skip(channel).step_by(channels);
        values.for_each(|value| *value = table[usize::from(*value)]);
    }
    changed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn single_values_and_extremes() {
        let one = Image::filled(3, 2, 3, 40);
        assert_eq!(autocontrast(&one), one);
        assert_eq!(equalize(&one), one);
        assert_eq!(posterize(&one, 8), one);
        assert_eq!(posterize(&one, 0), Image::filled(3, 2, 3, 0));
        assert_eq!(solarize(&one, 41.0), one);
        assert_eq!(solarize(&one, 40.0), invert(&one));
        let two = Image::new(2, 1, 1, vec![10, 20]).unwrap();
        assert_eq!(autocontrast(&two).pixels(), [0, 255]);
        let colour = Image::new(1, 1, 3, vec![1, 2, 3]).unwrap();
        assert_eq!(permute_channels(&colour, [2, 0, 1]).pixels(), [3, 1, 2]);
        assert_eq!(permute_channels(&two, [2, 0, 1]), two);
    }
}
