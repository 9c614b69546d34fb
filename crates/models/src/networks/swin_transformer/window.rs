//! Windows of a map: cutting a map into them, and what attention adds to the scores within them.

use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{DType, Device, Result, Tensor};
use candle_vision_ops::{PadConfig, PadMode, matmul, pad, permute, reshape, slice, transpose};

use crate::ParameterBuilder;

/// Added to the score of two tokens that the shift has made neighbours.
const APART: f32 = -100.0;

/// Windows of `size` tokens a side, shifted by `shift` tokens.
#[derive(Debug, Clone)]
pub(super) struct Windows {
    size: usize,
    shift: usize,
    /// `[distances, tokens * tokens]`: one at the distance of each pair of tokens. A product with it gathers the
    /// biases, for which there is no op with a gradient, and is exact.
    places: Tensor,
    /// The masks that were last made.
    masks: Arc<Mutex<Vec<(Cut, Tensor)>>>,
}

impl Windows {
    /// Windows without a shift, on the device of the parameters.
    pub(super) fn new(size: usize, vb: &ParameterBuilder) -> Result<Self> {
        if size == 0 {
            candle_core::bail!("a window has at least one token")
        }
        let index = index(size);
        let (distances, pairs) = (distances(size), index.len());
        let mut places = vec![0f32; distances * pairs];
        for (pair, distance) in index.iter().enumerate() {
            places[*distance as usize * pairs + pair] = 1.0;
        }
        let places = Tensor::from_vec(places, (distances, pairs), vb.device())?;
        let places = places.to_dtype(vb.dtype())?;
        Ok(Self { size, shift: 0, places, masks: Arc::default() })
    }

    /// The same windows, shifted.
    pub(super) fn shifted(&self, shift: usize) -> Self {
        Self { shift, ..self.clone() }
    }

    /// How many distances two tokens of a window can have, counted with their directions.
    pub(super) fn distances(&self) -> usize {
        distances(self.size)
    }

    /// For each pair of tokens of a window, row by row, the number of their distance.
    pub(super) fn index(&self) -> Vec<i64> {
        index(self.size)
    }

    /// The bias of each pair of tokens, `[heads, tokens, tokens]`, from that of each distance, `[distances, heads]`.
    pub(super) fn bias(&self, table: &Tensor) -> Result<Tensor> {
        let (tokens, heads) = (self.size * self.size, table.dim(1)?);
        reshape(&matmul(&transpose(table, 0, 1)?, &self.places)?, (heads, tokens, tokens))
    }

    /// How a map `[batch, height, width, channels]` is cut. Zeros are added at the bottom and at the right where it is
    /// no multiple of a window, and a map of one window is not shifted.
    pub(super) fn of_map(&self, x: &Tensor) -> Result<Cut> {
        let (_, height, width, _) = x.dims4()?;
        let padded = [height, width].map(|side| side.next_multiple_of(self.size));
        let shift = padded.map(|side| if side <= self.size { 0 } else { self.shift });
        Ok(Cut { size: self.size, map: [height, width], padded, shift })
    }

    /// What keeps tokens apart that only the shift has made neighbours: `[windows, tokens, tokens]` in the number type
    /// and on the device of `like`. `None` if there is no shift.
    pub(super) fn mask(&self, cut: &Cut, like: &Tensor) -> Result<Option<Tensor>> {
        if cut.shift == [0, 0] {
            return Ok(None);
        }
        let mut masks = self.masks.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = |mask: &Tensor| mask.device().same_device(like.device());
        let known = masks.iter().find(|(of, mask)| of == cut && fits(mask));
        let mask = match known {
            Some((_, mask)) => mask.clone(),
            None => {
                let mask = cut.mask(like.device())?;
                // A network has few map sizes at a time.
                if masks.len() >= 16 {
                    masks.remove(0);
                }
                masks.push((*cut, mask.clone()));
                mask
            }
        };
        mask.to_dtype(like.dtype()).map(Some)
    }
}

/// See [`Windows::distances`].
fn distances(size: usize) -> usize {
    (2 * size - 1).pow(2)
}

/// See [`Windows::index`].
fn index(size: usize) -> Vec<i64> {
    let tokens = size * size;
    let number = |pair: usize| {
        let (from, to) = (pair / tokens, pair % tokens);
        let rows = from / size + size - 1 - to / size;
        let columns = from % size + size - 1 - to % size;
        (rows * (2 * size - 1) + columns) as i64
    };
    (0..tokens * tokens).map(number).collect()
}

/// How one map is cut into windows. Sizes are `[height, width]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cut {
    size: usize,
    map: [usize; 2],
    padded: [usize; 2],
    shift: [usize; 2],
}

impl Cut {
    /// `[batch, height, width, channels]` to `[batch * windows, tokens, channels]`.
    pub(super) fn split(&self, x: &Tensor) -> Result<Tensor> {
        let ([height, width], [down, right]) = (self.padded, self.shift);
        let (batch, _, _, channels) = x.dims4()?;
        let mut x = x.clone();
        if self.padded != self.map {
            let [added_rows, added_columns] = [height - self.map[0], width - self.map[1]];
            x = pad(&x, &PadConfig::new([0, added_rows, 0, added_columns]))?;
        }
        // Rolled up and to the left: the first rows follow the last ones.
        if self.shift != [0, 0] {
            x = pad(&x, &PadConfig::new([0, down, 0, right]).mode(PadMode::Circular))?;
            x = part(&part(&x, 1, down, height)?, 2, right, width)?;
        }
        let size = self.size;
        let x = reshape(&x, vec![batch, height / size, size, width / size, size, channels])?;
        reshape(&permute(&x, &[0, 1, 3, 2, 4, 5])?, ((), size * size, channels))
    }

