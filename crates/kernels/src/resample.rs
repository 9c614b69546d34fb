//! Resizing as a sparse matrix along each axis.

use std::ops::Range;

use super::compiled::compiled;
use super::float::Float;
use super::output::build;
use super::vectorize::vectorize;

/// For each output position of an axis, the input positions that it is computed from, and their weights.
#[derive(Debug, Clone, PartialEq)]
pub struct ResampleWeights {
    inputs: usize,
    /// The start of each output position's list, and the end of the last list.
    pub starts: Vec<usize>,
    /// Input positions.
    pub places: Vec<usize>,
    /// The weight of each input position.
    pub weights: Vec<f64>,
}

impl ResampleWeights {
    fn new(inputs: usize, outputs: impl Iterator<Item = Vec<(usize, f64)>>) -> Self {
        let mut table = Self { inputs, starts: vec![0], places: Vec::new(), weights: Vec::new() };
        for output in outputs {
            for (place, weight) in output {
                table.places.push(place);
                table.weights.push(weight);
            }
            table.starts.push(table.places.len());
        }
        table
    }

    /// `to` positions on an axis of `from` positions. Each reads the position at or before it.
    pub fn nearest(from: usize, to: usize) -> Self {
        Self::new(from, (0..to).map(|i| vec![(i * from / to, 1.0)]))
    }

    /// `to` positions on an axis of `from` positions. Each is interpolated between two.
    pub fn linear(from: usize, to: usize, align_corners: bool) -> Self {
        let place = |i: usize| -> f64 {
            if align_corners {
                return i as f64 * (from - 1) as f64 / (to - 1).max(1) as f64;
            }
            let centre = (i as f64 + 0.5) * from as f64 / to as f64 - 0.5;
            centre.clamp(0.0, (from - 1) as f64)
        };
        let rows = (0..to).map(|i| {
            let (place, share) = (place(i) as usize, place(i).fract());
            match (place + 1 < from, share > 0.0) {
                (true, true) => vec![(place, 1.0 - share), (place + 1, share)],
                _ => vec![(place, 1.0)],
            }
        });
        Self::new(from, rows)
    }

    /// `to` positions on an axis of `from` positions. Each is interpolated between four by a cubic convolution
    /// (Keys 1981) with the parameter -0.75. Positions outside of the axis are those of its ends.
    pub fn cubic(from: usize, to: usize, align_corners: bool) -> Self {
        const A: f64 = -0.75;
        let near = |x: f64| ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0;
        let far = |x: f64| ((A * x - 5.0 * A) * x + 8.0 * A) * x - 4.0 * A;
        let rows = (0..to).map(|i| {
            let centre = if align_corners {
                i as f64 * (from - 1) as f64 / (to - 1).max(1) as f64
            } else {
                (i as f64 + 0.5) * from as f64 / to as f64 - 0.5
            };
            let (first, share) = (centre.floor(), centre - centre.floor());
            let weights = [far(share + 1.0), near(share), near(1.0 - share), far(2.0 - share)];
            let mut taps: Vec<(usize, f64)> = Vec::new();
            for (offset, weight) in weights.into_iter().enumerate() {
                let place = first + offset as f64 - 1.0;
                let place = place.clamp(0.0, (from - 1) as f64) as usize;
                match taps.last_mut() {
                    Some((last, sum)) if *last == place => *sum += weight,
                    _ => taps.push((place, weight)),
                }
            }
            taps
        });
        Self::new(from, rows)
    }

    /// The weights from the inputs back to the outputs.
    pub fn transposed(&self) -> Self {
        let mut holders = vec![Vec::new(); self.inputs];
        for output in 0..self.outputs() {
            for tap in self.of(output) {
                holders[self.places[tap]].push((output, self.weights[tap]));
            }
        }
        Self::new(self.outputs(), holders.into_iter())
    }

    /// Number of output positions.
    pub fn outputs(&self) -> usize {
        self.starts.len() - 1
    }

    fn of(&self, output: usize) -> Range<usize> {
        self.starts[output]..self.starts[output + 1]
    }
}

compiled! {
    trait Kernels<T>;

    /// Resamples images `[batch, height, width, channels]` along both axes.
    pub fn resample(x: &[T], channels: usize, rows: &ResampleWeights, columns: &ResampleWeights) -> Vec<T> {
        let image_len = rows.inputs * columns.inputs * channels;
        let row_len = columns.outputs() * channels;
        let batch = x.len() / image_len.max(1);
        build(batch * rows.outputs() * row_len, row_len, |row, y| {
            let (image, row) = (row / rows.outputs(), row % rows.outputs());
            let image = &x[image * image_len..][..image_len];
            for row in rows.of(row) {
                let x = &image[rows.places[row] * columns.inputs * channels..];
                add_row(x, channels, rows.weights[row], columns, y);
            }
        })
    }
}

vectorize! {
    /// Adds a row of the input, resampled along itself and multiplied by `weight`, to a row of the output.
    fn add_row<T: Float>(x: &[T], channels: usize, weight: f64, columns: &ResampleWeights, y: &mut [T]) {
        for (column, y) in y.chunks_exact_mut(channels).enumerate() {
            for tap in columns.of(column) {
                let weight = T::narrow(weight * columns.weights[tap]);
                let x = &x[columns.places[tap] * channels..][..channels];
                for (y, &x) in y.iter_mut().zip(x) {
                    *y += x * weight;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::ResampleWeights;

    #[test]
    fn weights_of_an_output_add_up_to_one_and_transposing_twice_changes_nothing() {
        for (from, to) in [(1, 1), (1, 5), (5, 1), (6, 13), (13, 6), (7, 7)] {
            let kinds = [
                ResampleWeights::nearest(from, to),
                ResampleWeights::linear(from, to, false),
                ResampleWeights::linear(from, to, true),
                ResampleWeights::cubic(from, to, false),
                ResampleWeights::cubic(from, to, true),
            ];
            for table in kinds {
                assert_eq!(table.outputs(), to);
                for output in 0..to {
                    let sum: f64 = table.weights[table.of(output)].iter().sum();
                    assert!((sum - 1.0).abs() < 1e-12, "{from} to {to}: {sum}");
                }
                assert_eq!(table.transposed().transposed(), table, "{from} to {to}");
            }
        }
    }
}
