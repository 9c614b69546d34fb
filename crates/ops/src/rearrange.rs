//! The op behind slices, padding, permutations, broadcasting and sums. It moves, repeats, drops or adds up
//! elements.

use std::sync::Arc;

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};
use candle_vision_kernels::float::Float;
use candle_vision_kernels::rearrange::{self as kernels, Places, Rearrangement};

use crate::check;
#[cfg(feature = "cuda")]
use crate::cuda::{self, Array};
use crate::emulated::{is_emulated, widened};
use crate::storage::{elements, stored, with_float};
use crate::tape::{Footprint, apply1};

/// Axis `i` of the result is `places[i]` of axis `order[i]` of `x`. An element that reads nothing is
/// `fill`.
pub(crate) fn rearranged(
    name: &'static str,
    x: &Tensor,
    places: Vec<Places>,
    order: &[usize],
    fill: f64,
) -> Result<Tensor> {
    check::float(name, x)?;
    if is_emulated(x) {
        return rearranged(name, &widened(x)?, places, order, fill)?.to_dtype(x.dtype());
    }
    apply1(&x.contiguous()?, Rearrange::new(name, x.dims(), places, order, fill))
}

/// `x` with the given axes changed and all others unchanged.
pub(crate) fn along(
    name: &'static str,
    x: &Tensor,
    changed: impl IntoIterator<Item = (usize, Places)>,
    fill: f64,
) -> Result<Tensor> {
    let mut places: Vec<Places> = x.dims().iter().map(|&size| Places::all(size)).collect();
    for (axis, changed) in changed {
        places[axis] = changed;
    }
    let order: Vec<usize> = (0..x.rank()).collect();
    rearranged(name, x, places, &order, fill)
}

/// A copy of a variable, or any other tensor itself. The result can be an argument of
/// [`tape::note`](crate::tape::note).
pub(crate) fn anchored(x: &Tensor) -> Result<Tensor> {
    if x.is_variable() { along("copy", x, [], 0.0) } else { Ok(x.clone()) }
}

/// [`along`] for a gradient. The result is not on the tape. `dims` is the shape of the result.
pub(crate) fn gradient_along(
    name: &'static str,
    gradient: &Tensor,
    changed: impl IntoIterator<Item = (usize, Places)>,
) -> Result<Tensor> {
    let mut places: Vec<Places> = gradient.dims().iter().map(|&size| Places::all(size)).collect();
    for (axis, changed) in changed {
        places[axis] = changed;
    }
    let order: Vec<usize> = (0..places.len()).collect();
    let op = Rearrange::new(name, gradient.dims(), places, &order, 0.0);
    gradient.contiguous()?.apply_op1_no_bwd(&op)
}

struct Rearrange {
    name: &'static str,
    forward: Arc<Rearrangement>,
    backward: Arc<Rearrangement>,
    input: Vec<usize>,
    output: Vec<usize>,
    fill: f64,
}

impl Rearrange {
    fn new(
        name: &'static str,
        input: &[usize],
        places: Vec<Places>,
        order: &[usize],
        fill: f64,
    ) -> Self {
        let output = places.iter().map(Places::outputs).collect();
        let mut back: Vec<usize> = (0..order.len()).collect();
        back.sort_by_key(|&i| order[i]);
        let transposed = back.iter().map(|&i| places[i].transposed()).collect();
        Self {
            name,
            backward: Arc::new(Rearrangement::new(transposed, &back)),
            forward: Arc::new(Rearrangement::new(places, order)),
            input: input.to_vec(),
            output,
            fill,
        }
    }
}

impl Footprint for Rearrange {}

impl CustomOp1 for Rearrange {
    fn name(&self) -> &'static str {
        self.name
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        with_float!(self.name, x, T => {
            let x = elements::<T>(x, layout)?;
            let y = kernels::rearrange(x, &self.forward, T::narrow(self.fill));
            Ok(stored(y, self.output.as_slice()))
        })
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, x: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        cuda::rearrange(self.name, Array::new(x, layout), &self.forward, self.fill, &self.output)
    }

    fn bwd(&self, _x: &Tensor, _y: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        let back = Self {
            name: self.name,
            forward: self.backward.clone(),
            backward: self.forward.clone(),
            input: self.output.clone(),
            output: self.input.clone(),
            fill: 0.0,
        };
        gradient.contiguous()?.apply_op1_no_bwd(&back).map(Some)
    }
}
