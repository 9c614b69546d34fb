//! A `backward` without the extra passes of candle's.
//!
//! For every node candle's `backward` fills a tensor with zeros and adds the node's gradient to it. For a
//! node that is used once, these are two needless passes over memory. They take a tenth of a step where
//! memory limits the speed.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::Arc;

use candle_core::backprop::GradStore;
use candle_core::{DType, Result, Tensor};

use crate::add::add_gradients;
use crate::tape::{self, Recorded};

/// The gradients of `loss`. They equal those of its method `backward`, in less time.
///
/// A gradient is passed on as it is. Gradients are added only where a tensor was used more than once. The
/// graph must consist of this crate's ops (see [`is_direct`] and [`why_not_direct`]). If it contains any
/// candle op between `loss` and a variable, even a reshape, the whole backward pass falls back to candle's.
///
/// # Errors
/// The errors of `loss.backward()`.
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

/// The gradients of the sum of `y * gradient`, computed as by [`backward`]. PyTorch writes this as
/// `y.backward(gradient)`.
///
/// # Errors
/// If `gradient` does not have the shape and number type of `y`, and the errors of candle's `backward`.
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
    backward_each(y, gradient, |_, _| Ok(()))
}

/// [`backward_from`] that calls `then` for each variable as soon as its gradient is complete, while those of other
/// variables are still to come. The order of the calls follows from the graph alone. An error of `then` ends it.
///
/// If the pass falls back to candle's, `then` is called after it, in an order that follows from the graph alone, too.
///
/// # Errors
/// Those of `backward_from` and of `then`.
///
/// # Example
/// ```
/// use candle_core::{Device, Tensor, Var};
/// use candle_vision_ops::{backward_each, linear};
///
/// let (first, second) = (Var::new(&[[2f32]], &Device::Cpu)?, Var::new(&[[3f32]], &Device::Cpu)?);
/// let x = Tensor::new(&[[5f32]], &Device::Cpu)?;
/// let y = linear(&linear(&x, &first, None)?, &second, None)?;
/// let mut order = Vec::new();
/// backward_each(&y, &y.ones_like()?, |variable, gradient| {
///     order.push((variable.id(), gradient.to_vec2::<f32>()?[0][0]));
///     Ok(())
/// })?;
/// assert_eq!(order, [(second.id(), 10.0), (first.id(), 15.0)]);
/// # candle_core::Result::Ok(())
/// ```
pub fn backward_each(
    y: &Tensor,
    gradient: &Tensor,
    mut then: impl FnMut(&Tensor, &Tensor) -> Result<()>,
) -> Result<GradStore> {
    if (gradient.dims(), gradient.dtype()) != (y.dims(), y.dtype()) {
        let (found, expected) = ((gradient.dims(), gradient.dtype()), (y.dims(), y.dtype()));
        candle_core::bail!("backward: expected a gradient of {expected:?}, got {found:?}")
    }
    let nodes = y.sorted_nodes();
    match recorded(&nodes) {
        Some(ops) => walk(&nodes, &ops, gradient.detach(), &mut then),
        None => {
            let found = (y * gradient.detach())?.sum_all()?.backward()?;
            for node in nodes.iter().filter(|node| node.is_variable()) {
                found.get(node).map_or(Ok(()), |gradient| then(node, gradient))?;
            }
            Ok(found)
        }
    }
}

/// Whether [`backward`] of `y` is this crate's fast one. It is if every op between `y` and a variable is an
/// op of this crate. Otherwise [`why_not_direct`] names an op that is not.
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

/// One of candle's own ops, because of which the whole of [`backward`] falls back to candle's.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ForeignOp {
    /// The kind of op, as far as candle shows it: `reshape`, `permute`, `narrow`, `broadcast`, or
    /// `operation` for one that computes.
    pub kind: &'static str,
    /// Shape of the op's result.
    pub shape: Vec<usize>,
    /// Number type of the op's result.
    pub dtype: DType,
    /// Total number of such ops in the graph.
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

