//! Records which op of this crate made a tensor, for [`backward`](crate::backward()).
//!
//! candle keeps such a record, but only its own `backward` can read it. So every op is applied through
//! [`apply1`] to [`apply3`]. They pass the op to candle and also note it under the id of its result, for as
//! long as candle keeps the op.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError, Weak};

use candle_core::{
    CpuStorage, CudaStorage, CustomOp1, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor,
    TensorId,
};
use candle_vision_kernels::conv_shape::ConvShape;

/// The memory that an op takes besides its arguments, its result and their gradients. The defaults are those of an op
/// that takes none, and needs the sum of its result's gradients.
pub(crate) trait Footprint {
    /// Tensors that the op itself holds for its gradients.
    fn held(&self) -> Vec<&Tensor> {
        Vec::new()
    }

    /// Bytes that it holds for its gradients outside of tensors.
    fn held_bytes(&self) -> usize {
        0
    }

    /// Bytes of what its gradients are computed from and what is dropped with them.
    fn passing_bytes(&self, result: &Tensor) -> usize {
        let _ = result;
        0
    }

    /// Whether the gradient of argument number `argument` is that of the result itself, in the same memory.
    fn passes_on(&self, argument: usize) -> bool {
        let _ = argument;
        false
    }

    /// The convolution that it computes.
    fn convolution(&self) -> Option<ConvShape> {
        None
    }

    /// Its backward pass that needs no sum of two gradients, if it has one.
    fn of_two(&self) -> Option<&dyn OfTwo> {
        None
    }
}

/// A backward pass from two gradients of a result that is used twice, as at the end of a residual block.
pub(crate) trait OfTwo {
    /// What [`Recorded::gradients`] returns for the sum of `gradients`.
    fn gradients(
        &self,
        arguments: &[Tensor],
        result: &Tensor,
        gradients: [&Tensor; 2],
    ) -> Result<Vec<Option<Tensor>>>;
}

/// An op and its arguments.
pub(crate) trait Recorded: Send + Sync {
    fn arguments(&self) -> Vec<TensorId>;

    /// The arguments, as far as the tape holds them.
    fn argument_tensors(&self) -> &[Tensor];

    /// What the op takes besides them.
    fn footprint(&self) -> &dyn Footprint;

    /// The gradients of the arguments, from the op's result and the result's gradient.
    fn gradients(&self, result: &Tensor, gradient: &Tensor) -> Result<Vec<Option<Tensor>>>;
}

/// Applies `op` to `x`.
pub(crate) fn apply1<C>(x: &Tensor, op: C) -> Result<Tensor>
where
    C: CustomOp1 + Footprint + Send + Sync + 'static,
{
    let node = Arc::new(Node { op, arguments: [x.clone()] });
    let result = x.apply_op1(Shared(Arc::clone(&node)))?;
    Ok(noted(result, node))
}

/// Applies `op` to `x` and `y`.
pub(crate) fn apply2<C>(x: &Tensor, y: &Tensor, op: C) -> Result<Tensor>
where
    C: CustomOp2 + Footprint + Send + Sync + 'static,
{
    let node = Arc::new(Node { op, arguments: [x.clone(), y.clone()] });
    let result = x.apply_op2(y, Shared(Arc::clone(&node)))?;
    Ok(noted(result, node))
}

/// Applies `op` to `x`, `y` and `z`.
pub(crate) fn apply3<C>(x: &Tensor, y: &Tensor, z: &Tensor, op: C) -> Result<Tensor>
where
    C: CustomOp3 + Footprint + Send + Sync + 'static,
{
    let node = Arc::new(Node { op, arguments: [x.clone(), y.clone(), z.clone()] });
    let result = x.apply_op3(y, z, Shared(Arc::clone(&node)))?;
    Ok(noted(result, node))
}

