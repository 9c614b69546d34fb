//! Brightness, contrast, saturation, hue and grey, with Pillow's integer arithmetic.

use crate::image::Image;
use crate::random::{self, Generator};
use crate::transforms::PixelStep;

/// Blends black (`factor` 0) with the image (1). Larger factors go beyond the image.
pub fn adjust_brightness(image: &Image, factor: f64) -> Image {
    map_values(image, |value| blend(0, value, factor as f32))
}

/// Blends uniform grey of the image's mean brightness (`factor` 0) with the image (1). Larger factors go beyond
/// the image.
pub fn adjust_contrast(image: &Image, factor: f64) -> Image {
    let sum: u64 = image.pixels().chunks_exact(image.channels()).map(|p| u64::from(luma(p))).sum();
    let count = (image.width() * image.height()) as f64;
    let mean = (sum as f64 / count + 0.5) as u8;
    map_values(image, |value| blend(mean, value, factor as f32))
}

/// Blends the image in grey (`factor` 0) with the image (1). Larger factors go beyond the image.
pub fn adjust_saturation(image: &Image, factor: f64) -> Image {
    let mut adjusted = image.clone();
    for pixel in
        adjusted.pixels_mut().as_chunks_mut::<3>().0.iter_mut().filter(|_| image.channels() == 3)
    {
        let grey = luma(pixel);
        *pixel = pixel.map(|value| blend(grey, value, factor as f32));
    }
    adjusted
}

/// Turns all hues by `turn`, a fraction of the colour circle in `-0.5..=0.5`. A grey image does not change.
pub fn adjust_hue(image: &Image, turn: f64) -> Image {
    shift_hue(image, hue_shift(turn))
}

/// The turn as Pillow adds it to hues of 8 bits: truncated towards zero, and it wraps.
pub(in crate::transforms) fn hue_shift(turn: f64) -> u8 {
    (turn * 255.0) as i32 as u8
}

/// Adds `shift` to all hues. A grey image does not change.
pub(in crate::transforms) fn shift_hue(image: &Image, shift: u8) -> Image {
    let mut adjusted = image.clone();
    if image.channels() != 3 {
        return adjusted;
    }
    for pixel in adjusted.pixels_mut().as_chunks_mut::<3>().0 {
        let [hue, saturation, value] = rgb_to_hsv(*pixel);
        *pixel = hsv_to_rgb([hue.wrapping_add(shift), saturation, value]);
    }
    adjusted
}

/// The image in grey, with 1 channel or with 3 equal channels.
pub fn grayscale(image: &Image, channels: usize) -> Image {
    let (width, height) = (image.width(), image.height());
    let channels = if channels == 1 { 1 } else { 3 };
    let mut grey = Image::filled(width, height, channels, 0);
    let sources = image.pixels().chunks_exact(image.channels());
    for (target, source) in grey.pixels_mut().chunks_exact_mut(channels).zip(sources) {
        target.fill(luma(source));
    }
    grey
}

/// The brightness of one pixel: ITU-R 601 weights in 16-bit fixed point, as in Pillow's `L` mode.
fn luma(pixel: &[u8]) -> u8 {
    let &[red, green, blue] = pixel else {
        return pixel[0];
    };
    let weighted = u32::from(red) * 19595 + u32::from(green) * 38470 + u32::from(blue) * 7471;
    ((weighted + 0x8000) >> 16) as u8
}

/// Pillow's `Image.blend`: in f32, with the fraction truncated.
pub(super) fn blend(from: u8, to: u8, factor: f32) -> u8 {
    let (from, to) = (f32::from(from), f32::from(to));
    // A cast from float saturates at 0 and 255, which is the clipping needed here.
    (from + factor * (to - from)) as u8
}

/// Applies a function to each value, by a table.
fn map_values(image: &Image, function: impl Fn(u8) -> u8) -> Image {
    let table: [u8; 256] = std::array::from_fn(|value| function(value as u8));
    let mut mapped = image.clone();
    mapped.pixels_mut().iter_mut().for_each(|value| *value = table[usize::from(*value)]);
    mapped
}

/// As `rgb2hsv_row` in Pillow's `Convert.c`, which divides in f32 and adds constants in f64.
fn rgb_to_hsv(rgb: [u8; 3]) -> [u8; 3] {
    let [red, green, blue] = rgb;
    let most = red.max(green).max(blue);
    let least = red.min(green).min(blue);
    if most == least {
        return [0, 0, most];
    }
    let spread = f32::from(most - least);
    let saturation = spread / f32::from(most);
    let [red_gap, green_gap, blue_gap] = rgb.map(|value| f32::from(most - value) / spread);
    let sextant = if red == most {
        blue_gap - green_gap
    } else if green == most {
        (2.0 + f64::from(red_gap) - f64::from(blue_gap)) as f32
    } else {
        (4.0 + f64::from(green_gap) - f64::from(red_gap)) as f32
    };
    let hue = ((f64::from(sextant) / 6.0 + 1.0) % 1.0) as f32;
    [(f64::from(hue) * 255.0) as u8, (f64::from(saturation) * 255.0) as u8, most]
}

