//! Scaled dot-product attention with the softmax in the same pass (Vaswani et al. 2017,
//! <https://arxiv.org/abs/1706.03762>), forward and backward.
//!
//! A task computes one head of one image. It packs the head's keys and values once, and then works on blocks
//! of queries whose scores stay in the cache. The matrix of all scores never exists in memory. As in
//! FlashAttention (Dao et al. 2022, <https://arxiv.org/abs/2205.14135>), the forward pass keeps two numbers for
//! each row, and the backward pass computes the probabilities from them again.
//! Keeping the probabilities instead would take `tokens * tokens` numbers for each head.
//!
//! Results have the same bits for any number of threads. Between instruction sets they differ in the last
//! digits.

mod backward;
mod engine;
mod forward;
mod packed;
#[cfg(test)]
mod tests;

use std::ops::Range;

use super::compiled::compiled;
use super::float::Float;
use super::product::panels;
use super::simd::{Level, with_simd};
use engine::{Engine, Plain, Vectors};

/// Sizes of an attention.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttentionShape {
    /// Number of images, or of windows of images.
    pub batch: usize,
    /// Number of tokens of each image.
    pub tokens: usize,
    /// Number of heads.
    pub heads: usize,
    /// Number of features of a query, a key and a value of one head.
    pub head_dim: usize,
}

impl AttentionShape {
    /// Number of elements of the queries, keys and values together.
    pub fn qkv_len(&self) -> usize {
        3 * self.output_len()
    }

    /// Number of elements of the output.
    pub fn output_len(&self) -> usize {
        self.rows() * self.head_dim
    }

    /// Number of rows of scores of all heads and images.
    pub fn rows(&self) -> usize {
        self.batch * self.heads * self.tokens
    }

    /// Number of multiplications of one of the products.
    fn multiplications(&self) -> usize {
        self.rows() * self.tokens * self.head_dim
    }
}

/// How the scores are made of the products of queries and keys.
#[derive(Debug, Clone, Copy)]
pub struct Scores<'a, T> {
    /// Factor of the products.
    pub scale: T,
    /// `[heads, tokens, tokens]`, added to the scaled products of every image.
    pub bias: Option<&'a [T]>,
    /// `[windows, tokens, tokens]`, added likewise. Image `i` takes the matrix `i % windows`.
    pub mask: Option<&'a [T]>,
}

/// The gradients of an attention.
#[derive(Debug, Clone)]
pub struct Gradients<T> {
    /// `[batch, tokens, 3, heads, head_dim]`.
    pub qkv: Vec<T>,
    /// `[heads, tokens, tokens]`, if it was asked for.
    pub bias: Option<Vec<T>>,
}

/// The functions of this module for one number type.
#[derive(Debug)]
pub struct Attention<T> {
    forward: Forward<T>,
    backward: Backward<T>,
}

