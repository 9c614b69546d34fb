//! `backward` without the detours of candle's.
//!
//! candle's own fills a tensor of zeros for every node and adds the node's gradient to it: two passes
//! over memory for nothing where a node is used once, which is a tenth of a step where memory is what
//! a step waits for.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::Arc;

use candle_core::backprop::GradStore;
use candle_core::{DType, Result, Tensor};

use crate::add::add_gradients;
use crate::tape::{self, Recorded};

/// The gradients of `loss`, as its method `backward` gives them, in less time.
///
/// A gradient goes on as it is, and only where a tensor was used more than once are gradients added.
/// That takes a graph of this crate's ops alone (see [`is_direct`] and [`why_not_direct`]); if any op
/// between `loss` and a variable is one of candle's own, even a reshape, the whole way back is candle's.
///
/// # Errors
/// What `loss.backward()` returns.
///
/// # Example
/// ```
/// use candle_core::{DType, Device, Tensor, Var};
/// use candle_vision_ops::{CrossEntropyConfig, Targets, backward, cross_entropy, linear};
///
/// let weight = Var::zeros((2, 2), DType::F32, &Device::Cpu)?;
/// let x = Tensor::new(&[[1f32, 2.0]], &Device::Cpu)?;
/// let labels = Tensor::new(&[0u32], &Device::Cpu)?;
/// let logits = linear(&x, &weight, None)?;
/// let loss = cross_entropy(&logits, Targets::Labels(&labels), &CrossEntropyConfig::default())?;
/// let gradients = backward(&loss)?;
/// assert_eq!(gradients.get(&weight).unwrap().to_vec2::<f32>()?, [[-0.5, -1.0], [0.5, 1.0]]);
/// # candle_core::Result::Ok(())
/// ```
pub fn backward(loss: &Tensor) -> Result<GradStore> {
    backward_from(loss, &loss.ones_like()?)
}

/// The gradients of the sum of `y * gradient`, as [`backward`] gives them: what PyTorch calls
/// `y.backward(gradient)`.
///
/// # Errors
/// If `gradient` is not of the shape and number type of `y`, and what candle's `backward` returns.
///
/// # Example
/// ```
/// use candle_core::{Device, Tensor, Var};
/// use candle_vision_ops::{backward_from, relu};
///
/// let x = Var::new(&[3f32, -1.0], &Device::Cpu)?;
/// let gradients = backward_from(&relu(&x)?, &Tensor::new(&[5f32, 7.0], &Device::Cpu)?)?;
/// assert_eq!(gradients.get(&x).unwrap().to_vec1::<f32>()?, [5.0, 0.0]);
/// # candle_core::Result::Ok(())
/// ```
pub fn backward_from(y: &Tensor, gradient: &Tensor) -> Result<GradStore> {
    if (gradient.dims(), gradient.dtype()) != (y.dims(), y.dtype()) {
        let (found, expected) = ((gradient.dims(), gradient.dtype()), (y.dims(), y.dtype()));
        candle_core::bail!("backward: expected a gradient of {expected:?}, got {found:?}")
    }
    let nodes = y.sorted_nodes();
    match recorded(&nodes) {
        Some(ops) => walk(&nodes, &ops, gradient.detach()),
        None => (y * gradient.detach())?.sum_all()?.backward(),
    }
}

/// Whether [`backward`] of `y` is this crate's, since every op between `y` and a variable is, and not
/// candle's slower one; [`why_not_direct`] says which op it is then.
///
/// # Example
/// ```
/// use candle_core::{Device, Var};
/// use candle_vision_ops::{is_direct, scale};
///
/// let x = Var::new(&[3f32, -1.0], &Device::Cpu)?;
/// assert!(is_direct(&scale(&x, 2.0)?));
/// assert!(!is_direct(&(x.as_tensor() * 2.0)?));
/// # candle_core::Result::Ok(())
/// ```
pub fn is_direct(y: &Tensor) -> bool {
    recorded(&y.sorted_nodes()).is_some()
}

/// An op of candle's own, for which the whole of [`backward`] is candle's.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ForeignOp {
    /// What it does, as far as candle shows: `reshape`, `permute`, `narrow`, `broadcast`, or `operation`
    /// for one that computes.
    pub kind: &'static str,
    /// Shape of its result.
    pub shape: Vec<usize>,
    /// Number type of its result.
    pub dtype: DType,
    /// How many such ops there are in all.
    pub count: usize,
}

