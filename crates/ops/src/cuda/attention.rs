//! Attention: matrix products by cuBLAS, and kernels that bring the heads together and compute the softmax.
//!
//! The matrix of probabilities exists during a pass only. The backward pass computes it again.

use candle_core::cuda_backend::cudarc::driver::CudaSlice;
use candle_core::{CudaDevice, CudaStorage, Layout, Result, Shape, Tensor};
use candle_vision_kernels::attention::AttentionShape;
use candle_vision_kernels::gemm::Stacked;

use super::array::{Array, stored, tensor, unwritten};
use super::element::{Element, with_element};
use super::function::{Source, device_function, launch, over_rows, over_threads};
use super::gemm::matmul;
use super::softmax::softmax_gradient;
use super::sums::sum_columns;

const NAME: &str = "attention";

/// How the scores are made of the products of queries and keys.
pub(crate) struct Scores<'a> {
    pub(crate) scale: f64,
    /// `[heads, tokens, tokens]`.
    pub(crate) bias: Option<Array<'a>>,
    /// `[windows, tokens, tokens]`.
    pub(crate) mask: Option<Array<'a>>,
}

/// A contiguous array that a pass made.
struct Held(CudaStorage, Layout);

impl Held {
    fn new((storage, shape): (CudaStorage, Shape)) -> Self {
        Self(storage, Layout::contiguous(shape))
    }

    fn array(&self) -> Array<'_> {
        Array::new(&self.0, &self.1)
    }
}

/// The attention of `qkv`, `[batch, tokens, 3 * heads * head_dim]`.
pub(crate) fn attention(
    qkv: Array<'_>,
    shape: &AttentionShape,
    scores: &Scores<'_>,
) -> Result<(CudaStorage, Shape)> {
    let parts = Parts::new(qkv, shape, scores.scale)?;
    let probabilities = parts.probabilities(scores)?;
    let (square, tall) = sizes(shape);
    let values = parts.product(&probabilities, square, &parts.values, tall)?;
    let dims = (shape.batch, shape.tokens, shape.heads * shape.head_dim);
    with_element!(NAME, qkv.storage, T => {
        let mut y = unwritten::<T>(qkv.device(), shape.output_len())?;
        move_heads(qkv.device(), shape, Move { parts: 1, part: 0, back: true, scale: 1.0 },
            values.array(), &mut y)?;
        Ok(stored(y, qkv.device(), dims))
    })
}

/// The gradients of `qkv` and, if `of_bias`, of the bias.
pub(crate) fn attention_gradients(
    qkv: Array<'_>,
    grad: Array<'_>,
    shape: &AttentionShape,
    scores: &Scores<'_>,
    of_bias: bool,
) -> Result<((CudaStorage, Shape), Option<Tensor>)> {
    let AttentionShape { tokens, heads, .. } = *shape;
    let parts = Parts::new(qkv, shape, scores.scale)?;
    let probabilities = parts.probabilities(scores)?;
    let grad = together(grad, shape, Move { parts: 1, part: 0, back: false, scale: 1.0 })?;
    let (square, tall) = sizes(shape);
    let of_values = parts.product(&probabilities, square.transposed(), &grad, tall)?;
    let of_probabilities = parts.product(&grad, tall, &parts.values, tall.transposed())?;
    let of_scores = softmax_gradient(probabilities.array(), of_probabilities.array(), false)?;
    let of_scores = Held::new(of_scores);
    let of_bias = if of_bias {
        let columns = Layout::contiguous((shape.batch, heads * tokens * tokens));
        let sums = tensor(sum_columns(Array::new(&of_scores.0, &columns))?);
        Some(sums.reshape((heads, tokens, tokens))?)
    } else {
        None
    };
    let of_queries = parts.product(&of_scores, square, &parts.keys, tall)?;
    // The queries were multiplied by the scale before.
    let of_keys = parts.product(&of_scores, square.transposed(), &parts.queries, tall)?;
    let of_qkv = with_element!(NAME, qkv.storage, T => {
        let mut dqkv = unwritten::<T>(qkv.device(), shape.qkv_len())?;
        let parts = [(of_queries, scores.scale), (of_keys, 1.0), (of_values, 1.0)];
        for (part, (gradient, scale)) in parts.into_iter().enumerate() {
            let to = Move { parts: 3, part: part as u32, back: true, scale };
            move_heads(qkv.device(), shape, to, gradient.array(), &mut dqkv)?;
        }
        Ok(stored(dqkv, qkv.device(), qkv.dims()))
    })?;
    Ok((of_qkv, of_bias))
}

