//! Draws a sheet of ants and bees with their masks: `cargo run -p candle-vision-data --example
//! insects -- sheet.png [size] [seed]`.

use candle_vision_data::{Dataset, Image, Insects, InsectsConfig, Split};

const COLUMNS: usize = 6;
const ROWS: usize = 4;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().unwrap_or_else(|| "insects.png".to_owned());
    let size = arguments.next().map_or(Ok(192), |size| size.parse())?;
    let seed = arguments.next().map_or(Ok(0), |seed| seed.parse())?;
    let count = COLUMNS * ROWS;
    let insects = Insects::new(Split::Train, InsectsConfig::new(count).size(size).seed(seed))?;

    // A row of masks under each row of images.
    let mut sheet = image::RgbImage::new((COLUMNS * size) as u32, (2 * ROWS * size) as u32);
    for index in 0..count {
        let sample = insects.sample(index)?;
        let (x, y) = (index % COLUMNS * size, index / COLUMNS * 2 * size);
        paste(&mut sheet, &sample.image, x, y);
        if let Some(mask) = &sample.mask {
            paste(&mut sheet, mask, x, y + size);
        }
    }
    sheet.save(path)?;
    Ok(())
}

fn paste(sheet: &mut image::RgbImage, image: &Image, left: usize, top: usize) {
    for y in 0..image.height() {
        for x in 0..image.width() {
            let pixel = image.pixel(x, y);
            let rgb = std::array::from_fn(|c| pixel[c % pixel.len()]);
            sheet.put_pixel((left + x) as u32, (top + y) as u32, image::Rgb(rgb));
        }
    }
}
