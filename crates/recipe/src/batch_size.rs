//! How many images a batch has: a number, or as many as fit.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

const AUTO: &str = "auto";

/// Images in a batch: `batch_size = 32`, or `batch_size = "auto"` in a recipe.
///
/// ```
/// use candle_vision_recipe::BatchSize;
///
/// assert_eq!("auto".parse(), Ok(BatchSize::Auto));
/// assert_eq!("32".parse(), Ok(BatchSize::Images(32)));
/// // 4,000 images, and memory for batches of 100.
/// assert_eq!(BatchSize::automatic(100, 4000), 64);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BatchSize {
    /// As many as fit into memory, see [`BatchSize::automatic`]. A run records the number that this came to, so that it
    /// goes on with the same batches on any machine.
    Auto,
    /// So many.
    Images(usize),
}

impl BatchSize {
    /// The most that `auto` takes. Larger batches are hardly faster, and they ask for other learning rates.
    pub const MOST: usize = 256;
    /// The number of steps of an epoch that `auto` leaves, where it can. An epoch of few steps learns little.
    pub const STEPS: usize = 16;
    /// What `auto` takes of few images: batch norm needs some in a batch.
    const FEW: usize = 8;

    /// What `auto` comes to where batches of `fitting` images fit into memory: the largest power of two that fits, is at
    /// most [`BatchSize::MOST`] and leaves [`BatchSize::STEPS`] steps in an epoch of `training_images`. From fewer images
    /// than that asks for, up to eight are taken. It is at least 1.
    pub fn automatic(fitting: usize, training_images: usize) -> usize {
        let for_steps = (training_images / Self::STEPS).max(Self::FEW.min(training_images));
        let most = fitting.min(Self::MOST).min(for_steps);
        most.checked_ilog2().map_or(1, |exponent| 1 << exponent)
    }

    /// The number, if there is one.
    pub fn images(self) -> Option<usize> {
        match self {
            Self::Auto => None,
            Self::Images(images) => Some(images),
        }
    }
}

impl FromStr for BatchSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse() {
            Ok(images) => Ok(Self::Images(images)),
            Err(_) if text == AUTO => Ok(Self::Auto),
            Err(_) => Err(format!("`{text}` is no batch size: a whole number, or `{AUTO}`")),
        }
    }
}

impl fmt::Display for BatchSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.pad(AUTO),
            Self::Images(images) => images.fmt(f),
        }
    }
}

impl Serialize for BatchSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Auto => serializer.serialize_str(AUTO),
            Self::Images(images) => images.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for BatchSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl de::Visitor<'_> for Visitor {
            type Value = BatchSize;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a whole number of images, or \"{AUTO}\"")
            }

            fn visit_u64<E: de::Error>(self, images: u64) -> Result<BatchSize, E> {
                usize::try_from(images).map(BatchSize::Images).map_err(E::custom)
            }

            fn visit_i64<E: de::Error>(self, images: i64) -> Result<BatchSize, E> {
                let unexpected = || E::invalid_value(de::Unexpected::Signed(images), &self);
                u64::try_from(images).map_err(|_| unexpected()).and_then(|n| self.visit_u64(n))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<BatchSize, E> {
                text.parse().map_err(E::custom)
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auto_is_a_power_of_two_that_fits_and_leaves_steps() {
        let table = [
            // fitting, training images, batch
            (100_000, 1_000_000, 256),
            (255, 1_000_000, 128),
            (100_000, 50_000, 256),
            (100_000, 1000, 32),
            (3, 1000, 2),
            (100, 40, 8),
            (100, 5, 4),
            (0, 40, 1),
            (10, 0, 1),
        ];
        for (fitting, images, batch) in table {
            assert_eq!(BatchSize::automatic(fitting, images), batch, "{fitting} of {images}");
        }
    }

    #[test]
    fn recipes_and_arguments_name_a_number_or_auto() {
        #[derive(Debug, PartialEq, Serialize, Deserialize)]
        struct Data {
            batch_size: BatchSize,
        }
        for (text, batch_size) in [
            ("batch_size = 32\n", BatchSize::Images(32)),
            ("batch_size = \"auto\"\n", BatchSize::Auto),
        ] {
            let data: Data = toml::from_str(text).unwrap();
            assert_eq!(data, Data { batch_size });
            assert_eq!(toml::to_string(&data).unwrap(), text);
        }
        let error = |text| toml::from_str::<Data>(text).unwrap_err().message().to_owned();
        assert!(error("batch_size = \"atuo\"").contains("a whole number, or `auto`"));
        assert!(error("batch_size = -1").contains("a whole number of images, or \"auto\""));
        assert!(error("batch_size = 1.5").contains("a whole number of images, or \"auto\""));
    }
}
