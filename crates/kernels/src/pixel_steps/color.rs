//! Colours, with Pillow's arithmetic.

use super::Pixels;

/// Between two values, or beyond them. The fraction is cut off.
pub(super) fn blend(from: u8, to: u8, factor: f32) -> u8 {
    let (from, to) = (f32::from(from), f32::from(to));
    (from + factor * (to - from)) as u8
}

/// The brightness of a pixel: ITU-R 601 weights in 16-bit fixed point.
pub(super) fn luma(pixel: &[u8]) -> u8 {
    let &[red, green, blue] = pixel else {
        return pixel[0];
    };
    let weighted = u32::from(red) * 19595 + u32::from(green) * 38470 + u32::from(blue) * 7471;
    ((weighted + 0x8000) >> 16) as u8
}

/// The mean brightness of an image.
pub(super) fn mean_grey(image: &Pixels) -> u8 {
    let [height, width, channels] = image.shape;
    let sum: u64 = image.values.chunks_exact(channels).map(|pixel| u64::from(luma(pixel))).sum();
    (sum as f64 / (height * width) as f64 + 0.5) as u8
}

pub(super) fn with_hue_shifted(rgb: [u8; 3], shift: u8) -> [u8; 3] {
    let [hue, saturation, value] = rgb_to_hsv(rgb);
    hsv_to_rgb([hue.wrapping_add(shift), saturation, value])
}

/// As `rgb2hsv_row` in Pillow's `Convert.c`, which divides in f32 and adds constants in f64.
fn rgb_to_hsv([red, green, blue]: [u8; 3]) -> [u8; 3] {
    let most = red.max(green).max(blue);
    let least = red.min(green).min(blue);
    if most == least {
        return [0, 0, most];
    }
    let spread = f32::from(most - least);
    let saturation = spread / f32::from(most);
    let gap = |value: u8| f32::from(most - value) / spread;
    let sextant = if red == most {
        gap(blue) - gap(green)
    } else if green == most {
        (2.0 + f64::from(gap(red)) - f64::from(gap(blue))) as f32
    } else {
        (4.0 + f64::from(gap(green)) - f64::from(gap(red))) as f32
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
