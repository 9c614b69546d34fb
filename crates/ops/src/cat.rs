//! Concatenation of tensors.

use candle_core::{CpuStorage, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor, bail};
use candle_vision_kernels::cat::cat_rows;
use candle_vision_kernels::rearrange::Places;

use crate::check;
use crate::emulated::is_emulated;
use crate::rearrange::{anchored, gradient_along};
use crate::storage::{elements, stored, with_float};
use crate::tape::{Footprint, apply2, apply3, is_anchored, note};

/// Concatenates `tensors` along `axis`.
///
/// # Shapes
/// - `tensors`: equal shapes except along `axis`, of one float type
/// - returns the same shape with the sum of the sizes along `axis`
///
/// # Errors
/// If there are none, there is no such axis, or a shape or number type differs.
///
/// # Example
/// ```
/// use candle_core::{Device, Tensor};
/// use candle_vision_ops::cat;
///
/// let x = Tensor::new(&[[1f32], [2.0]], &Device::Cpu)?;
/// let y = Tensor::new(&[[3f32, 4.0], [5.0, 6.0]], &Device::Cpu)?;
/// assert_eq!(cat(&[&x, &y], 1)?.to_vec2::<f32>()?, [[1.0, 3.0, 4.0], [2.0, 5.0, 6.0]]);
/// # candle_core::Result::Ok(())
/// ```
pub fn cat<X: AsRef<Tensor>>(tensors: &[X], axis: usize) -> Result<Tensor> {
    let Some(first) = tensors.first().map(AsRef::as_ref) else { bail!("{NAME}: no tensors") };
    if axis >= first.rank() {
        bail!("{NAME}: there is no axis {axis} in {:?}", first.dims())
    }
    let mut expected = first.dims().to_vec();
    for (i, x) in tensors.iter().map(AsRef::as_ref).enumerate() {
        check::float(NAME, x)?;
        check::within_candle(NAME, &format!("tensor {i}"), x)?;
        if let (Some(to), Some(&size)) = (expected.get_mut(axis), x.dims().get(axis)) {
            *to = size;
        }
        check::matches(NAME, &format!("tensor {i}"), x, &expected, first)?;
    }
    if tensors.len() == 1 {
        return Ok(first.clone());
    }
    let mut tensors: Vec<Tensor> =
        tensors.iter().map(|x| x.as_ref().contiguous()).collect::<Result<_>>()?;
    if first.device().is_cpu() && !is_emulated(first) {
        match &tensors[..] {
            [x, y] => return apply2(x, y, Cat { axis }),
            [x, y, z] => return apply3(x, y, z, Cat { axis }),
            // A custom op has at most three arguments.
            _ => {}
        }
    }
    // The tape needs one argument that an op of this crate made.
    if !tensors.iter().any(|x| x.track_op() && is_anchored(x))
        && let Some(variable) = tensors.iter_mut().find(|x| x.is_variable())
    {
        *variable = anchored(variable)?;
    }
    let result = Tensor::cat(&tensors, axis)?;
    let sizes: Vec<(usize, bool)> =
        tensors.iter().map(|x| (x.dims()[axis], x.track_op())).collect();
    let total = result.dims()[axis];
    let gradients = move |gradient: &Tensor| {
        let mut start = 0;
        let part = |&(size, wanted): &(usize, bool)| {
            start += size;
            let places = Places::range(total, start - size..start);
            wanted.then(|| gradient_along(NAME, gradient, [(axis, places)])).transpose()
        };
        sizes.iter().map(part).collect()
    };
    note(&result, &tensors.iter().collect::<Vec<_>>(), gradients);
    Ok(result)
}

const NAME: &str = "cat";

/// Two or three tensors on the CPU, where candle copies on one thread: the maps of a DenseNet would wait for it.
struct Cat {
    axis: usize,
}

impl Cat {
    fn join(&self, parts: &[(&CpuStorage, &Layout)]) -> Result<(CpuStorage, Shape)> {
        let Some(&(first, layout)) = parts.first() else { bail!("{NAME}: no tensors") };
        let mut dims = layout.dims().to_vec();
        dims[self.axis] = parts.iter().map(|(_, layout)| layout.dims()[self.axis]).sum();
        with_float!(NAME, first, T => {
            let mut rows = Vec::with_capacity(parts.len());
            for &(part, layout) in parts {
                let row_len = layout.dims()[self.axis..].iter().product();
                rows.push((elements::<T>(part, layout)?, row_len));
            }
            Ok(stored(cat_rows(&rows), dims))
        })
    }

    /// The parts of `gradient` that belong to `arguments`.
    fn split(&self, arguments: &[&Tensor], gradient: &Tensor) -> Result<Vec<Option<Tensor>>> {
        let total = gradient.dims()[self.axis];
        let mut start = 0;
        let part = |argument: &&Tensor| {
            let size = argument.dims()[self.axis];
            start += size;
            let places = Places::range(total, start - size..start);
            let part = || gradient_along(NAME, gradient, [(self.axis, places)]);
            argument.track_op().then(part).transpose()
        };
        arguments.iter().map(part).collect()
    }
}

impl Footprint for Cat {}

impl CustomOp2 for Cat {
    fn name(&self) -> &'static str {
        NAME
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        y: &CpuStorage,
        y_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.join(&[(x, x_layout), (y, y_layout)])
    }

    fn bwd(
        &self,
        x: &Tensor,
        y: &Tensor,
        _joined: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let mut parts = self.split(&[x, y], gradient)?.into_iter();
        Ok((parts.next().flatten(), parts.next().flatten()))
    }
}

impl CustomOp3 for Cat {
    fn name(&self) -> &'static str {
        NAME
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
        self.join(&[(x, x_layout), (y, y_layout), (z, z_layout)])
    }

    fn bwd(
        &self,
        x: &Tensor,
        y: &Tensor,
        z: &Tensor,
        _joined: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let mut parts = self.split(&[x, y, z], gradient)?.into_iter();
        Ok((parts.next().flatten(), parts.next().flatten(), parts.next().flatten()))
    }
}
