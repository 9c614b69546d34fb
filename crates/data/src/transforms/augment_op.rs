//! The operations that automatic augmentations choose from, and how strong each is.

use std::borrow::Cow;

use super::functional::{self, Affine};
use super::{Interpolation, PixelStep};
use crate::error::Result;
use crate::image::Image;
use crate::random::{self, Generator};

/// An operation of an automatic augmentation, as in AutoAugment (Cubuk et al. 2018, <https://arxiv.org/abs/1805.09501>).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Identity,
    ShearX,
    ShearY,
    TranslateX,
    TranslateY,
    Rotate,
    Brightness,
    Color,
    Contrast,
    Sharpness,
    Posterize,
    Solarize,
    AutoContrast,
    Equalize,
    Invert,
}

/// How the strength of an operation grows from the first bin to the last.
#[derive(Clone, Copy, Debug)]
pub(super) enum Strength {
    /// It has none.
    None,
    /// From 0 to this. The sign is random.
    UpTo(f32),
    /// From 0 to this share of the width or the height. The sign is random.
    UpToShare(f32),
    /// From this number of bits to the second.
    Bits(f32, f32),
    /// From 1 to 0.
    Falling,
}

/// An operation with its strengths.
#[derive(Clone, Copy, Debug)]
pub(super) struct Choice(pub(super) Kind, pub(super) Strength);

impl Choice {
    /// The operation with the strength of `bin` among `bins`. The sign is drawn.
    pub(super) fn draw(
        self,
        bin: usize,
        bins: usize,
        [height, width]: [usize; 2],
        rng: &mut Generator,
    ) -> AugmentOp {
        let side = if self.0 == Kind::TranslateY { height } else { width };
        let strength = match self.1 {
            Strength::None => 0.0,
            Strength::UpTo(most) => signed(spread(0.0, most, bin, bins), rng),
            Strength::UpToShare(share) => signed(spread(0.0, share * side as f32, bin, bins), rng),
            Strength::Bits(first, last) => {
                let step = (bins.saturating_sub(1)) as f32 / (first - last);
                (first - bin as f32 / step).round_ties_even()
            }
            Strength::Falling => spread(1.0, 0.0, bin, bins),
        };
        AugmentOp { kind: self.0, strength: f64::from(strength) }
    }
}

/// Bin `bin` of `bins` from `first` to `last`, with the rounding of `torch.linspace`.
fn spread(first: f32, last: f32, bin: usize, bins: usize) -> f32 {
    if bins < 2 {
        return first;
    }
    let step = (last - first) / (bins - 1) as f32;
    if bin < bins / 2 { first + step * bin as f32 } else { last - step * (bins - 1 - bin) as f32 }
}

fn signed(strength: f32, rng: &mut Generator) -> f32 {
    if random::chance(rng, 0.5) { -strength } else { strength }
}

/// An operation with its strength.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct AugmentOp {
    pub(super) kind: Kind,
    pub(super) strength: f64,
}

/// How pixels from other places are computed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
    pub(super) interpolation: Interpolation,
    pub(super) fill: [u8; 3],
}

impl AugmentOp {
    /// Whether it moves pixels.
    pub(super) fn is_geometric(self) -> bool {
        use Kind::{Rotate, ShearX, ShearY, TranslateX, TranslateY};
        matches!(self.kind, ShearX | ShearY | TranslateX | TranslateY | Rotate)
    }

    pub(super) fn apply<'a>(self, image: Cow<'a, Image>, look: Look) -> Result<Cow<'a, Image>> {
        let strength = self.strength;
        let still = Affine::default();
        // The angle whose tangent is the strength, about the upper left corner.
        let shear = strength.atan().to_degrees();
        let corner = Some([0.0, 0.0]);
        let changed = match self.kind {
            Kind::Identity => return Ok(image),
            Kind::ShearX => {
                return moved(
                    &image,
                    Affine { shear: [shear, 0.0], center: corner, ..still },
                    look,
                );
            }
            Kind::ShearY => {
                return moved(
                    &image,
                    Affine { shear: [0.0, shear], center: corner, ..still },
                    look,
                );
            }
            Kind::TranslateX => {
                return moved(&image, Affine { translate: [strength.trunc(), 0.0], ..still }, look);
            }
            Kind::TranslateY => {
                return moved(&image, Affine { translate: [0.0, strength.trunc()], ..still }, look);
            }
            Kind::Rotate => {
                let size = [image.height(), image.width()];
                let Some(matrix) = functional::rotation(size, strength)? else {
                    return Ok(image);
                };
                functional::affine_by_matrix(&image, size, matrix, look.interpolation, look.fill)
            }
            Kind::Brightness => {
                return PixelStep::Brightness((1.0 + strength) as f32).apply(image);
            }
            Kind::Color => return PixelStep::Saturation((1.0 + strength) as f32).apply(image),
            Kind::Contrast => return PixelStep::Contrast((1.0 + strength) as f32).apply(image),
            Kind::Sharpness => functional::adjust_sharpness(&image, 1.0 + strength),
            Kind::Posterize => functional::posterize(&image, strength as u32),
            Kind::Solarize => functional::solarize(&image, 255.0 * strength),
            Kind::AutoContrast => functional::autocontrast(&image),
            Kind::Equalize => functional::equalize(&image),
            Kind::Invert => functional::invert(&image),
        };
        Ok(Cow::Owned(changed))
    }
}

fn moved<'a>(image: &Image, change: Affine, look: Look) -> Result<Cow<'a, Image>> {
    functional::affine(image, &change, look.interpolation, look.fill).map(Cow::Owned)
}

