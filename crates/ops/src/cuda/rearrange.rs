//! Moves, repeats, drops or adds up elements, and multiplies with broadcasting.

use candle_core::{CudaStorage, Result, Shape, bail};
use candle_vision_kernels::mul::Broadcast;
use candle_vision_kernels::rearrange::{Places, Rearrangement};

use super::array::{Array, stored, unwritten};
use super::element::with_element;
use super::function::{Source, device_function, launch, over_threads};
use super::size::count;
use super::state;
use super::sums::sum_columns;

/// Largest number of axes that a kernel's thread can handle.
const MOST_AXES: usize = 8;

/// The output of `rearrangement`, of shape `dims`.
pub(crate) fn rearrange(
    name: &str,
    x: Array<'_>,
    rearrangement: &Rearrangement,
    fill: f64,
    dims: &[usize],
) -> Result<(CudaStorage, Shape)> {
    if x.len() > 0 && rearrangement.sums_rows_of() == Some(x.channels()) {
        let (sums, _) = sum_columns(x)?;
        return Ok((sums, dims.into()));
    }
    let device = x.device();
    let table = table(name, rearrangement)?;
    let axes = count("axes", rearrangement.axes().len())?;
    let table = state::of(device)?.table(device, table)?;
    let n = rearrangement.output_len();
    with_element!(name, x.storage, T => {
        if x.len() != rearrangement.input_len() || dims.iter().product::<usize>() != n {
            bail!("{name}: a rearrangement for another input than {:?}", x.dims())
        }
        let mut y = unwritten::<T>(device, n)?;
        let (x_in, fill) = (x.view::<T>()?, fill as f32);
        let function = device_function::<T>(device, Source::Rearrange, "rearrange")?;
        // SAFETY: y has n elements, and the table names places inside of x for each.
        unsafe {
            launch!(function, over_threads(n), &n, &axes, &*table, &x_in, &fill, &mut y);
        }
        Ok(stored(y, device, dims))
    })
}

/// Five numbers for each axis, as `rearrange.cu` reads them, followed by the lists.
fn table(name: &str, rearrangement: &Rearrangement) -> Result<Vec<i32>> {
    const HEADER: usize = 5;
    let axes = rearrangement.axes();
    if axes.len() > MOST_AXES {
        bail!("{name}: on a CUDA device at most {MOST_AXES} axes, got {}", axes.len())
    }
    // The strides are then in range too.
    count("elements to be moved", rearrangement.input_len())?;
    let mut table = vec![0; HEADER * axes.len()];
    for (i, axis) in axes.iter().enumerate() {
        let lists_at = count("places of a table", table.len())?;
        let (kind, parameter) = match &axis.places {
            &Places::Shifted { offset, .. } => match i32::try_from(offset) {
                Ok(offset) => (0, offset),
                Err(_) => bail!("{name}: an offset of {offset} is too large"),
            },
            Places::Repeated { .. } => (1, 0),
            Places::Sum { .. } => (2, 0),
            Places::Listed { starts, places, .. } => {
                let first = table.len() + starts.len();
                for start in starts {
                    table.push(count("places of a table", first + start)?);
                }
                for place in places {
                    table.push(count("places of a table", *place)?);
                }
                (3, lists_at)
            }
            other => bail!("{name}: no kernel for {other:?}"),
        };
        let numbers = [axis.places.outputs(), axis.places.inputs(), axis.stride];
        for (to, number) in table[HEADER * i..].iter_mut().zip(numbers) {
            *to = count("positions of an axis", number)?;
        }
        table[HEADER * i + 3] = kind;
        table[HEADER * i + 4] = parameter;
    }
    Ok(table)
}

/// `a * b`, of shape `dims`.
pub(crate) fn mul(
    a: Array<'_>,
    b: Array<'_>,
    [of_a, of_b]: &[Broadcast; 2],
    dims: &[usize],
) -> Result<(CudaStorage, Shape)> {
    const NAME: &str = "mul";
    if dims.len() > MOST_AXES {
        bail!("{NAME}: on a CUDA device at most {MOST_AXES} axes, got {}", dims.len())
    }
    let (device, n) = (a.device(), dims.iter().product::<usize>());
    let mut table = Vec::with_capacity(3 * dims.len());
    for numbers in [dims, &of_a.strides, &of_b.strides] {
        for &number in numbers {
            table.push(count("positions of an axis", number)?);
        }
    }
    // A scalar's table would be empty, and a device cannot allocate empty memory.
    table.push(0);
    let axes = count("axes", dims.len())?;
    let table = state::of(device)?.table(device, table)?;
    with_element!(NAME, a.storage, T => {
        let mut y = unwritten::<T>(device, n)?;
        let (a, b) = (a.view::<T>()?, b.view::<T>()?);
        let function = device_function::<T>(device, Source::Rearrange, "mul")?;
        // SAFETY: y has n elements, and the strides are those of a and b, which are contiguous.
        unsafe { launch!(function, over_threads(n), &n, &axes, &*table, &a, &b, &mut y) }
        Ok(stored(y, device, dims))
    })
}
