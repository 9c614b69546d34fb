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
                let Some(columns) = columns[left..].first_chunk_mut() else { continue };
                turn_in(&bytes[top * stride + left..], stride, columns);
            }
            match channels {
                3 => scale::<3>(windows, &columns, &mut results),
                _ => scale::<1>(windows, &columns, &mut results),
            }
            for left in starts(to, COLUMNS) {
                let Some(results) = results[left..].first_chunk() else { continue };
                turn_out(results, &mut scaled[top * to + left..], to);
            }
        }
    }
}

/// Where the blocks of an axis begin. The last one begins early enough to be whole.
fn starts(length: usize, block: usize) -> impl Iterator<Item = usize> {
    (0..length.div_ceil(block)).map(move |i| (i * block).min(length - block))
}

/// Eight bytes of a row, [`WORDS`] times.
type Words = [u64; WORDS];
/// Those of each row. Blocks are passed on as values and never changed in place, so that they stay in registers: on a stack,
/// a block that lies across two cache lines takes up to twice the time.
type Block = [Words; ROWS];

/// Turns the first [`COLUMNS`] bytes of [`ROWS`] rows into columns. All copies have a constant length: others would be calls.
#[inline(always)]
fn turn_in(bytes: &[u8], stride: usize, columns: &mut [Column; COLUMNS]) {
    let block: Block = std::array::from_fn(|row| {
        let row = bytes[row * stride..].first_chunk::<COLUMNS>().unwrap_or(&[0; COLUMNS]);
        let (words, _) = row.as_chunks::<8>();
        std::array::from_fn(|word| u64::from_le_bytes(words[word]))
    });
    let block = turned(block);
    let (columns, _) = columns.as_chunks_mut::<8>();
    for (word, columns) in columns.iter_mut().enumerate() {
        let words: [u64; ROWS] = std::array::from_fn(|row| block[row][word]);
        *columns = words.map(u64::to_le_bytes);
    }
}

/// The inverse of [`turn_in`].
#[inline(always)]
fn turn_out(columns: &[Column; COLUMNS], bytes: &mut [u8], stride: usize) {
    let block: Block = std::array::from_fn(|row| {
        std::array::from_fn(|word| u64::from_le_bytes(columns[word * 8 + row]))
    });
    for (i, words) in turned(block).iter().enumerate() {
        let Some(row) = bytes[i * stride..].first_chunk_mut::<COLUMNS>() else { continue };
        let (row, _) = row.as_chunks_mut::<8>();
        for (bytes, word) in row.iter_mut().zip(words) {
            *bytes = word.to_le_bytes();
        }
    }
}

/// Byte `j` of row `i` becomes byte `i` of row `j`, in each of the words by itself: halves change places, then quarters,
/// then bytes (Warren, Hacker's Delight, section 7-3).
#[inline(always)]
fn turned([a, b, c, d, e, f, g, h]: Block) -> Block {
    let ((a, e), (b, f), (c, g), (d, h)) = (halves(a, e), halves(b, f), halves(c, g), halves(d, h));
    let ((a, c), (b, d), (e, g), (f, h)) =
        (quarters(a, c), quarters(b, d), quarters(e, g), quarters(f, h));
    let ((a, b), (c, d), (e, f), (g, h)) = (bytes(a, b), bytes(c, d), bytes(e, f), bytes(g, h));
    [a, b, c, d, e, f, g, h]
}

#[inline(always)]
fn halves(above: Words, below: Words) -> (Words, Words) {
    exchanged::<4>(above, below, 0x0000_0000_ffff_ffff)
}

#[inline(always)]
fn quarters(above: Words, below: Words) -> (Words, Words) {
    exchanged::<2>(above, below, 0x0000_ffff_0000_ffff)
}

#[inline(always)]
fn bytes(above: Words, below: Words) -> (Words, Words) {
    exchanged::<1>(above, below, 0x00ff_00ff_00ff_00ff)
}

/// Exchanges the bytes of a row that `low` does not name with those that it names, `DISTANCE` rows below.
#[inline(always)]
fn exchanged<const DISTANCE: usize>(above: Words, below: Words, low: u64) -> (Words, Words) {
    let changed: Words = std::array::from_fn(|i| ((above[i] >> (8 * DISTANCE)) ^ below[i]) & low);
    let above = std::array::from_fn(|i| above[i] ^ (changed[i] << (8 * DISTANCE)));
    let below = std::array::from_fn(|i| below[i] ^ changed[i]);
    (above, below)
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
