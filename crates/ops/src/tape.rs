//! Which op of this crate made a tensor, for [`backward`](crate::backward()).
//!
//! candle keeps such a record, but shows nobody but its own `backward`. So every op is applied through
//! [`apply1`] to [`apply3`], which hand it to candle and also note it under the id of its result,
//! for as long as candle keeps it.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError, Weak};

use candle_core::{
    CpuStorage, CudaStorage, CustomOp1, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor,
    TensorId,
};

/// An op and what it was applied to.
pub(crate) trait Recorded: Send + Sync {
    fn arguments(&self) -> &[Tensor];

    /// The gradients of the arguments, given the op's result and the gradient of that.
    fn gradients(&self, result: &Tensor, gradient: &Tensor) -> Result<Vec<Option<Tensor>>>;
}

/// `op` of `x`.
pub(crate) fn apply1<C>(x: &Tensor, op: C) -> Result<Tensor>
where
    C: CustomOp1 + Send + Sync + 'static,
{
    let node = Arc::new(Node { op, arguments: [x.clone()] });
    let result = x.apply_op1(Shared(Arc::clone(&node)))?;
    Ok(noted(result, node))
}

/// `op` of `x` and `y`.
pub(crate) fn apply2<C>(x: &Tensor, y: &Tensor, op: C) -> Result<Tensor>
where
    C: CustomOp2 + Send + Sync + 'static,
{
    let node = Arc::new(Node { op, arguments: [x.clone(), y.clone()] });
    let result = x.apply_op2(y, Shared(Arc::clone(&node)))?;
    Ok(noted(result, node))
}

/// `op` of `x`, `y` and `z`.
pub(crate) fn apply3<C>(x: &Tensor, y: &Tensor, z: &Tensor, op: C) -> Result<Tensor>
where
    C: CustomOp3 + Send + Sync + 'static,
{
    let node = Arc::new(Node { op, arguments: [x.clone(), y.clone(), z.clone()] });
    let result = x.apply_op3(y, z, Shared(Arc::clone(&node)))?;
    Ok(noted(result, node))
}

/// The op that made `result`, if one of this crate did and a variable leads to it.
pub(crate) fn made_by(result: &Tensor) -> Option<Arc<dyn Recorded>> {
    let notes = NOTES.lock().unwrap_or_else(PoisonError::into_inner);
    notes.ops.get(&result.id()).and_then(Weak::upgrade)
}

static NOTES: LazyLock<Mutex<Notes>> = LazyLock::new(Mutex::default);

#[derive(Default)]
struct Notes {
    ops: HashMap<TensorId, Weak<dyn Recorded>>,
    /// How many notes may come together before those of ops that are gone are thrown away.
    most: usize,
}

impl Notes {
    fn add(&mut self, result: TensorId, op: Weak<dyn Recorded>) {
        const FEW: usize = 1024;
        if self.ops.len() >= self.most {
            self.ops.retain(|_, op| op.strong_count() > 0);
            self.most = FEW.max(2 * self.ops.len());
        }
        self.ops.insert(result, op);
    }
}

fn noted(result: Tensor, node: Arc<dyn Recorded>) -> Tensor {
    if result.track_op() {
        let mut notes = NOTES.lock().unwrap_or_else(PoisonError::into_inner);
        notes.add(result.id(), Arc::downgrade(&node));
    }
    result
}

struct Node<C, const N: usize> {
    op: C,
    arguments: [Tensor; N],
}

impl<C: CustomOp1 + Send + Sync> Recorded for Node<C, 1> {
    fn arguments(&self) -> &[Tensor] {
        &self.arguments
    }

    fn gradients(&self, result: &Tensor, gradient: &Tensor) -> Result<Vec<Option<Tensor>>> {
        let [x] = &self.arguments;
        Ok(vec![self.op.bwd(x, result, gradient)?])
    }
}

impl<C: CustomOp2 + Send + Sync> Recorded for Node<C, 2> {
    fn arguments(&self) -> &[Tensor] {
        &self.arguments
    }

    fn gradients(&self, result: &Tensor, gradient: &Tensor) -> Result<Vec<Option<Tensor>>> {
        let [x, y] = &self.arguments;
        let (dx, dy) = self.op.bwd(x, y, result, gradient)?;
        Ok(vec![dx, dy])
    }
}

impl<C: CustomOp3 + Send + Sync> Recorded for Node<C, 3> {
    fn arguments(&self) -> &[Tensor] {
        &self.arguments
    }

    fn gradients(&self, result: &Tensor, gradient: &Tensor) -> Result<Vec<Option<Tensor>>> {
        let [x, y, z] = &self.arguments;
        let (dx, dy, dz) = self.op.bwd(x, y, z, result, gradient)?;
        Ok(vec![dx, dy, dz])
    }
}

/// What candle gets to keep: the op, and with it the node that the note is of.
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
        assert_eq!(op.upgrade().unwrap().arguments()[0].id(), x.id());
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
            notes.add(y.id(), Arc::downgrade(&made_by(&y).unwrap()));
        }
        notes.add(kept.id(), Arc::downgrade(&made_by(&kept).unwrap()));
        assert!(notes.ops.len() <= 1024 && notes.ops.contains_key(&kept.id()));
        Ok(())
    }
}