impl std::fmt::Display for ForeignOp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "a candle {} that gives {:?} of shape {:?}", self.kind, self.dtype, self.shape)?;
        match self.count {
            1 => Ok(()),
            count => write!(f, ", the first of {count}"),
        }
    }
}

/// The first op, in the order of the forward pass, that keeps [`backward`] of `y` from its fast way; `None`
/// if it takes that way. Half precision on the CPU is emulated by candle's conversions, and never takes it.
///
/// # Example
/// ```
/// use candle_core::{Device, Var};
/// use candle_vision_ops::{relu, why_not_direct};
///
/// let x = Var::new(&[[3f32, -1.0]], &Device::Cpu)?;
/// assert_eq!(why_not_direct(&relu(&x)?), None);
/// let y = relu(&x.reshape(2)?)?;
/// let op = why_not_direct(&y).unwrap();
/// assert_eq!(op.to_string(), "a candle reshape that gives F32 of shape [2]");
/// # candle_core::Result::Ok(())
/// ```
pub fn why_not_direct(y: &Tensor) -> Option<ForeignOp> {
    let nodes = y.sorted_nodes();
    let is_foreign = |node: &&&Tensor| !node.is_variable() && tape::made_by(node).is_none();
    // Each node comes before what it was made of.
    let first = nodes.iter().rfind(is_foreign)?;
    let count = nodes.iter().filter(is_foreign).count();
    let (shape, dtype) = (first.dims().to_vec(), first.dtype());
    Some(ForeignOp { kind: kind(first, &nodes), shape, dtype, count })
}

/// candle keeps what made a tensor to itself, but a view shares the memory of what it is a view of.
fn kind(tensor: &Tensor, nodes: &[&Tensor]) -> &'static str {
    let is_source = |node: &&&Tensor| {
        let (ours, theirs) = (tensor.storage_and_layout().0, node.storage_and_layout().0);
        node.id() != tensor.id() && std::ptr::eq(&raw const *ours, &raw const *theirs)
    };
    // What it was made of comes after it.
    let made_of = nodes.iter().skip_while(|node| node.id() != tensor.id());
    let Some(source) = made_of.clone().find(is_source) else {
        return "operation";
    };
    match tensor.elem_count().cmp(&source.elem_count()) {
        Ordering::Less => "narrow",
        Ordering::Greater => "broadcast",
        Ordering::Equal if tensor.is_contiguous() => "reshape",
        Ordering::Equal => "permute",
    }
}

/// What made each node, nothing for a variable; `None` if candle made one of them.
fn recorded(nodes: &[&Tensor]) -> Option<Vec<Option<Arc<dyn Recorded>>>> {
    let of = |node: &&Tensor| {
        if node.is_variable() { Some(None) } else { tape::made_by(node).map(Some) }
    };
    nodes.iter().map(of).collect()
}

/// From the first node, whose gradient is given, to the variables; each node comes before what it was
/// made of.
fn walk(
    nodes: &[&Tensor],
    ops: &[Option<Arc<dyn Recorded>>],
    gradient: Tensor,
) -> Result<GradStore> {
    let places: HashMap<_, _> = nodes.iter().zip(0..).map(|(node, i)| (node.id(), i)).collect();
    let mut gradients: Vec<Option<Tensor>> = vec![None; nodes.len()];
    let mut found = GradStore::default();
    if let Some(first) = gradients.first_mut() {
        *first = Some(gradient);
    }
    for (i, (node, op)) in nodes.iter().zip(ops).enumerate() {
        let Some(gradient) = gradients[i].take() else {
            continue;
        };
        // An op may have computed it in ways that candle could follow back.
        let gradient = gradient.detach();
        let Some(op) = op else {
            found.insert(node, gradient);
            continue;
        };
        let of_arguments = op.gradients(node, &gradient)?;
        // Its memory is the next one's.
        drop(gradient);
        for (argument, gradient) in op.arguments().into_iter().zip(of_arguments) {
            if let (Some(&place), Some(gradient)) = (places.get(&argument), gradient) {
                let others = gradients[place].take();
                gradients[place] = Some(match others {
                    Some(others) => add_gradients(&others, &gradient)?,
                    None => gradient,
                });
            }
        }
    }
    Ok(found)
}