/// As `hsv2rgb` in Pillow's `Convert.c`.
fn hsv_to_rgb([hue, saturation, value]: [u8; 3]) -> [u8; 3] {
    if saturation == 0 {
        return [value; 3];
    }
    let position = f64::from(f32::from(hue)) * 6.0 / 255.0;
    let sextant = position.floor();
    let fraction = f64::from((position - sextant) as f32);
    let saturation = f64::from((f64::from(saturation) / 255.0) as f32);
    let scaled = |share: f64| (f64::from(value) * share).round() as u8;
    let low = scaled(1.0 - saturation);
    let falling = scaled(1.0 - saturation * fraction);
    let rising = scaled(1.0 - saturation * (1.0 - fraction));
    match sextant as u8 % 6 {
        0 => [value, rising, low],
        1 => [falling, value, low],
        2 => [low, value, rising],
        3 => [low, falling, value],
        4 => [rising, low, value],
        _ => [value, low, falling],
    }
}

/// Draws the order of the parts of a colour jitter (brightness, contrast, saturation, hue) and their strengths.
pub(in crate::transforms) fn random_jitter(
    ranges: [[f64; 2]; 4],
    rng: &mut Generator,
) -> impl Iterator<Item = PixelStep> {
    /// The strengths that change nothing.
    const NEUTRAL: [f64; 4] = [1.0, 1.0, 1.0, 0.0];
    let mut order = [0, 1, 2, 3];
    random::shuffle(rng, &mut order);
    let drawn = ranges.map(|[least, most]| random::between(rng, least, most));
    let active = move |part: &usize| ranges[*part] != [NEUTRAL[*part]; 2];
    order.into_iter().filter(active).map(move |part| match part {
        0 => PixelStep::Brightness(drawn[0] as f32),
        1 => PixelStep::Contrast(drawn[1] as f32),
        2 => PixelStep::Saturation(drawn[2] as f32),
        _ => PixelStep::Hue(hue_shift(drawn[3])),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Purpose, stream};

    #[test]
    fn neutral_factors_change_nothing() {
        let pixels = (0..=255).flat_map(|value: u8| [value, 255 - value, value / 2]).collect();
        let image = Image::new(16, 16, 3, pixels).unwrap();
        for adjust in [adjust_brightness, adjust_contrast, adjust_saturation] {
            assert_eq!(adjust(&image, 1.0), image);
        }
    }

    #[test]
    fn zero_factors_give_black_mean_and_grey() {
        let image = Image::new(2, 1, 3, vec![255, 0, 0, 0, 0, 255]).unwrap();
        assert_eq!(adjust_brightness(&image, 0.0).pixels(), [0; 6]);
        // Luma 76 and 29: mean 52.5, rounded to 53.
        assert_eq!(adjust_contrast(&image, 0.0).pixels(), [53; 6]);
        assert_eq!(adjust_saturation(&image, 0.0).pixels(), [76, 76, 76, 29, 29, 29]);
        assert_eq!(grayscale(&image, 1).pixels(), [76, 29]);
    }

    #[test]
    fn grey_images_have_no_saturation_or_hue() {
        let image = Image::new(3, 1, 1, vec![1, 100, 200]).unwrap();
        assert_eq!(adjust_saturation(&image, 2.0), image);
        assert_eq!(adjust_hue(&image, 0.3), image);
        assert_eq!(grayscale(&image, 3).pixels(), [1, 1, 1, 100, 100, 100, 200, 200, 200]);
    }

    #[test]
    fn half_a_turn_makes_red_cyan() {
        let red = Image::new(1, 1, 3, vec![255, 0, 0]).unwrap();
        let [r, g, b] = adjust_hue(&red, 0.5).pixels().try_into().unwrap();
        assert!(r == 0 && g == 255 && b > 250, "{r} {g} {b}");
    }

    #[test]
    fn jitter_takes_all_orders_and_leaves_out_what_is_off() {
        let mut rng = stream(0, Purpose::Augment, 0);
        let one_off = [[0.8, 1.2], [0.8, 1.2], [0.8, 1.2], [0.0, 0.0]];
        let mut first = [0; 3];
        for _ in 0..300 {
            let drawn: Vec<_> = random_jitter(one_off, &mut rng).collect();
            assert_eq!(drawn.len(), 3);
            let parts = drawn.iter().map(|step| match *step {
                PixelStep::Brightness(factor) => (0, factor),
                PixelStep::Contrast(factor) => (1, factor),
                PixelStep::Saturation(factor) => (2, factor),
                other => panic!("{other:?} is off"),
            });
            let parts: Vec<(usize, f32)> = parts.collect();
            assert!(parts.iter().all(|(_, factor)| (0.8..1.2).contains(factor)));
            first[parts[0].0] += 1;
        }
        assert!(first.iter().all(|&count| count > 60), "{first:?}");
    }
}