/// Notes `result` as the result of an op of this crate, although candle made it from `arguments` with its
/// own op. candle's values must be right. `gradients` computes the gradients of the arguments from that of
/// the result.
///
/// This is for results that candle makes without a copy (views), and for ops with more arguments than a
/// custom op can have. Nothing can be attached to such a tensor in candle. So the note itself is kept here
/// until the op that made one of the arguments is gone. The result never outlives that op. Therefore, if
/// the result depends on a variable, one of the arguments must be the result of an op of this crate.
/// [`is_anchored`] checks this. Otherwise nothing is noted.
pub(crate) fn note(
    result: &Tensor,
    arguments: &[&Tensor],
    gradients: impl Fn(&Tensor) -> Result<Vec<Option<Tensor>>> + Send + Sync + 'static,
) {
    if !result.track_op() {
        return;
    }
    let mut notes = NOTES.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(anchor) = arguments.iter().find_map(|x| notes.anchor(x.id())) else {
        return;
    };
    let arguments = arguments.iter().map(|x| x.id()).collect();
    let op = Arc::new(Foreign { arguments, gradients: Box::new(gradients) });
    notes.add(result.id(), Note::Kept { op, anchor });
}

/// Whether [`note`] may be called for a result of `x`: it depends on no variable, or an op of this crate
/// made it.
pub(crate) fn is_anchored(x: &Tensor) -> bool {
    !x.track_op() || made_by(x).is_some()
}

/// The op that made `result`, if it is an op of this crate and the result depends on a variable.
pub(crate) fn made_by(result: &Tensor) -> Option<Arc<dyn Recorded>> {
    let notes = NOTES.lock().unwrap_or_else(PoisonError::into_inner);
    notes.ops.get(&result.id()).and_then(Note::op)
}

static NOTES: LazyLock<Mutex<Notes>> = LazyLock::new(Mutex::default);

/// The record of the op that made a tensor.
enum Note {
    /// An op that candle keeps for as long as the tensor lives.
    Weak(Weak<dyn Recorded>),
    /// An op that candle does not keep, and another op that lives at least as long as the tensor.
    Kept { op: Arc<dyn Recorded>, anchor: Weak<dyn Recorded> },
}

impl Note {
    fn op(&self) -> Option<Arc<dyn Recorded>> {
        match self {
            Self::Weak(op) => op.upgrade(),
            Self::Kept { op, anchor } => (anchor.strong_count() > 0).then(|| op.clone()),
        }
    }

    /// The op that is dropped with the tensor or later.
    fn anchor(&self) -> &Weak<dyn Recorded> {
        match self {
            Self::Weak(op) => op,
            Self::Kept { anchor, .. } => anchor,
        }
    }
}

#[derive(Default)]
struct Notes {
    ops: HashMap<TensorId, Note>,
    /// Number of notes at which those of dropped ops are removed.
    most: usize,
}

impl Notes {
    fn add(&mut self, result: TensorId, note: Note) {
        const FEW: usize = 1024;
        if self.ops.len() >= self.most {
            self.ops.retain(|_, note| note.anchor().strong_count() > 0);
            self.most = FEW.max(2 * self.ops.len());
        }
        self.ops.insert(result, note);
    }

    fn anchor(&self, tensor: TensorId) -> Option<Weak<dyn Recorded>> {
        let anchor = self.ops.get(&tensor)?.anchor();
        (anchor.strong_count() > 0).then(|| anchor.clone())
    }
}

fn noted(result: Tensor, node: Arc<dyn Recorded>) -> Tensor {
    if result.track_op() {
        let mut notes = NOTES.lock().unwrap_or_else(PoisonError::into_inner);
        notes.add(result.id(), Note::Weak(Arc::downgrade(&node)));
    }
    result
}

/// Computes the gradients of the arguments from that of the result.
type Gradients = dyn Fn(&Tensor) -> Result<Vec<Option<Tensor>>> + Send + Sync;

/// One of candle's ops whose gradient this crate knows. It holds no tensors, because nothing tells when the
/// result is dropped.
struct Foreign {
    arguments: Vec<TensorId>,
    gradients: Box<Gradients>,
}