type Forward<T> = fn(&[T], &AttentionShape, &Scores<'_, T>) -> (Vec<T>, Vec<T>);
type Backward<T> = fn(&[T], [&[T]; 2], &AttentionShape, &Scores<'_, T>, bool) -> Gradients<T>;

/// With vectors.
pub(crate) const OF_F32: Attention<f32> = Attention {
    forward: |qkv, shape, scores| with_simd!(Level::get(), simd => forward::run(Vectors(simd), qkv, shape, scores)),
    backward: |qkv, [statistics, grad], shape, scores, of_bias| {
        with_simd!(Level::get(), simd => {
            backward::run(Vectors(simd), qkv, [statistics, grad], shape, scores, of_bias)
        })
    },
};

/// Without, for checking gradients.
pub(crate) const OF_F64: Attention<f64> = Attention {
    forward: |qkv, shape, scores| forward::run(Plain, qkv, shape, scores),
    backward: |qkv, [statistics, grad], shape, scores, of_bias| {
        backward::run(Plain, qkv, [statistics, grad], shape, scores, of_bias)
    },
};

compiled! {
    trait Kernels<T>;

    /// `softmax(scale * q * k^T + bias + mask) * v` of every head, `[batch, tokens, heads, head_dim]`, and
    /// two numbers for every row of scores, `[batch, heads, tokens, 2]`: its largest score, and the factor that
    /// makes its exponentials add up to one.
    ///
    /// `qkv` is `[batch, tokens, 3, heads, head_dim]`. A row whose scores are all minus infinity gives
    /// zeros, as in PyTorch.
    ///
    /// # Panics
    /// If a slice does not have the length that `shape` says, or a size is 0.
    pub fn attention(
        qkv: &[T],
        shape: &AttentionShape,
        scores: &Scores<'_, T>,
    ) -> (Vec<T>, Vec<T>) {
        check(qkv, shape, scores);
        (T::attention_passes().forward)(qkv, shape, scores)
    }

    /// The gradients of `qkv` and, if `of_bias`, of the bias. `statistics` is the second result of
    /// [`attention`], `grad` the gradient of the first.
    ///
    /// # Panics
    /// As [`attention`].
    pub fn attention_gradients(
        qkv: &[T],
        statistics: &[T],
        grad: &[T],
        shape: &AttentionShape,
        scores: &Scores<'_, T>,
        of_bias: bool,
    ) -> Gradients<T> {
        check(qkv, shape, scores);
        assert_eq!(statistics.len(), 2 * shape.rows(), "two numbers for each row of scores");
        assert_eq!(grad.len(), shape.output_len(), "a gradient for each output");
        (T::attention_passes().backward)(qkv, [statistics, grad], shape, scores, of_bias)
    }
}

fn check<T>(qkv: &[T], shape: &AttentionShape, scores: &Scores<'_, T>) {
    assert!(shape.qkv_len() > 0, "no size is 0");
    assert_eq!(qkv.len(), shape.qkv_len(), "queries, keys and values for each token and head");
    let matrix = shape.tokens * shape.tokens;
    if let Some(bias) = scores.bias {
        assert_eq!(bias.len(), shape.heads * matrix, "a matrix of biases for each head");
    }
    if let Some(mask) = scores.mask {
        assert!(!mask.is_empty() && mask.len().is_multiple_of(matrix), "a mask has whole matrices");
    }
}

/// The most queries of a block. Their scores and the packed keys and values fit the second-level cache.
const BLOCK: usize = 96;

/// What all tasks share.
struct Call<'a, T, E> {
    engine: E,
    qkv: &'a [T],
    shape: &'a AttentionShape,
    scores: &'a Scores<'a, T>,
    /// The panels of a matrix with one column for each token.
    keys: Vec<Range<usize>>,
    /// The panels of a matrix with one column for each feature.
    features: Vec<Range<usize>>,
}

/// The three parts of `qkv`.
#[derive(Clone, Copy)]
enum Part {
    Query,
    Key,
    Value,
}

impl<'a, T: Float, E: Engine<T>> Call<'a, T, E> {
    fn new(engine: E, qkv: &'a [T], shape: &'a AttentionShape, scores: &'a Scores<'a, T>) -> Self {
        let of = |columns| panels(columns, E::LANES, E::PANEL);
        let (keys, features) = (of(shape.tokens), of(shape.head_dim));
        Self { engine, qkv, shape, scores, keys, features }
    }

    /// Number of columns of whole vectors that hold the features.
    fn width(&self) -> usize {
        self.features.last().map_or(0, |panel| panel.end)
    }

    /// Number of columns of whole vectors that hold the keys.
    fn padded_keys(&self) -> usize {
        self.keys.last().map_or(0, |panel| panel.end)
    }

    /// The distance between rows of scores. An odd number of vectors keeps the elements of a column apart
    /// in the cache.
    fn stride(&self) -> usize {
        let vectors = self.padded_keys() / E::LANES;
        (vectors + usize::from(vectors.is_multiple_of(2))) * E::LANES
    }

    /// The rows of `part` of one head, from token `first` on. They are [`Self::qkv_stride`] apart.
    fn rows(&self, part: Part, image: usize, head: usize, first: usize) -> &'a [T] {
        let AttentionShape { tokens, heads, head_dim, .. } = *self.shape;
        let token = image * tokens + first;
        &self.qkv[((3 * token + part as usize) * heads + head) * head_dim..]
    }

    fn qkv_stride(&self) -> usize {
        3 * self.shape.heads * self.shape.head_dim
    }

    /// The rows of bias and mask of the queries from `first` on. They are `tokens` apart.
    fn terms(&self, image: usize, head: usize, first: usize) -> [Option<&'a [T]>; 2] {
        let tokens = self.shape.tokens;
        let from = |matrices: &'a [T], which: usize| {
            let matrix = &matrices[which * tokens * tokens..][..tokens * tokens];
            &matrix[first * tokens..]
        };
        let bias = self.scores.bias.map(|bias| from(bias, head));
        let mask =
            self.scores.mask.map(|mask| from(mask, image % (mask.len() / (tokens * tokens))));
        [bias, mask]
    }
}
