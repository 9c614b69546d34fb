//! Cross entropy of rows of logits in `f32`.

use candle_core::{CudaStorage, Result, Shape};

use super::array::{Array, stored, unwritten};
use super::function::{ONE_BLOCK, Source, device_function, launch, over_rows};

/// The weight of each class in the loss, `[rows, classes]`, by the definition of this crate's
/// `cross_entropy`. A row with a label that is not a class becomes NaN. The host does not check the labels.
pub(crate) fn label_targets(
    labels: Array<'_>,
    weights: Option<Array<'_>>,
    classes: usize,
    smoothing: f64,
) -> Result<(CudaStorage, Shape)> {
    let (device, rows) = (labels.device(), labels.len());
    let mut targets = unwritten::<f32>(device, rows * classes)?;
    let labels = labels.view::<u32>()?;
    let weights = weights.map(|weights| weights.view::<f32>()).transpose()?;
    let function = device_function::<f32>(device, Source::Softmax, "label_targets")?;
    let (config, smoothing) = (over_rows(rows), smoothing as f32);
    let (row_count, class_count) = (rows as u32, classes as u32);
    // SAFETY: there is a label for each row, a weight for each class and a target for each of both.
    unsafe {
        launch!(
            function,
            config,
            &row_count,
            &class_count,
            &labels,
            &weights,
            &smoothing,
            &mut targets
        )
    }
    Ok(stored(targets, device, (rows, classes)))
}

/// `-sum(targets * log_softmax(logits))`, a scalar.
pub(crate) fn cross_entropy(logits: Array<'_>, targets: Array<'_>) -> Result<(CudaStorage, Shape)> {
    let (device, columns) = (logits.device(), logits.channels() as u32);
    let rows = logits.len() / logits.channels();
    let mut losses = unwritten::<f32>(device, rows)?;
    let mut loss = unwritten::<f32>(device, 1)?;
    let (logits, targets) = (logits.view::<f32>()?, targets.view::<f32>()?);
    let function = device_function::<f32>(device, Source::Softmax, "cross_entropy")?;
    let (config, rows) = (over_rows(rows), rows as u32);
    // SAFETY: logits and targets have rows * columns elements, losses one for each row.
    unsafe { launch!(function, config, &rows, &columns, &logits, &targets, &mut losses) }
    let function = device_function::<f32>(device, Source::Softmax, "sum")?;
    // SAFETY: losses has one element for each row, loss one.
    unsafe { launch!(function, ONE_BLOCK, &rows, &losses, &mut loss) }
    Ok(stored(loss, device, ()))
}

/// The gradient of the logits, from that of the loss.
pub(crate) fn cross_entropy_gradient(
    logits: Array<'_>,
    targets: Array<'_>,
    grad: Array<'_>,
) -> Result<(CudaStorage, Shape)> {
    let (device, columns) = (logits.device(), logits.channels() as u32);
    let rows = logits.len() / logits.channels();
    let mut dx = unwritten::<f32>(device, logits.len())?;
    let (x, targets, grad) = (logits.view::<f32>()?, targets.view::<f32>()?, grad.view::<f32>()?);
    let function = device_function::<f32>(device, Source::Softmax, "cross_entropy_gradient")?;
    let (config, rows) = (over_rows(rows), rows as u32);
    // SAFETY: logits, targets and dx have rows * columns elements, grad one.
    unsafe { launch!(function, config, &rows, &columns, &x, &targets, &grad, &mut dx) }
    Ok(stored(dx, device, logits.dims()))
}