impl Footprint for Foreign {
    fn passes_on(&self, _argument: usize) -> bool {
        // With one argument it is a view.
        self.arguments.len() == 1
    }
}

impl Recorded for Foreign {
    fn argument_tensors(&self) -> &[Tensor] {
        &[]
    }

    fn footprint(&self) -> &dyn Footprint {
        self
    }

    fn arguments(&self) -> Vec<TensorId> {
        self.arguments.clone()
    }

    fn gradients(&self, _result: &Tensor, gradient: &Tensor) -> Result<Vec<Option<Tensor>>> {
        (self.gradients)(gradient)
    }
}

struct Node<C, const N: usize> {
    op: C,
    arguments: [Tensor; N],
}

impl<C: CustomOp1 + Footprint + Send + Sync> Recorded for Node<C, 1> {
    fn argument_tensors(&self) -> &[Tensor] {
        &self.arguments
    }

    fn footprint(&self) -> &dyn Footprint {
        &self.op
    }

    fn arguments(&self) -> Vec<TensorId> {
        self.arguments.iter().map(Tensor::id).collect()
    }

    fn gradients(&self, result: &Tensor, gradient: &Tensor) -> Result<Vec<Option<Tensor>>> {
        let [x] = &self.arguments;
        Ok(vec![self.op.bwd(x, result, gradient)?])
    }
}

impl<C: CustomOp2 + Footprint + Send + Sync> Recorded for Node<C, 2> {
    fn argument_tensors(&self) -> &[Tensor] {
        &self.arguments
    }

    fn footprint(&self) -> &dyn Footprint {
        &self.op
    }

    fn arguments(&self) -> Vec<TensorId> {
        self.arguments.iter().map(Tensor::id).collect()
    }

    fn gradients(&self, result: &Tensor, gradient: &Tensor) -> Result<Vec<Option<Tensor>>> {
        let [x, y] = &self.arguments;
        let (dx, dy) = self.op.bwd(x, y, result, gradient)?;
        Ok(vec![dx, dy])
    }
}

impl<C: CustomOp3 + Footprint + Send + Sync> Recorded for Node<C, 3> {
    fn argument_tensors(&self) -> &[Tensor] {
        &self.arguments
    }

    fn footprint(&self) -> &dyn Footprint {
        &self.op
    }

    fn arguments(&self) -> Vec<TensorId> {
        self.arguments.iter().map(Tensor::id).collect()
    }

    fn gradients(&self, result: &Tensor, gradient: &Tensor) -> Result<Vec<Option<Tensor>>> {
        let [x, y, z] = &self.arguments;
        let (dx, dy, dz) = self.op.bwd(x, y, z, result, gradient)?;
        Ok(vec![dx, dy, dz])
    }
}

/// The value that candle keeps: the op, and with it the node that the note refers to.
struct Shared<C, const N: usize>(Arc<Node<C, N>>);

impl<C: CustomOp1> CustomOp1 for Shared<C, 1> {
    fn name(&self) -> &'static str {
        self.0.op.name()
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        self.0.op.cpu_fwd(x, layout)
    }

    fn cuda_fwd(&self, x: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        self.0.op.cuda_fwd(x, layout)
    }

    fn bwd(&self, x: &Tensor, result: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        self.0.op.bwd(x, result, gradient)
    }
}

impl<C: CustomOp2> CustomOp2 for Shared<C, 2> {
    fn name(&self) -> &'static str {
        self.0.op.name()
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        y: &CpuStorage,
        y_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.0.op.cpu_fwd(x, x_layout, y, y_layout)
    }

    fn cuda_fwd(
        &self,
        x: &CudaStorage,
        x_layout: &Layout,
        y: &CudaStorage,
        y_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        self.0.op.cuda_fwd(x, x_layout, y, y_layout)
    }

    fn bwd(
        &self,
        x: &Tensor,
        y: &Tensor,
        result: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        self.0.op.bwd(x, y, result, gradient)
    }
}

