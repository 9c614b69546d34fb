//! Filters over neighbouring pixels: blur and sharpness.

use super::color::blend;
use crate::error::{Error, Result};
use crate::image::Image;

/// Blends the image smoothed by a 3x3 filter (`factor` 0) with the image (1), as Pillow's `ImageEnhance.Sharpness`. Larger
/// factors sharpen. The outermost pixels do not change.
pub fn adjust_sharpness(image: &Image, factor: f64) -> Image {
    let (width, height, channels) = (image.width(), image.height(), image.channels());
    let mut adjusted = image.clone();
    for y in 1..height.saturating_sub(1) {
        let rows = [image.row(y - 1), image.row(y), image.row(y + 1)];
        let target = adjusted.row_mut(y);
        for at in channels..(width.saturating_sub(1)) * channels {
            let around = rows.map(|row| {
                [at - channels, at, at + channels].map(|at| u32::from(row[at])).iter().sum::<u32>()
            });
            let sum = around.iter().sum::<u32>() + 4 * u32::from(rows[1][at]);
            // The nearest whole number: 13 is odd, so there are no ties.
            let smooth = ((2 * sum + 13) / 26) as u8;
            target[at] = blend(smooth, rows[1][at], factor as f32);
        }
    }
    adjusted
}

/// Blurs by a Gaussian of `[width, height]` pixels with these standard deviations in pixels, as torchvision's
/// `gaussian_blur`. The image is mirrored at its edges.
///
/// # Errors
/// If a side of the kernel is not odd, or a deviation is not above 0.
pub fn gaussian_blur(image: &Image, kernel_size: [usize; 2], sigma: [f64; 2]) -> Result<Image> {
    check_blur("gaussian_blur", kernel_size, sigma)?;
    let shape = [image.height(), image.width(), image.channels()];
    let values: Vec<f32> = image.pixels().iter().map(|&value| value.into()).collect();
    let blurred = blur(values, shape, kernel_size, sigma);
    // Halves go to the even number, as in `torch.round`.
    let pixels = blurred.iter().map(|value| value.round_ties_even() as u8).collect();
    Image::new(shape[1], shape[0], shape[2], pixels)
}

pub(in crate::transforms) fn check_blur(
    op: &'static str,
    kernel_size: [usize; 2],
    sigma: [f64; 2],
) -> Result<()> {
    // Beyond this the weights are those of a kernel that no image needs.
    const MOST: usize = 4097;
    if !kernel_size.iter().all(|kernel_size| kernel_size % 2 == 1 && *kernel_size <= MOST) {
        return Err(Error::transform(op, format!("the kernel must be odd, up to {MOST} pixels")));
    }
    if !sigma.iter().all(|sigma| *sigma > 0.0 && sigma.is_finite()) {
        return Err(Error::transform(op, "`sigma` must be greater than 0"));
    }
    Ok(())
}

/// Blurs values `[height, width, channels]` along both axes. It takes what [`check_blur`] lets pass.
pub(in crate::transforms) fn blur(
    mut values: Vec<f32>,
    [height, width, channels]: [usize; 3],
    [across, down]: [usize; 2],
    [sigma_x, sigma_y]: [f64; 2],
) -> Vec<f32> {
    let row_length = width * channels;
    let kernel = gaussian(across, sigma_x);
    let reach = across / 2;
    let mut padded = vec![0.0; row_length + 2 * reach * channels];
    for row in values.chunks_exact_mut(row_length) {
        for (at, pixel) in padded.chunks_exact_mut(channels).enumerate() {
            let column = mirrored(at as isize - reach as isize, width);
            pixel.copy_from_slice(&row[column * channels..][..channels]);
        }
        row.fill(0.0);
        for (place, &weight) in kernel.iter().enumerate() {
            add_scaled(row, &padded[place * channels..], weight);
        }
    }
    let kernel = gaussian(down, sigma_y);
    let reach = (down / 2) as isize;
    let mut blurred = vec![0.0; values.len()];
    for (y, row) in blurred.chunks_exact_mut(row_length).enumerate() {
        for (place, &weight) in kernel.iter().enumerate() {
            let source = mirrored(y as isize + place as isize - reach, height);
            add_scaled(row, &values[source * row_length..], weight);
        }
    }
    blurred
}

fn add_scaled(sums: &mut [f32], values: &[f32], weight: f32) {
    for (sum, value) in sums.iter_mut().zip(values) {
        *sum += weight * value;
    }
}

/// The weights of a Gaussian, which add up to 1.
fn gaussian(kernel_size: usize, sigma: f64) -> Vec<f32> {
    let middle = (kernel_size / 2) as f64;
    let weight = |place: usize| (-0.5 * ((place as f64 - middle) / sigma).powi(2)).exp();
    let sum: f64 = (0..kernel_size).map(weight).sum();
    (0..kernel_size).map(|place| (weight(place) / sum) as f32).collect()
}

/// The place in an axis of `length` pixels that is mirrored at its ends as often as needed. The end is not repeated.
fn mirrored(place: isize, length: usize) -> usize {
    let period = 2 * (length as isize - 1);
    if period == 0 {
        return 0;
    }
    let place = place.rem_euclid(period);
    place.min(period - place) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flat_images_stay_and_small_ones_are_possible() {
        for (width, height) in [(1, 1), (2, 1), (1, 5), (4, 3)] {
            let image = Image::filled(width, height, 3, 77);
            assert_eq!(gaussian_blur(&image, [9, 5], [2.0, 0.7]).unwrap(), image);
            assert_eq!(adjust_sharpness(&image, 3.0), image);
        }
    }

    #[test]
    fn a_point_becomes_the_kernel() {
        let mut pixels = vec![0; 49];
        pixels[24] = 255;
        let image = Image::new(7, 7, 1, pixels).unwrap();
        let blurred = gaussian_blur(&image, [3, 1], [1.0, 1.0]).unwrap();
        assert_eq!(&blurred.pixels()[21..28], [0, 0, 70, 115, 70, 0, 0]);
        assert!(blurred.row(2).iter().all(|&value| value == 0));
        let smooth = adjust_sharpness(&image, 0.0);
        assert_eq!(&smooth.pixels()[21..28], [0, 0, 20, 98, 20, 0, 0]);
    }

    #[test]
    fn impossible_kernels_are_errors() {
        let image = Image::filled(4, 4, 1, 0);
        for (kernel_size, sigma) in
            [([2, 3], [1.0; 2]), ([3, 3], [0.0, 1.0]), ([3, 3], [f64::NAN; 2])]
        {
            assert!(gaussian_blur(&image, kernel_size, sigma).is_err());
        }
    }
}
