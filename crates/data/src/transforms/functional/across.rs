//! The width of an image, scaled with the arithmetic of `fast_image_resize`.
//!
//! That library spends most of its time on the width, because the bytes of a pixel and its neighbours lie side by side. Here eight
//! rows are turned first, so that a vector holds one column of them. They stay in the fastest cache until they are turned
//! back. Every result is the library's (a test compares them).

use super::resample::Filter;

/// Rows that are scaled together.
const ROWS: usize = 8;
/// With words of eight bytes, as many columns are turned at once. Vectors of 64 bytes would be slower: a word cannot be read out of
/// one before it is in the cache.
const WORDS: usize = 4;
const COLUMNS: usize = WORDS * 8;

/// One column of [`ROWS`] rows.
type Column = [u8; ROWS];

/// For each scaled pixel the first of its sources, and the weights of the sources from it on, in fixed point.
#[derive(Debug)]
pub(super) struct Windows {
    first: Vec<usize>,
    /// `length` for each pixel, with zeros at the end.
    weights: Vec<i32>,
    length: usize,
    /// Bits behind the point.
    bits: u32,
}

impl Windows {
    /// The windows for scaling `[start, length]` of `from` pixels to `to`. What lies around that has influence.
    pub(super) fn new(from: usize, [start, length]: [f64; 2], to: usize, filter: Filter) -> Self {
        let scale = ((start + length) - start) / to as f64;
        // A larger image is not blurred.
        let stretch = scale.max(1.0);
        let radius = filter.support() * stretch;
        let shrink = 1.0 / stretch;
        let (mut first, mut lengths, mut weights) = (Vec::new(), Vec::new(), Vec::new());
        for x in 0..to {
            let center = start + (x as f64 + 0.5) * scale;
            // A cast from float truncates and ends at 0.
            let mut begin = (center - radius).floor() as usize;
            let end = ((center + radius).ceil() as usize).min(from);
            let weight = |at: usize| filter.weight((at as f64 - (center - 0.5)) * shrink);
            while begin < end && weight(begin) == 0.0 {
                begin += 1;
            }
            let before = weights.len();
            weights.extend((begin..end).map(weight));
            let of_pixel = &mut weights[before..];
            let sum: f64 = of_pixel.iter().sum();
            if sum != 0.0 {
                of_pixel.iter_mut().for_each(|weight| *weight /= sum);
            }
            first.push(begin);
            lengths.push(weights.len() - before);
        }
        let bits = fixed_bits(weights.iter().copied().fold(0.0, f64::max));
        let fixed = |weight: f64| (weight * f64::from(1_u32 << bits)).round() as i32;
        let length = lengths.iter().copied().max().unwrap_or(0).max(1);
        let mut all = vec![0; length * to];
        let mut weights = weights.into_iter();
        for (places, &length) in all.chunks_exact_mut(length).zip(&lengths) {
            places[..length].iter_mut().zip(&mut weights).for_each(|(p, w)| *p = fixed(w));
        }
        Self { first, weights: all, length, bits }
    }

    /// The number of scaled pixels.
    fn len(&self) -> usize {
        self.first.len()
    }
}

/// As many bits behind the point as the largest weight leaves room for in 16 bits.
fn fixed_bits(largest: f64) -> u32 {
    // 8 bits for the value, two for sums beyond it and below zero.
    const MOST: u32 = 32 - 8 - 2;
    let is_too_large = |bits: &u32| (largest * f64::from(1_u32 << (bits + 1))).round() >= 32768.0;
    (0..MOST).find(is_too_large).unwrap_or(MOST - 1)
}

/// Rows of pixels, each `stride` bytes behind the one before.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part<'a> {
    /// Begins with the first byte of the first row.
    pub(super) bytes: &'a [u8],
    pub(super) stride: usize,
    pub(super) rows: usize,
    /// Pixels in a row.
    pub(super) columns: usize,
    /// 1 or 3.
    pub(super) channels: usize,
}

/// Scales the rows of a part. `None` if it is too small for blocks of [`ROWS`] x [`COLUMNS`] bytes.
pub(super) fn scale_across(part: Part<'_>, windows: &Windows) -> Option<Vec<u8>> {
    let row = windows.len() * part.channels;
    let is_small = part.rows < ROWS || part.columns * part.channels < COLUMNS || row < COLUMNS;
    if is_small || !matches!(part.channels, 1 | 3) {
        return None;
    }
    let mut scaled = vec![0; part.rows * row];
    let bands = Bands { part, windows, scaled: &mut scaled };
    pulp::Arch::new().dispatch(bands);
    Some(scaled)
}

struct Bands<'a> {
    part: Part<'a>,
    windows: &'a Windows,
    scaled: &'a mut [u8],
}

impl pulp::WithSimd for Bands<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) {
        let Self { part: Part { bytes, stride, rows, columns, channels }, windows, scaled } = self;
        let (from, to) = (columns * channels, windows.len() * channels);
        // A window may end behind the last column, with weights of zero.
        let mut columns = vec![[0; ROWS]; from + windows.length * channels];
        let mut results = vec![[0; ROWS]; to];
        for top in starts(rows, ROWS) {
            for left in starts(from, COLUMNS) {
                let rows = bytes[top * stride + left..].chunks(stride);
                turn_in(rows, &mut columns[left..]);
            }
            match channels {
                3 => scale::<3>(windows, &columns, &mut results),
                _ => scale::<1>(windows, &columns, &mut results),
            }
            for left in starts(to, COLUMNS) {
                turn_out(&results[left..], scaled[top * to + left..].chunks_mut(to));
            }
        }
    }
}

