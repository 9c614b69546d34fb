//! `(value / 255 - mean) / std` for many 8-bit values at once, with the bits of the divisions.

/// Values in a block: a whole number of pixels and of vectors.
const BLOCK: usize = 48;

/// Means and standard deviations for the values of a block.
#[derive(Debug)]
pub(super) struct Quotients {
    mean: [f32; BLOCK],
    std: [f32; BLOCK],
    /// The reciprocals of the standard deviations.
    inverse: [f32; BLOCK],
}

impl Quotients {
    /// `None` if this machine or these settings need the tables: `settings` has the mean and the standard deviation of each
    /// channel, and is empty without a normalisation. A table has the result for each value of a channel.
    pub(super) fn of(settings: &[(f32, f32)], tables: &[[f32; 256]]) -> Option<Self> {
        // Without vectors a look-up is faster, and `mul_add` may be a function of many steps.
        if matches!(pulp::Arch::new(), pulp::Arch::Scalar) {
            return None;
        }
        let settings = match (settings, tables.len()) {
            ([], channels) => vec![(0.0, 1.0); channels],
            (settings, channels) if settings.len() == channels => settings.to_vec(),
            _ => return None,
        };
        let of = |i: usize| settings[i % settings.len()];
        let quotients = Self {
            mean: std::array::from_fn(|i| of(i).0),
            std: std::array::from_fn(|i| of(i).1),
            inverse: std::array::from_fn(|i| 1.0 / of(i).1),
        };
        quotients.has_bits_of(tables).then_some(quotients)
    }

    /// Whether every result has the bits of its table. Rounding could differ only for odd settings.
    fn has_bits_of(&self, tables: &[[f32; 256]]) -> bool {
        let channels = tables.len();
        let pixels: Vec<u8> = (0..=255).flat_map(|value| vec![value; channels]).collect();
        let mut values = Vec::with_capacity(pixels.len());
        self.append(&pixels, &mut values);
        let expected = (0..256).flat_map(|value| tables.iter().map(move |table| table[value]));
        values.iter().zip(expected).all(|(value, expected)| value.to_bits() == expected.to_bits())
    }

    /// Appends the results of all values.
    pub(super) fn append(&self, pixels: &[u8], values: &mut Vec<f32>) {
        values.reserve(pixels.len());
        pulp::Arch::new().dispatch(Blocks { quotients: self, pixels, values });
    }
}

struct Blocks<'a> {
    quotients: &'a Quotients,
    pixels: &'a [u8],
    values: &'a mut Vec<f32>,
}

impl pulp::WithSimd for Blocks<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) {
        let (blocks, rest) = self.pixels.as_chunks::<BLOCK>();
        for block in blocks {
            self.values.extend_from_slice(&results(self.quotients, block));
        }
        let mut last = [0; BLOCK];
        last[..rest.len()].copy_from_slice(rest);
        self.values.extend_from_slice(&results(self.quotients, &last)[..rest.len()]);
    }
}

#[inline(always)]
fn results(Quotients { mean, std, inverse }: &Quotients, pixels: &[u8; BLOCK]) -> [f32; BLOCK] {
    let mut results = [0.0; BLOCK];
    for i in 0..BLOCK {
        let scaled = quotient(f32::from(pixels[i]), 255.0, 1.0 / 255.0);
        results[i] = quotient(scaled - mean[i], std[i], inverse[i]);
    }
    results
}

/// `x / y` from the reciprocal of `y`: a product, and a correction by what it leaves over (Markstein 1990). It is faster than
/// a division.
#[inline(always)]
fn quotient(x: f32, y: f32, inverse: f32) -> f32 {
    let near = x * inverse;
    (-near).mul_add(y, x).mul_add(inverse, near)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tables(settings: &[(f32, f32)]) -> Vec<[f32; 256]> {
        let result = |value: usize, (mean, std): (f32, f32)| (value as f32 / 255.0 - mean) / std;
        settings.iter().map(|&of| std::array::from_fn(|value| result(value, of))).collect()
    }

    #[test]
    fn usual_settings_have_the_bits_of_divisions() {
        if matches!(pulp::Arch::new(), pulp::Arch::Scalar) {
            return;
        }
        let usual: [&[(f32, f32)]; 5] = [
            &[(0.485, 0.229), (0.456, 0.224), (0.406, 0.225)],
            &[(0.4914, 0.2470), (0.4822, 0.2435), (0.4465, 0.2616)],
            &[(0.5, 0.5); 3],
            &[(0.1307, 0.3081)],
            &[(0.0, 1.0)],
        ];
        for settings in usual {
            assert!(Quotients::of(settings, &tables(settings)).is_some(), "{settings:?}");
        }
        assert!(Quotients::of(&[], &tables(&[(0.0, 1.0); 3])).is_some());
    }

    #[test]
    fn other_results_need_the_tables() {
        let settings = [(0.5, 0.5)];
        let mut other = tables(&settings);
        other[0][200] = f32::from_bits(other[0][200].to_bits() + 1);
        assert!(Quotients::of(&settings, &other).is_none());
        // Two normalisations.
        assert!(Quotients::of(&[(0.5, 0.5), (0.5, 0.5)], &tables(&settings)).is_none());
    }

    #[test]
    fn every_length_is_converted() {
        let settings = [(0.485, 0.229), (0.456, 0.224), (0.406, 0.225)];
        let tables = tables(&settings);
        let Some(quotients) = Quotients::of(&settings, &tables) else { return };
        for pixels in [0_usize, 1, 15, 16, 17, 50] {
            let bytes: Vec<u8> = (0..pixels * 3).map(|i| (i * 7 % 256) as u8).collect();
            let mut values = vec![9.0];
            quotients.append(&bytes, &mut values);
            let expected = bytes.iter().enumerate().map(|(i, &b)| tables[i % 3][usize::from(b)]);
            assert_eq!(values[1..], expected.collect::<Vec<_>>());
        }
    }
}
