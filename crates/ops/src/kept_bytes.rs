//! The memory that a graph takes until its backward pass is done, counted without running it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use candle_core::{Storage, Tensor};
use candle_vision_kernels::conv;
use candle_vision_kernels::conv_shape::ConvShape;
use candle_vision_kernels::workspace::{KeptBuffers, Product};

use crate::backward::recorded;
use crate::tape::Recorded;

/// What [`kept_bytes`] finds. All sizes are bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeptBytes {
    /// Kept tensors that share memory with those that the caller named.
    pub known: usize,
    /// All other kept tensors: feature maps, masks, statistics.
    pub others: usize,
    /// Gradients of the variables. They exist together when the backward pass ends.
    pub of_variables: usize,
    /// All gradients that exist at once, the variables' included, for each step of the backward pass.
    steps: Vec<usize>,
    /// The convolutions, in the order of the backward pass.
    convolutions: Vec<ConvShape>,
}

/// The bytes of all tensors that are kept for the backward pass from `y`, each piece of memory counted once, and of the
/// gradients that [`backward`](crate::backward()) makes. Tensors that share memory with one of `known`, such as the
/// parameters and the images, are counted apart.
///
/// `None` if the graph contains one of candle's own ops, because candle does not say what those keep (see
/// [`is_direct`](crate::is_direct)). An argument of [`cat`](crate::cat) that depends on no variable is not counted.
///
/// # Example
/// ```
/// use candle_core::{DType, Device, Tensor, Var};
/// use candle_vision_ops::{kept_bytes, linear, relu};
///
/// let weight = Var::zeros((3, 2), DType::F32, &Device::Cpu)?;
/// let x = Tensor::zeros((5, 2), DType::F32, &Device::Cpu)?;
/// let y = relu(&linear(&x, &weight, None)?)?;
/// let kept = kept_bytes(&y, &[&weight, &x]).expect("both ops are this crate's");
/// // The output of the layer and that of the ReLU: 5 x 3 numbers each.
/// assert_eq!((kept.known, kept.others), (4 * (6 + 10), 4 * (15 + 15)));
/// // The most at once are the gradients of both outputs.
/// assert_eq!((kept.of_variables, kept.peak()), (4 * 6, 4 * (15 + 15)));
/// # candle_core::Result::Ok(())
/// ```
pub fn kept_bytes(y: &Tensor, known: &[&Tensor]) -> Option<KeptBytes> {
    let nodes = y.sorted_nodes();
    let ops = recorded(&nodes)?;
    let (steps, of_variables) = gradients(&nodes, &ops);
    let mut storages: HashMap<usize, usize> = HashMap::new();
    let mut keep = |tensor: &Tensor| {
        let bytes_of_storage = storages.entry(storage(tensor)).or_default();
        // The last of several views reaches to the end.
        let end = tensor.layout().start_offset() * tensor.dtype().size_in_bytes() + bytes(tensor);
        *bytes_of_storage = end.max(*bytes_of_storage);
    };
    let mut outside = 0;
    for (node, op) in nodes.iter().zip(&ops) {
        keep(node);
        let Some(op) = op else { continue };
        op.argument_tensors().iter().for_each(&mut keep);
        op.footprint().held().into_iter().for_each(&mut keep);
        outside += op.footprint().held_bytes();
    }
    let named: HashSet<usize> = known.iter().map(|tensor| storage(tensor)).collect();
    let sum = |of_named: bool| -> usize {
        let chosen = storages.iter().filter(|(storage, _)| named.contains(storage) == of_named);
        chosen.map(|(_, bytes)| bytes).sum()
    };
    Some(KeptBytes {
        known: sum(true),
        others: sum(false) + outside,
        of_variables,
        steps,
        convolutions: ops.iter().flatten().filter_map(|op| op.footprint().convolution()).collect(),
    })
}

impl KeptBytes {
    /// The most bytes of gradients that exist at once, those of the variables included.
    pub fn peak(&self) -> usize {
        self.steps.iter().copied().max().unwrap_or(0)
    }

