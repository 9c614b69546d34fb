//! Transforms from outside of this crate.

use candle_vision_data::transforms::*;
use candle_vision_data::{Generator, Image, Result, random};

use crate::*;

/// Paints one column at random, or as often as it is told.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Stripe {
    #[serde(default = "once")]
    pub(crate) times: usize,
}

fn once() -> usize {
    1
}

impl Transform for Stripe {
    fn apply(&self, mut image: Image, rng: &mut Generator) -> Result<Image> {
        for _ in 0..self.times {
            let (column, width) = (random::below(rng, image.width()), image.width());
            let pixels = image.pixels_mut().chunks_exact_mut(3);
            pixels.skip(column).step_by(width).for_each(|pixel| pixel.fill(0));
        }
        Ok(image)
    }

    fn is_random(&self) -> bool {
        true
    }

    fn describe(&self) -> Description {
        describe("stripe", self)
    }
}

fn columns(compose: &Compose, rng: &mut Generator) -> Vec<usize> {
    let white = Image::new(97, 1, 3, vec![255; 97 * 3]).unwrap();
    let shown = compose.apply_to_image(&white, rng).unwrap();
    (0..97).filter(|&x| shown.pixel(x, 0) == [0; 3]).collect()
}

#[test]
fn a_transform_from_outside_draws_by_its_position_alone() {
    let second = |first: Compose| first.with(Stripe { times: 1 }).with(ToTensor);
    // What stands before it draws once, a hundred times, or nothing.
    let lists = [
        second(Compose::new().with(RandomHorizontalFlip::new(0.0))),
        second(Compose::new().with(Stripe { times: 0 })),
        second(Compose::new().with(ColorJitter::new().brightness(0.001))),
    ];
    let expected = columns(&lists[0], &mut rng(1));
    assert_eq!(expected.len(), 1);
    for list in &lists {
        assert_eq!(columns(list, &mut rng(1)), expected, "{list:?}");
    }
    let third = second(Compose::new().with(Pad::new(0)).with(Pad::new(0)));
    assert_ne!(columns(&third, &mut rng(1)), expected);
    assert_ne!(columns(&lists[0], &mut rng(2)), expected);
    // Two in one list draw different numbers, and so do two images one after the other.
    let twice = Compose::new().with(Stripe { times: 1 }).with(Stripe { times: 1 }).with(ToTensor);
    assert_eq!(columns(&twice, &mut rng(1)).len(), 2);
    let one = &mut rng(1);
    assert_ne!(columns(&lists[0], one), columns(&lists[0], one));
}

#[test]
fn a_transform_from_outside_leaves_the_draws_of_the_built_in_ones_alone() {
    let crop = RandomCrop::new(20);
    let plain = Compose::new().with(crop).with(ToTensor);
    let mixed = Compose::new().with(Stripe { times: 0 }).with(crop).with(ToTensor);
    let shown = |list: &Compose| list.apply_to_image(&image(), &mut rng(5)).unwrap();
    assert_eq!(shown(&plain), shown(&mixed));
}

#[test]
fn masks_move_with_transforms_from_outside() {
    let list = Compose::new()
        .with(ColorJitter::new().brightness(0.2))
        .with(Stripe { times: 3 })
        .with(ToTensor);
    assert_eq!(columns(&list.geometry(), &mut rng(4)), columns(&list, &mut rng(4)));
}

#[test]
fn a_registered_transform_stands_in_recipes() {
    let mut transforms = Transforms::standard();
    let entry = || TransformEntry::of::<Stripe>("stripe", "paints columns");
    transforms.add(entry()).unwrap();
    let error = transforms.add(entry()).unwrap_err().to_string();
    assert!(error.starts_with("there are two entries `stripe` among the transforms"), "{error}");
    let text = r#"{ op = "stripe" }, { op = "to_tensor" }"#;
    let compose = described(text).build(&transforms).unwrap();
    assert_eq!(compose, Compose::new().with(Stripe { times: 1 }).with(ToTensor));
    let error = recipe(text).unwrap_err().to_string();
    assert!(error.starts_with("no transform is called `stripe`"), "{error}");
    let misspelt = described(r#"{ op = "stripe", tines = 3 }, { op = "to_tensor" }"#);
    let error = misspelt.build(&transforms).unwrap_err().to_string();
    assert!(error.contains("`tines`; did you mean `times`?"), "{error}");
}

#[test]
fn a_transform_must_describe_itself_by_the_name_it_has() {
    let mut transforms = Transforms::standard();
    transforms.add(TransformEntry::of::<Stripe>("stripes", "paints columns")).unwrap();
    let wrong = described(r#"{ op = "stripes" }, { op = "to_tensor" }"#);
    let error = wrong.build(&transforms).unwrap_err().to_string();
    assert!(error.contains("describes itself as `stripe`; return `stripes`"), "{error}");
}

/// Says nothing of itself.
#[derive(Debug)]
struct Shift(u8);

impl Transform for Shift {
    fn apply(&self, mut image: Image, _: &mut Generator) -> Result<Image> {
        image.pixels_mut().iter_mut().for_each(|value| *value = value.wrapping_add(self.0));
        Ok(image)
    }
}

#[test]
fn a_transform_that_says_nothing_is_recorded_by_its_debug_text() {
    let list = |shift| Compose::new().with(Shift(shift)).with(ToTensor);
    assert_eq!(list(3), list(3));
    assert_ne!(list(3), list(4));
    assert_eq!(list(3).describe().steps()[0].name, "Shift");
    assert!(!list(3).is_random());
}