/// Where the blocks of an axis begin. The last one begins early enough to be whole.
fn starts(length: usize, block: usize) -> impl Iterator<Item = usize> {
    (0..length.div_ceil(block)).map(move |i| (i * block).min(length - block))
}

/// Turns the first [`COLUMNS`] bytes of [`ROWS`] rows into columns. All copies have a constant length: others would be calls.
#[inline(always)]
fn turn_in<'a>(rows: impl Iterator<Item = &'a [u8]>, columns: &mut [Column]) {
    let mut block = [[0; WORDS]; ROWS];
    for (words, row) in block.iter_mut().zip(rows) {
        let Some(row) = row.first_chunk::<COLUMNS>() else { continue };
        let (row, _) = row.as_chunks::<8>();
        *words = std::array::from_fn(|word| u64::from_le_bytes(row[word]));
    }
    turn(&mut block);
    if let Some(columns) = columns.first_chunk_mut::<COLUMNS>() {
        for (i, words) in block.iter().enumerate() {
            for (word, &bytes) in words.iter().enumerate() {
                columns[word * 8 + i] = bytes.to_le_bytes();
            }
        }
    }
}

/// The inverse of [`turn_in`].
#[inline(always)]
fn turn_out<'a>(columns: &[Column], rows: impl Iterator<Item = &'a mut [u8]>) {
    let Some(columns) = columns.first_chunk::<COLUMNS>() else { return };
    let mut block = [[0; WORDS]; ROWS];
    for (i, words) in block.iter_mut().enumerate() {
        *words = std::array::from_fn(|word| u64::from_le_bytes(columns[word * 8 + i]));
    }
    turn(&mut block);
    for (words, row) in block.iter().zip(rows) {
        let Some(row) = row.first_chunk_mut::<COLUMNS>() else { continue };
        let (row, _) = row.as_chunks_mut::<8>();
        for (bytes, word) in row.iter_mut().zip(words) {
            *bytes = word.to_le_bytes();
        }
    }
}

/// Byte `j` of row `i` becomes byte `i` of row `j`, in each of the words by itself: halves change places, then quarters,
/// then bytes (Warren, Hacker's Delight, section 7-3).
#[inline(always)]
fn turn(block: &mut [[u64; WORDS]; ROWS]) {
    exchange::<4>(block, 0x0000_0000_ffff_ffff);
    exchange::<2>(block, 0x0000_ffff_0000_ffff);
    exchange::<1>(block, 0x00ff_00ff_00ff_00ff);
}

/// Exchanges the bytes of a row that `low` does not name with those that it names, `DISTANCE` rows below.
#[inline(always)]
fn exchange<const DISTANCE: usize>(block: &mut [[u64; WORDS]; ROWS], low: u64) {
    for i in 0..ROWS / 2 {
        let upper = i / DISTANCE * 2 * DISTANCE + i % DISTANCE;
        let (mut above, mut below) = (block[upper], block[upper + DISTANCE]);
        for (above, below) in above.iter_mut().zip(&mut below) {
            let changed = ((*above >> (8 * DISTANCE)) ^ *below) & low;
            *below ^= changed;
            *above ^= changed << (8 * DISTANCE);
        }
        (block[upper], block[upper + DISTANCE]) = (above, below);
    }
}

#[inline(always)]
fn scale<const CHANNELS: usize>(windows: &Windows, columns: &[Column], results: &mut [Column]) {
    match windows.length {
        // Bilinear: two where the image grows, three or four where it shrinks to no less than a half. Bicubic: four where it grows.
        2 => scale_by::<CHANNELS, 2>(windows, columns, results),
        3 => scale_by::<CHANNELS, 3>(windows, columns, results),
        4 => scale_by::<CHANNELS, 4>(windows, columns, results),
        _ => {
            let weights = windows.weights.chunks_exact(windows.length);
            weigh::<CHANNELS, _>(windows, weights, columns, results);
        }
    }
}

#[inline(always)]
fn scale_by<const CHANNELS: usize, const LENGTH: usize>(
    windows: &Windows,
    columns: &[Column],
    results: &mut [Column],
) {
    let (weights, _) = windows.weights.as_chunks::<LENGTH>();
    weigh::<CHANNELS, _>(windows, weights, columns, results);
}

/// Adds up the weighted columns of each window.
#[inline(always)]
fn weigh<const CHANNELS: usize, W: AsRef<[i32]>>(
    windows: &Windows,
    weights: impl IntoIterator<Item = W>,
    columns: &[Column],
    results: &mut [Column],
) {
    let half = 1 << (windows.bits - 1);
    let (results, _) = results.as_chunks_mut::<CHANNELS>();
    for ((&first, weights), result) in windows.first.iter().zip(weights).zip(results) {
        let mut sums = [[half; ROWS]; CHANNELS];
        let (sources, _) = columns[CHANNELS * first..].as_chunks::<CHANNELS>();
        for (&weight, source) in weights.as_ref().iter().zip(sources) {
            for (sums, column) in sums.iter_mut().zip(source) {
                for (sum, &value) in sums.iter_mut().zip(column) {
                    *sum += weight * i32::from(value);
                }
            }
        }
        for (result, sums) in result.iter_mut().zip(&sums) {
            for (result, sum) in result.iter_mut().zip(sums) {
                *result = (sum >> windows.bits).clamp(0, 255) as u8;
            }
        }
    }
}
