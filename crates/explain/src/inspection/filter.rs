//! Well-known small convolution kernels.

use std::str::FromStr;

use crate::{Error, Result};

/// The kernel of a one-channel convolution: a square with an odd side.
///
/// ```
/// use candle_vision_explain::inspection::Filter;
///
/// let by_name: Filter = "sobel-x".parse()?;
/// let by_numbers: Filter = "-1,0,1,-2,0,2,-1,0,1".parse()?;
/// assert_eq!(by_name, by_numbers);
/// # Ok::<(), candle_vision_explain::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Filter {
    values: Vec<f32>,
    side: usize,
}

const NAMED: [(&str, [f32; 9]); 5] = [
    ("edges", [-1.0, -1.0, -1.0, -1.0, 8.0, -1.0, -1.0, -1.0, -1.0]),
    ("sobel-x", [-1.0, 0.0, 1.0, -2.0, 0.0, 2.0, -1.0, 0.0, 1.0]),
    ("sobel-y", [-1.0, -2.0, -1.0, 0.0, 0.0, 0.0, 1.0, 2.0, 1.0]),
    ("blur", [0.0625, 0.125, 0.0625, 0.125, 0.25, 0.125, 0.0625, 0.125, 0.0625]),
    ("sharpen", [0.0, -1.0, 0.0, -1.0, 5.0, -1.0, 0.0, -1.0, 0.0]),
];

impl Filter {
    /// The numbers of the kernel, row by row.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// The side of the kernel: how many numbers a row has.
    pub fn side(&self) -> usize {
        self.side
    }
}

impl FromStr for Filter {
    type Err = Error;

    /// Reads `edges`, `sobel-x`, `sobel-y`, `blur` or `sharpen`, or the numbers of a square with an odd side,
    /// row by row and separated by commas.
    fn from_str(text: &str) -> Result<Self> {
        if let Some((_, values)) = NAMED.iter().find(|(name, _)| *name == text) {
            return Ok(Self { values: values.to_vec(), side: 3 });
        }
        let values = text.split(',').map(|value| value.trim().parse::<f32>().ok());
        let finite = values.map(|value| value.filter(|value| value.is_finite()));
        let values: Option<Vec<f32>> = finite.collect();
        let wrong = || {
            let names = NAMED.map(|(name, _)| name).join(", ");
            Error::Filter { text: text.to_owned(), names }
        };
        let values = values.ok_or_else(wrong)?;
        let side = values.len().isqrt();
        let fits = side % 2 == 1 && side * side == values.len();
        if fits { Ok(Self { values, side }) } else { Err(wrong()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_make_an_odd_square() -> Result<()> {
        let filter: Filter = "1".parse()?;
        assert_eq!((filter.side(), filter.values()), (1, [1.0].as_slice()));
        for wrong in ["1,2", "1,2,3,4", "a", "", "nan,0,0,0,0,0,0,0,0", "sobel"] {
            let error = wrong.parse::<Filter>().expect_err(wrong).to_string();
            assert!(error.contains("sobel-x") && error.contains(wrong), "{error}");
        }
        Ok(())
    }
}