/// The first op, in the order of the forward pass, because of which [`backward`] of `y` falls back to
/// candle's. `None` if it does not. With half precision on the CPU it always falls back, because candle's
/// conversions emulate it.
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
    // Each node precedes its arguments.
    let first = nodes.iter().rfind(is_foreign)?;
    let count = nodes.iter().filter(is_foreign).count();
    let (shape, dtype) = (first.dims().to_vec(), first.dtype());
    Some(ForeignOp { kind: kind(first, &nodes), shape, dtype, count })
}

/// The kind of op that made a tensor. candle does not reveal it, but a view shares the memory of its
/// source.
fn kind(tensor: &Tensor, nodes: &[&Tensor]) -> &'static str {
    let is_source = |node: &&&Tensor| {
        let (ours, theirs) = (tensor.storage_and_layout().0, node.storage_and_layout().0);
        node.id() != tensor.id() && std::ptr::eq(&raw const *ours, &raw const *theirs)
    };
    // Its arguments come after it.
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

/// The op that made each node, `None` for a variable. The whole result is `None` if candle made a node.
pub(crate) fn recorded(nodes: &[&Tensor]) -> Option<Vec<Option<Arc<dyn Recorded>>>> {
    let of = |node: &&Tensor| {
        if node.is_variable() { Some(None) } else { tape::made_by(node).map(Some) }
    };
    nodes.iter().map(of).collect()
}

/// Walks from the first node, whose gradient is given, to the variables. Each node precedes its arguments.
fn walk(
    nodes: &[&Tensor],
    ops: &[Option<Arc<dyn Recorded>>],
    gradient: Tensor,
    then: &mut dyn FnMut(&Tensor, &Tensor) -> Result<()>,
) -> Result<GradStore> {
    let places: HashMap<_, _> = nodes.iter().zip(0..).map(|(node, i)| (node.id(), i)).collect();
    let mut gradients: Vec<Option<Incoming>> = Vec::new();
    gradients.resize_with(nodes.len(), || None);
    let mut found = GradStore::default();
    if let Some(first) = gradients.first_mut() {
        *first = Some(Incoming::One(gradient));
    }
    for (i, (node, op)) in nodes.iter().zip(ops).enumerate() {
        let Some(gradient) = gradients[i].take() else {
            continue;
        };
        let Some(op) = op else {
            let gradient = gradient.sum()?;
            then(node, &gradient)?;
            found.insert(node, gradient);
            continue;
        };
        let of_arguments = gradient.through(op.as_ref(), node)?;
        for (argument, gradient) in op.arguments().into_iter().zip(of_arguments) {
            if let (Some(&place), Some(gradient)) = (places.get(&argument), gradient) {
                // An op may have computed it with operations that candle records.
                let gradient = gradient.detach();
                gradients[place] = Some(match gradients[place].take() {
                    Some(others) => others.and(gradient, ops[place].as_deref())?,
                    None => Incoming::One(gradient),
                });
            }
        }
    }
    Ok(found)
}

/// What has come of the gradient of a node.
enum Incoming {
    One(Tensor),
    /// Two gradients whose sum the op computes on its way.
    Two(Tensor, Tensor),
}

impl Incoming {
    /// With one more, for the op that made the node.
    fn and(self, gradient: Tensor, op: Option<&dyn Recorded>) -> Result<Self> {
        let is_for_two = op.is_some_and(|op| op.footprint().of_two().is_some());
        let others = self.sum()?;
        if is_for_two && (others.dims(), others.dtype()) == (gradient.dims(), gradient.dtype()) {
            return Ok(Self::Two(others, gradient));
        }
        add_gradients(&others, &gradient).map(Self::One)
    }

    fn sum(self) -> Result<Tensor> {
        match self {
            Self::One(gradient) => Ok(gradient),
            Self::Two(first, second) => add_gradients(&first, &second),
        }
    }

    /// The gradients of the arguments of `op`, which made `node`.
    fn through(self, op: &dyn Recorded, node: &Tensor) -> Result<Vec<Option<Tensor>>> {
        if let (Self::Two(first, second), Some(of_two)) = (&self, op.footprint().of_two()) {
            return of_two.gradients(op.argument_tensors(), node, [first, second]);
        }
        op.gradients(node, &self.sum()?)
    }
}