    /// The same for a batch of `batch` images, from the graphs of two smaller ones. Every size is a part that does not
    /// depend on the batch and a part for each image. `None` if the graphs differ in more than their batch.
    ///
    /// ```
    /// use candle_core::{DType, Device, Tensor, Var};
    /// use candle_vision_ops::{KeptBytes, kept_bytes, linear};
    ///
    /// let weight = Var::zeros((3, 2), DType::F32, &Device::Cpu)?;
    /// let of = |batch| {
    ///     let y = linear(&Tensor::zeros((batch, 2), DType::F32, &Device::Cpu)?, &weight, None)?;
    ///     candle_core::Result::Ok(kept_bytes(&y, &[&weight]).expect("it is direct"))
    /// };
    /// assert_eq!(KeptBytes::for_batch([(1, &of(1)?), (2, &of(2)?)], 64), Some(of(64)?));
    /// # candle_core::Result::Ok(())
    /// ```
    pub fn for_batch([(m, first), (n, second)]: [(usize, &Self); 2], batch: usize) -> Option<Self> {
        let alike = (first.steps.len(), first.convolutions.len())
            == (second.steps.len(), second.convolutions.len());
        if !alike || m == n {
            return None;
        }
        let line = |a: usize, b: usize| {
            let [a, b, m, n, at] = [a, b, m, n, batch].map(|number| number as i128);
            usize::try_from(a + (b - a) * (at - m) / (n - m)).unwrap_or(0)
        };
        let convolution =
            |(a, b): (&ConvShape, &ConvShape)| ConvShape { batch: line(a.batch, b.batch), ..*a };
        let convolutions = first.convolutions.iter().zip(&second.convolutions);
        Some(Self {
            known: line(first.known, second.known),
            others: line(first.others, second.others),
            of_variables: line(first.of_variables, second.of_variables),
            steps: first.steps.iter().zip(&second.steps).map(|(a, b)| line(*a, *b)).collect(),
            convolutions: convolutions.map(convolution).collect(),
        })
    }

    /// The working memory that the CPU's convolutions keep from call to call: the bytes of the thread that runs the
    /// step, and those of each further thread of the pool.
    pub fn workspaces(&self) -> [usize; 2] {
        let [mut caller, mut helper] = [KeptBuffers::default(), KeptBuffers::default()];
        let mut take = |shape: &ConvShape, product| {
            let workspace = conv::workspace(shape, product);
            caller.take_all(&workspace);
            helper.take_own(&workspace);
        };
        for shape in self.convolutions.iter().rev() {
            take(shape, Product::Output);
        }
        for shape in &self.convolutions {
            take(shape, Product::KernelGradient);
            take(shape, Product::InputGradient);
        }
        [caller.bytes(), helper.bytes()]
    }
}

/// The gradients that exist at once for each step of [`backward`](crate::backward()), whose order this follows, and
/// those of the variables.
fn gradients(nodes: &[&Tensor], ops: &[Option<Arc<dyn Recorded>>]) -> (Vec<usize>, usize) {
    let places: HashMap<_, _> = nodes.iter().zip(0..).map(|(node, i)| (node.id(), i)).collect();
    let mut waiting: Vec<Option<usize>> = vec![None; nodes.len()];
    let mut memory = Memory::default();
    if let (Some(first), Some(place)) = (nodes.first(), waiting.first_mut()) {
        *place = Some(memory.add(bytes(first)));
    }
    let (mut steps, mut of_variables) = (Vec::with_capacity(nodes.len()), 0);
    for (i, (node, op)) in nodes.iter().zip(ops).enumerate() {
        let Some(own) = waiting[i].take() else { continue };
        let Some(op) = op else {
            of_variables += bytes(node);
            continue;
        };
        let (arguments, footprint) = (op.arguments(), op.footprint());
        let mut found = Vec::new();
        for (number, argument) in arguments.iter().enumerate() {
            let Some(&place) = places.get(argument) else { continue };
            let piece = if footprint.passes_on(number) {
                memory.share(own)
            } else {
                memory.add(bytes(nodes[place]))
            };
            found.push((place, piece));
        }
        let mut most = memory.alive + footprint.passing_bytes(node);
        memory.release(own);
        for (place, piece) in found {
            let Some(other) = waiting[place] else {
                waiting[place] = Some(piece);
                continue;
            };
            waiting[place] = Some(memory.add(bytes(nodes[place])));
            most = most.max(memory.alive);
            memory.release(other);
            memory.release(piece);
        }
        steps.push(most);
    }
    (steps, of_variables)
}