    /// The reverse of [`Cut::split`].
    pub(super) fn join(&self, x: &Tensor) -> Result<Tensor> {
        let ([height, width], [down, right], size) = (self.padded, self.shift, self.size);
        let (rows, columns) = (height / size, width / size);
        let (windows, _, channels) = x.dims3()?;
        let batch = windows / (rows * columns);
        let x = reshape(x, vec![batch, rows, columns, size, size, channels])?;
        let mut x = reshape(&permute(&x, &[0, 1, 3, 2, 4, 5])?, (batch, height, width, channels))?;
        if self.shift != [0, 0] {
            x = pad(&x, &PadConfig::new([down, 0, right, 0]).mode(PadMode::Circular))?;
        }
        part(&part(&x, 1, 0, self.map[0])?, 2, 0, self.map[1])
    }

    fn mask(&self, device: &Device) -> Result<Tensor> {
        let size = self.size;
        // Along an axis, the last window holds the end of the map and then its beginning.
        let region = |axis: usize, position: usize| {
            let (side, shift) = (self.padded[axis], self.shift[axis]);
            usize::from(shift > 0 && position + size >= side)
                + usize::from(shift > 0 && position + shift >= side)
        };
        let [rows, columns] = self.padded.map(|side| side / size);
        let mut mask = Vec::with_capacity(rows * columns * size.pow(4));
        for window in 0..rows * columns {
            let of_token = |token: usize| {
                let row = window / columns * size + token / size;
                let column = window % columns * size + token % size;
                (region(0, row), region(1, column))
            };
            let regions: Vec<_> = (0..size * size).map(of_token).collect();
            for from in &regions {
                mask.extend(regions.iter().map(|to| if from == to { 0f32 } else { APART }));
            }
        }
        let mask = Tensor::from_vec(mask, (rows * columns, size * size, size * size), device)?;
        mask.to_dtype(DType::F32)
    }
}

/// `count` positions of an axis from `start` on.
fn part(x: &Tensor, axis: usize, start: usize, count: usize) -> Result<Tensor> {
    if start == 0 && x.dim(axis)? == count {
        return Ok(x.clone());
    }
    slice(x, axis, start..start + count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Parameters;

    fn windows(size: usize) -> Windows {
        let vb = Parameters::new().builder(0, DType::F32, &Device::Cpu);
        Windows::new(size, &vb).unwrap()
    }

    #[test]
    fn what_is_split_is_joined_again() -> Result<()> {
        for (height, width, shift) in [(6, 9, 0), (6, 9, 1), (5, 7, 1), (2, 8, 1), (3, 3, 1)] {
            let count = 2 * height * width * 2;
            let x = Tensor::arange(0f32, count as f32, &Device::Cpu)?;
            let x = x.reshape((2, height, width, 2))?;
            let cut = windows(3).shifted(shift).of_map(&x)?;
            let split = cut.split(&x)?;
            assert_eq!(split.dims()[1..], [9, 2]);
            let joined = cut.join(&split)?.flatten_all()?.to_vec1::<f32>()?;
            assert_eq!(joined, x.flatten_all()?.to_vec1::<f32>()?, "{height}x{width}, {shift}");
        }
        Ok(())
    }

    /// The numbers of torchvision's `relative_position_index` for windows of 2x2.
    #[test]
    fn distances_are_numbered_as_in_torchvision() {
        let expected = [4, 3, 1, 0, 5, 4, 2, 1, 7, 6, 4, 3, 8, 7, 5, 4];
        assert_eq!(windows(2).index(), expected);
    }

    #[test]
    fn the_bias_is_that_of_the_distance() -> Result<()> {
        let windows = windows(2);
        let table = Tensor::arange(0f32, 18.0, &Device::Cpu)?.reshape((9, 2))?;
        let bias = windows.bias(&table)?.flatten_all()?.to_vec1::<f32>()?;
        for (head, bias) in bias.chunks(16).enumerate() {
            for (bias, index) in bias.iter().zip(windows.index()) {
                assert_eq!(*bias, (2 * index as usize + head) as f32);
            }
        }
        Ok(())
    }

    /// A map of 4x2 in windows of 2x2, shifted along its height: the lower window holds the end and the beginning.
    #[test]
    fn only_tokens_of_one_region_meet() -> Result<()> {
        let x = Tensor::zeros((1, 4, 2, 1), DType::F32, &Device::Cpu)?;
        let windows = windows(2).shifted(1);
        let mask = windows.mask(&windows.of_map(&x)?, &x)?.expect("a shift").to_vec3::<f32>()?;
        assert_eq!(mask[0], vec![vec![0.0; 4]; 4]);
        let (near, far) = (vec![0.0, 0.0, APART, APART], vec![APART, APART, 0.0, 0.0]);
        assert_eq!(mask[1], [near.clone(), near, far.clone(), far]);
        let unshifted = windows.shifted(0);
        assert!(unshifted.mask(&unshifted.of_map(&x)?, &x)?.is_none());
        Ok(())
    }
}