/// The operations of AutoAugment, with its strengths.
pub(super) fn auto_augment_choice(kind: Kind) -> Choice {
    let strength = match kind {
        Kind::ShearX | Kind::ShearY => Strength::UpTo(0.3),
        Kind::TranslateX | Kind::TranslateY => Strength::UpToShare(150.0 / 331.0),
        Kind::Rotate => Strength::UpTo(30.0),
        Kind::Brightness | Kind::Color | Kind::Contrast | Kind::Sharpness => Strength::UpTo(0.9),
        Kind::Posterize => Strength::Bits(8.0, 4.0),
        Kind::Solarize => Strength::Falling,
        Kind::Identity | Kind::AutoContrast | Kind::Equalize | Kind::Invert => Strength::None,
    };
    Choice(kind, strength)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `torch.linspace(0.0, 0.9, 31)[9]`, `(8 - torch.arange(31) / (30 / 4)).round()[9]` and so on.
    #[test]
    fn strengths_are_torchvisions() {
        let strength = |kind, bin, bins| {
            let drawn =
                auto_augment_choice(kind).draw(bin, bins, [200, 100], &mut random::generator(0));
            drawn.strength.abs()
        };
        assert!((strength(Kind::Brightness, 9, 31) - 0.27).abs() < 1e-6);
        assert!((strength(Kind::TranslateX, 9, 10) - 100.0 * 150.0 / 331.0).abs() < 1e-4);
        assert!((strength(Kind::TranslateY, 9, 10) - 200.0 * 150.0 / 331.0).abs() < 1e-4);
        assert_eq!(strength(Kind::Posterize, 9, 31), 7.0);
        assert_eq!(strength(Kind::Posterize, 9, 10), 4.0);
        assert!((strength(Kind::Solarize, 9, 31) - 0.7).abs() < 1e-6);
        assert_eq!(strength(Kind::Equalize, 9, 31), 0.0);
    }

    /// `_apply_image_or_video_transform` of torchvision, on the image of the other references.
    #[test]
    fn operations_are_torchvisions() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/reference/");
        let device = candle_core::Device::Cpu;
        let expected =
            candle_core::safetensors::load(folder.to_owned() + "augment.safetensors", &device);
        let expected = expected.unwrap();
        let image = Image::open(folder.to_owned() + "image.png").unwrap();
        let strengths = [
            (Kind::ShearX, 0.2),
            (Kind::ShearY, -0.25),
            (Kind::TranslateX, 11.7),
            (Kind::TranslateY, -9.2),
            (Kind::Rotate, -21.0),
            (Kind::Brightness, 0.45),
            (Kind::Color, -0.6),
            (Kind::Contrast, 0.81),
            (Kind::Sharpness, -0.9),
            (Kind::Posterize, 3.0),
            (Kind::Solarize, 0.4),
            (Kind::AutoContrast, 0.0),
            (Kind::Equalize, 0.0),
            (Kind::Invert, 0.0),
        ];
        for (name, interpolation) in
            [("nearest", Interpolation::Nearest), ("bilinear", Interpolation::Bilinear)]
        {
            let look = Look { interpolation, fill: [128; 3] };
            for (kind, strength) in strengths {
                let op = AugmentOp { kind, strength };
                let found = op.apply(Cow::Borrowed(&image), look).unwrap();
                let expected = &expected[&format!("op_{kind:?}_{name}")];
                let expected = expected.flatten_all().unwrap().to_vec1::<u8>().unwrap();
                let differ = found.pixels().iter().zip(&expected).filter(|(a, b)| a != b).count();
                assert_eq!(differ, 0, "{kind:?}, {name}");
            }
        }
    }

    #[test]
    fn every_operation_does_what_its_name_says() {
        let pixels = (0..8 * 6 * 3).map(|i: usize| (i * 53 % 251) as u8).collect();
        let image = Image::new(8, 6, 3, pixels).unwrap();
        let look = Look { interpolation: Interpolation::Nearest, fill: [9, 8, 7] };
        let applied = |kind, strength| {
            let op = AugmentOp { kind, strength };
            op.apply(Cow::Borrowed(&image), look).unwrap().into_owned()
        };
        assert_eq!(applied(Kind::Identity, 3.0), image);
        let moved = applied(Kind::TranslateX, 2.9);
        assert_eq!((moved.pixel(1, 3), moved.pixel(2, 3)), (&[9, 8, 7][..], image.pixel(0, 3)));
        let up = applied(Kind::TranslateY, -1.0);
        assert_eq!((up.pixel(4, 0), up.pixel(4, 5)), (image.pixel(4, 1), &[9, 8, 7][..]));
        assert_eq!(applied(Kind::Rotate, 180.0), functional::vflip(&functional::hflip(&image)));
        assert_eq!(applied(Kind::Brightness, -1.0).pixels(), [0; 144]);
        assert_eq!(applied(Kind::Color, -1.0), functional::grayscale(&image, 3));
        assert_eq!(applied(Kind::Contrast, 0.0), image);
        assert_eq!(applied(Kind::Sharpness, 0.5), functional::adjust_sharpness(&image, 1.5));
        assert_eq!(applied(Kind::Posterize, 2.0), functional::posterize(&image, 2));
        assert_eq!(applied(Kind::Solarize, 0.5), functional::solarize(&image, 127.5));
        assert_eq!(applied(Kind::AutoContrast, 0.0), functional::autocontrast(&image));
        assert_eq!(applied(Kind::Equalize, 0.0), functional::equalize(&image));
        assert_eq!(applied(Kind::Invert, 0.0), functional::invert(&image));
    }
}