/// Pieces of memory, and how many gradients each is in use for.
#[derive(Default)]
struct Memory {
    /// The bytes and the uses of each piece.
    pieces: Vec<(usize, usize)>,
    /// Bytes of all pieces in use.
    alive: usize,
}

impl Memory {
    fn add(&mut self, bytes: usize) -> usize {
        self.alive += bytes;
        self.pieces.push((bytes, 1));
        self.pieces.len() - 1
    }

    fn share(&mut self, piece: usize) -> usize {
        self.pieces[piece].1 += 1;
        piece
    }

    fn release(&mut self, piece: usize) {
        let (bytes, uses) = &mut self.pieces[piece];
        *uses -= 1;
        if *uses == 0 {
            self.alive -= *bytes;
        }
    }
}

/// Bytes of a tensor's elements.
pub(crate) fn bytes(tensor: &Tensor) -> usize {
    tensor.elem_count() * tensor.dtype().size_in_bytes()
}

/// The memory of a tensor, as a number. Views of one tensor have the same.
fn storage(tensor: &Tensor) -> usize {
    let (storage, _) = tensor.storage_and_layout();
    std::ptr::from_ref::<Storage>(&storage).addr()
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device, Result, Var};

    use super::*;
    use crate::{
        Activation, BatchNormParameters, Conv2dConfig, MaxPool2dConfig, add,
        conv2d_batch_norm_train, flatten, max_pool2d, relu, reshape,
    };

    fn var(shape: impl Into<candle_core::Shape>) -> Var {
        Var::ones(shape, DType::F32, &Device::Cpu).unwrap()
    }

    #[test]
    fn views_and_shared_tensors_count_once() -> Result<()> {
        let x = var((4, 6));
        let y = relu(&x)?;
        let z = add(&reshape(&y, (6, 4))?, &reshape(&y, (6, 4))?)?;
        let kept = kept_bytes(&z, &[&x]).expect("direct");
        assert_eq!((kept.known, kept.others), (96, 2 * 96));
        // The sum and the views pass their gradient on. The two uses of `y` are added up in new memory.
        assert_eq!((kept.of_variables, kept.peak()), (96, 2 * 96));
        Ok(())
    }

    #[test]
    fn ops_count_what_they_hold_themselves() -> Result<()> {
        let images = Tensor::ones((2, 8, 8, 3), DType::F32, &Device::Cpu)?;
        let (kernel, weight, bias) = (var((4, 3, 3, 3)), var(4), var(4));
        let norm = BatchNormParameters::new(&weight, &bias, 1e-5);
        let config = Conv2dConfig::default().padding(1);
        let (y, _) =
            conv2d_batch_norm_train(&images, &kernel, &config, &norm, None, Activation::Relu)?;
        let y = flatten(&max_pool2d(&y, &MaxPool2dConfig::new(2))?)?;
        let known: [&Tensor; 4] = [&images, &kernel, &weight, &bias];
        let kept = kept_bytes(&y, &known).expect("direct");
        assert_eq!(kept.known, 4 * (2 * 8 * 8 * 3 + 4 * 3 * 9 + 4 + 4));
        let map = 2 * 8 * 8 * 4;
        let pooled = map / 4;
        // The convolution's output, the normalised map, the pooled map and its copy in another order, positions of 2
        // bytes, the node that stands for weights and biases, mean and variance.
        assert_eq!(kept.others, 4 * (2 * map + 2 * pooled) + 2 * pooled + 4 * (8 + 8));
        assert_eq!(kept.of_variables, 4 * (4 * 3 * 9 + 8));
        // The gradient of the map, that of the convolution's output, and those of the affine parameters.
        assert_eq!(kept.peak(), 4 * (2 * map + 8));
        Ok(())
    }

    #[test]
    fn candles_own_ops_are_not_counted() -> Result<()> {
        let x = var((4, 6));
        assert_eq!(kept_bytes(&relu(&x.sqr()?)?, &[]), None);
        Ok(())
    }
}
