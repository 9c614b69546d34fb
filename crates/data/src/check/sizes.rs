//! Widths, heights and aspects of the images.

use serde::Serialize;

use super::files::CheckedFile;

/// The least, middle and largest of some numbers.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Spread {
    /// The least.
    pub least: f64,
    /// A tenth of the numbers are not above it.
    pub tenth: f64,
    /// Half of the numbers are not above it.
    pub median: f64,
    /// Nine tenths of the numbers are not above it.
    pub ninetieth: f64,
    /// The largest.
    pub largest: f64,
}

/// How large the images are, and how wide for their height.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Sizes {
    /// Widths in pixels.
    pub width: Spread,
    /// Heights in pixels.
    pub height: Spread,
    /// Width divided by height.
    pub aspect: Spread,
    /// Number of different sizes.
    pub different: usize,
}

impl Sizes {
    pub(super) fn of(files: &[CheckedFile]) -> Option<Self> {
        let images = files.iter().filter_map(CheckedFile::image);
        let mut sizes: Vec<(usize, usize)> = images.map(|i| (i.width, i.height)).collect();
        let spread = |of: fn(&(usize, usize)) -> f64| Spread::of(sizes.iter().map(of).collect());
        let width = spread(|size| size.0 as f64)?;
        let height = spread(|size| size.1 as f64)?;
        let aspect = spread(|size| size.0 as f64 / size.1 as f64)?;
        sizes.sort_unstable();
        sizes.dedup();
        Some(Self { width, height, aspect, different: sizes.len() })
    }
}

impl Spread {
    /// `None` without numbers.
    fn of(mut numbers: Vec<f64>) -> Option<Self> {
        numbers.sort_by(f64::total_cmp);
        let last = numbers.len().checked_sub(1)?;
        // The nearest rank, so that each is one of the numbers.
        let at = |share: f64| {
            numbers[((share * numbers.len() as f64).ceil() as usize).clamp(1, last + 1) - 1]
        };
        Some(Self {
            least: numbers[0],
            tenth: at(0.1),
            median: at(0.5),
            ninetieth: at(0.9),
            largest: numbers[last],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_is_of_numbers_that_are_there() {
        let of = |numbers: &[f64]| Spread::of(numbers.to_vec());
        let ten: Vec<f64> = (1..=10).rev().map(f64::from).collect();
        let spread = of(&ten).unwrap();
        assert_eq!([spread.least, spread.tenth, spread.median], [1.0, 1.0, 5.0]);
        assert_eq!([spread.ninetieth, spread.largest], [9.0, 10.0]);
        assert_eq!(of(&[3.0]).unwrap().ninetieth, 3.0);
        assert_eq!(of(&[]), None);
    }
}