/// The sizes of a head's scores, and of its queries, keys and values.
fn sizes(shape: &AttentionShape) -> (Stacked, Stacked) {
    let AttentionShape { tokens, head_dim, .. } = *shape;
    (Stacked::new(tokens, tokens), Stacked::new(tokens, head_dim))
}

/// Queries times the scale, keys, and values, each `[batch, heads, tokens, head_dim]`.
struct Parts<'a> {
    queries: Held,
    keys: Held,
    values: Held,
    shape: &'a AttentionShape,
}

impl<'a> Parts<'a> {
    fn new(qkv: Array<'_>, shape: &'a AttentionShape, scale: f64) -> Result<Self> {
        let part = |part, scale| together(qkv, shape, Move { parts: 3, part, back: false, scale });
        Ok(Self { queries: part(0, scale)?, keys: part(1, 1.0)?, values: part(2, 1.0)?, shape })
    }

    /// The product of the matrices of every head.
    fn product(&self, a: &Held, of_a: Stacked, b: &Held, of_b: Stacked) -> Result<Held> {
        let AttentionShape { batch, heads, .. } = *self.shape;
        let dims = [batch, heads, of_a.size()[0], of_b.size()[1]];
        matmul(a.array(), b.array(), batch * heads, [of_a, of_b], &dims).map(Held::new)
    }

    /// `[batch, heads, tokens, tokens]`.
    fn probabilities(&self, scores: &Scores<'_>) -> Result<Held> {
        let AttentionShape { tokens, heads, .. } = *self.shape;
        let (_, tall) = sizes(self.shape);
        let found = self.product(&self.queries, tall, &self.keys, tall.transposed())?;
        let rows = self.shape.rows();
        let windows = scores.mask.map_or(1, |mask| mask.dims()[0]) as u32;
        with_element!(NAME, &found.0, T => {
            let bias = scores.bias.map(|bias| bias.view::<T>()).transpose()?;
            let mask = scores.mask.map(|mask| mask.view::<T>()).transpose()?;
            let in_place = found.array().view::<T>()?;
            let device = &found.0.device;
            let function = device_function::<T>(device, Source::Attention, "attention_softmax")?;
            let config = over_rows(rows);
            let (tokens, heads) = (tokens as u32, heads as u32);
            // SAFETY: the scores have so many rows of tokens, the bias a matrix for each head, the mask one
            // for each window, which op checks have seen to. The scores have no other reader.
            unsafe {
                launch!(
                    function, config, &rows, &tokens, &heads, &windows, &bias, &mask, &in_place
                )
            }
            Ok(())
        })?;
        Ok(found)
    }
}

/// How [`move_heads`] moves a part of `[batch, tokens, parts, heads, head_dim]`.
#[derive(Clone, Copy)]
struct Move {
    parts: u32,
    part: u32,
    back: bool,
    scale: f64,
}

/// A part of `x`, `[batch, heads, tokens, head_dim]`.
fn together(x: Array<'_>, shape: &AttentionShape, by: Move) -> Result<Held> {
    let AttentionShape { batch, tokens, heads, head_dim } = *shape;
    with_element!(NAME, x.storage, T => {
        let mut y = unwritten::<T>(x.device(), shape.output_len())?;
        move_heads(x.device(), shape, by, x, &mut y)?;
        Ok(Held::new(stored(y, x.device(), (batch, heads, tokens, head_dim))))
    })
}

fn move_heads<T: Element>(
    device: &CudaDevice,
    shape: &AttentionShape,
    by: Move,
    x: Array<'_>,
    y: &mut CudaSlice<T>,
) -> Result<()> {
    let n = shape.output_len();
    let (longer, shorter) = if by.back { (y.len(), x.len()) } else { (x.len(), y.len()) };
    if longer != n * by.parts as usize || shorter != n {
        candle_core::bail!("{NAME}: {:?} is no part of {longer} elements", x.dims())
    }
    let [tokens, heads, dim] = [shape.tokens, shape.heads, shape.head_dim].map(|size| size as u32);
    let Move { parts, part, back, scale } = by;
    let (back, scale) = (i32::from(back), scale as f32);
    let x = x.view::<T>()?;
    let function = device_function::<T>(device, Source::Attention, "move_heads")?;
    let config = over_threads(n);
    // SAFETY: x and y were just found to have a part, or all of them.
    unsafe {
        launch!(function, config, &n, &tokens, &parts, &heads, &dim, &part, &back, &scale, &x, y)
    }
    Ok(())
}
