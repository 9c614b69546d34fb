//! The orientation that a camera stores in EXIF data.

use super::Image;
use super::directory::Layout;

/// How a stored image must be turned to stand upright, with EXIF's numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Orientation {
    /// 1: unchanged.
    #[default]
    Upright,
    /// 2.
    Mirrored,
    /// 3.
    HalfTurn,
    /// 4.
    Flipped,
    /// 5: mirrored along the falling diagonal.
    Transposed,
    /// 6: needs a quarter turn clockwise.
    QuarterTurn,
    /// 7: mirrored along the rising diagonal.
    Transversed,
    /// 8: needs a quarter turn anticlockwise.
    QuarterTurnBack,
}

/// The number of the tag.
const ORIENTATION: u16 = 0x112;

impl Orientation {
    /// The orientation in EXIF data, which is a TIFF file without an image. Invalid data or an unknown number
    /// means no change, because the photo is complete all the same.
    pub(super) fn of_exif(data: &[u8]) -> Self {
        value_of(data).map_or_else(Self::default, Self::of_number)
    }

    pub(super) fn of_number(number: u32) -> Self {
        match number {
            2 => Self::Mirrored,
            3 => Self::HalfTurn,
            4 => Self::Flipped,
            5 => Self::Transposed,
            6 => Self::QuarterTurn,
            7 => Self::Transversed,
            8 => Self::QuarterTurnBack,
            _ => Self::Upright,
        }
    }

    /// Its number in EXIF data. The variants are in the order of these numbers.
    pub(super) fn number(self) -> u8 {
        self as u8 + 1
    }

    /// The image turned upright.
    pub(super) fn apply(self, image: Image) -> Image {
        if self == Self::Upright {
            return image;
        }
        let (width, height) = (image.width(), image.height());
        let is_sideways = matches!(
            self,
            Self::Transposed | Self::QuarterTurn | Self::Transversed | Self::QuarterTurnBack
        );
        let (new_width, new_height) = if is_sideways { (height, width) } else { (width, height) };
        let mut upright = Image::filled(new_width, new_height, image.channels(), 0);
        let channels = image.channels();
        for y in 0..new_height {
            let row = upright.row_mut(y);
            for (x, pixel) in row.chunks_exact_mut(channels).enumerate() {
                let (from_x, from_y) = match self {
                    Self::Upright => (x, y),
                    Self::Mirrored => (width - 1 - x, y),
                    Self::HalfTurn => (width - 1 - x, height - 1 - y),
                    Self::Flipped => (x, height - 1 - y),
                    Self::Transposed => (y, x),
                    Self::QuarterTurn => (y, height - 1 - x),
                    Self::Transversed => (width - 1 - y, height - 1 - x),
                    Self::QuarterTurnBack => (width - 1 - y, x),
                };
                pixel.copy_from_slice(image.pixel(from_x, from_y));
            }
        }
        upright
    }
}

/// The number of the orientation in the first directory.
fn value_of(data: &[u8]) -> Option<u32> {
    // Some programs write the name of the JPEG segment into other formats as well.
    let data = data.strip_prefix(b"Exif\0\0").unwrap_or(data);
    let layout = Layout::of(data)?;
    let entry = layout.entries(data).find(|entry| entry.tag == ORIENTATION)?;
    // The standard requires type short; some cameras write long.
    let number = match (entry.kind, entry.count) {
        (3, 1) => layout.number::<2>(data, entry.place)?,
        (4, 1) => layout.number::<4>(data, entry.place)?,
        _ => return None,
    };
    u32::try_from(number).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// EXIF data with one entry.
    fn exif(is_little: bool, kind: u16, value: u32) -> Vec<u8> {
        let short = |v: u16| if is_little { v.to_le_bytes() } else { v.to_be_bytes() };
        let long = |v: u32| if is_little { v.to_le_bytes() } else { v.to_be_bytes() };
        let mut data = if is_little { b"II*\0".to_vec() } else { b"MM\0*".to_vec() };
        data.extend(long(8));
        data.extend(short(1));
        data.extend(short(ORIENTATION));
        data.extend(short(kind));
        data.extend(long(1));
        if kind == 3 {
            data.extend(short(value as u16));
            data.extend([0; 2]);
        } else {
            data.extend(long(value));
        }
        data.extend([0; 4]);
        data
    }

    #[test]
    fn the_number_is_read_in_either_byte_order_as_short_or_long() {
        for is_little in [true, false] {
            for kind in [3, 4] {
                let data = exif(is_little, kind, 6);
                assert_eq!(Orientation::of_exif(&data), Orientation::QuarterTurn);
            }
        }
    }

    #[test]
    fn data_without_sense_says_nothing() {
        let whole = exif(true, 3, 6);
        for length in 0..whole.len() - 6 {
            assert_eq!(Orientation::of_exif(&whole[..length]), Orientation::Upright, "{length}");
        }
        let mut far = whole.clone();
        far[4..8].fill(0xFF);
        assert_eq!(Orientation::of_exif(&far), Orientation::Upright);
        for value in [0, 9, 65_535] {
            assert_eq!(Orientation::of_exif(&exif(false, 3, value)), Orientation::Upright);
        }
        let mut many = whole;
        many[8..10].fill(0xFF);
        assert_eq!(Orientation::of_exif(&many), Orientation::QuarterTurn);
    }

    #[test]
    fn each_number_turns_the_stored_image_as_pillow_does() {
        // 1 2 3
        // 4 5 6, and what ImageOps.exif_transpose makes of it.
        let stored = Image::new(3, 2, 1, vec![1, 2, 3, 4, 5, 6]).unwrap();
        let expected: [(u32, usize, [u8; 6]); 8] = [
            (1, 3, [1, 2, 3, 4, 5, 6]),
            (2, 3, [3, 2, 1, 6, 5, 4]),
            (3, 3, [6, 5, 4, 3, 2, 1]),
            (4, 3, [4, 5, 6, 1, 2, 3]),
            (5, 2, [1, 4, 2, 5, 3, 6]),
            (6, 2, [4, 1, 5, 2, 6, 3]),
            (7, 2, [6, 3, 5, 2, 4, 1]),
            (8, 2, [3, 6, 2, 5, 1, 4]),
        ];
        for (number, width, pixels) in expected {
            let upright = Orientation::of_number(number).apply(stored.clone());
            assert_eq!((upright.width(), upright.pixels()), (width, &pixels[..]), "{number}");
        }
    }
}