impl<C: CustomOp3> CustomOp3 for Shared<C, 3> {
    fn name(&self) -> &'static str {
        self.0.op.name()
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        y: &CpuStorage,
        y_layout: &Layout,
        z: &CpuStorage,
        z_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.0.op.cpu_fwd(x, x_layout, y, y_layout, z, z_layout)
    }

    fn cuda_fwd(
        &self,
        x: &CudaStorage,
        x_layout: &Layout,
        y: &CudaStorage,
        y_layout: &Layout,
        z: &CudaStorage,
        z_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        self.0.op.cuda_fwd(x, x_layout, y, y_layout, z, z_layout)
    }

    fn bwd(
        &self,
        x: &Tensor,
        y: &Tensor,
        z: &Tensor,
        result: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        self.0.op.bwd(x, y, z, result, gradient)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::*;
    use crate::relu;

    #[test]
    fn an_op_is_known_as_long_as_its_result_lives() -> Result<()> {
        let x = Var::new(&[1f32, -1.0], &Device::Cpu)?;
        let y = relu(&x)?;
        let op = Arc::downgrade(&made_by(&y).expect("relu is an op of this crate"));
        assert_eq!(op.upgrade().unwrap().arguments()[0], x.id());
        let (view, detached) = (y.clone(), y.detach());
        drop(y);
        assert!(made_by(&view).is_some() && made_by(&detached).is_none());
        drop(view);
        assert_eq!(op.strong_count(), 0);
        Ok(())
    }

    #[test]
    fn nothing_is_noted_where_no_variable_leads() -> Result<()> {
        let y = relu(&Tensor::new(&[1f32], &Device::Cpu)?)?;
        assert!(made_by(&y).is_none());
        Ok(())
    }

    #[test]
    fn notes_of_ops_that_are_gone_are_thrown_away() -> Result<()> {
        let x = Var::new(&[1f32], &Device::Cpu)?;
        let kept = relu(&x)?;
        let mut notes = Notes::default();
        for _ in 0..10_000 {
            let y = relu(&x)?;
            notes.add(y.id(), Note::Weak(Arc::downgrade(&made_by(&y).unwrap())));
        }
        notes.add(kept.id(), Note::Weak(Arc::downgrade(&made_by(&kept).unwrap())));
        assert!(notes.ops.len() <= 1024 && notes.ops.contains_key(&kept.id()));
        Ok(())
    }

    #[test]
    fn what_candle_made_is_known_as_long_as_what_it_was_made_of() -> Result<()> {
        let x = Var::new(&[1f32, -1.0], &Device::Cpu)?;
        let back = |gradient: &Tensor| Ok(vec![Some(gradient.reshape(2)?)]);
        // Of a variable: nothing tells when the result is gone.
        let view = x.reshape((2, 1))?;
        note(&view, &[&x], back);
        assert!(made_by(&view).is_none() && !is_anchored(&x));
        let y = relu(&x)?;
        let view = y.reshape((2, 1))?;
        note(&view, &[&y], back);
        let again = view.reshape((1, 2))?;
        note(&again, &[&view], back);
        let op = made_by(&again).expect("noted");
        assert_eq!(op.arguments(), [view.id()]);
        drop((op, y));
        // The view holds what it is a view of.
        assert!(made_by(&view).is_some() && made_by(&again).is_some());
        drop((view, again));
        let mut notes = NOTES.lock().unwrap();
        notes.most = 0;
        let kept =
            |notes: &Notes| notes.ops.values().filter(|n| matches!(n, Note::Kept { .. })).count();
        let before = kept(&notes);
        let some = Note::Weak(Arc::downgrade(
            &(Arc::new(Foreign { arguments: vec![], gradients: Box::new(|_| Ok(vec![])) })
                as Arc<dyn Recorded>),
        ));
        notes.add(x.id(), some);
        notes.ops.remove(&x.id());
        assert!(kept(&notes) + 2 <= before, "both notes are thrown away");
        Ok(())
    }
}
