//! Norms of gradients, parameter by parameter, in the first step of each epoch.

use std::io;
use std::path::Path;

use candle_core::backprop::GradStore;
use candle_vision_models::Parameter;
use candle_vision_ops::sum_of_squares;
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// The norm of a parameter's gradient in one step, before gradients are clipped.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct GradientNorm {
    /// Path of the parameter.
    pub parameter: String,
    /// Shape of the parameter. A convolution's kernel has four sizes.
    pub shape: Vec<usize>,
    /// Square root of the sum of squares.
    pub norm: f64,
}

/// The norms of the gradients of one step, with [`TrainerConfig::gradient_norms`](crate::TrainerConfig).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct GradientRecord {
    /// Epoch, from 1.
    pub epoch: usize,
    /// Number of the step in the whole run, from 1.
    pub step: usize,
    /// The parameters that learn, in the order of the network. One whose norm is not finite is missing.
    pub norms: Vec<GradientNorm>,
}

impl GradientNorm {
    /// The norm of the gradient of the parameter at a path.
    pub fn new(parameter: impl Into<String>, shape: &[usize], norm: f64) -> Self {
        Self { parameter: parameter.into(), shape: shape.to_vec(), norm }
    }
}

impl GradientRecord {
    /// A step without norms.
    pub fn new(epoch: usize, step: usize) -> Self {
        Self { epoch, step, norms: Vec::new() }
    }

    /// The norms of convolutions' kernels, in the order of the network: the gradient by depth.
    pub fn of_kernels(&self) -> impl Iterator<Item = &GradientNorm> {
        self.norms.iter().filter(|norm| norm.shape.len() == 4)
    }
}

/// The norms of gradients that are `scale` times what they would be.
pub(crate) fn norms_of(
    learning: &[Parameter],
    gradients: &GradStore,
    scale: f64,
) -> Result<Vec<GradientNorm>> {
    let mut norms = Vec::new();
    for parameter in learning {
        let Some(gradient) = gradients.get(parameter.var()) else { continue };
        let norm = sum_of_squares(gradient)?.sqrt() / scale;
        // A table has no word for it, and the run ends of itself if it matters.
        if norm.is_finite() {
            norms.push(GradientNorm::new(parameter.path(), parameter.var().dims(), norm));
        }
    }
    Ok(norms)
}

const HEADER: &str = "epoch,step,parameter,shape,norm";

/// The records as a table: one row for each step and parameter.
pub(crate) fn gradients_csv(records: &[GradientRecord]) -> String {
    let mut text = format!("{HEADER}\n");
    for GradientRecord { epoch, step, norms } in records {
        for GradientNorm { parameter, shape, norm } in norms {
            let parameter = parameter.replace([',', '\n', '\r', '"'], " ");
            let shape: Vec<String> = shape.iter().map(ToString::to_string).collect();
            text += &format!("{epoch},{step},{parameter},{},{norm:e}\n", shape.join("x"));
        }
    }
    text
}

/// Reads the table. A missing one counts as empty.
pub(crate) fn read_gradients(path: &Path) -> Result<Vec<GradientRecord>> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::io("read", path)(error)),
    };
    let mut records: Vec<GradientRecord> = Vec::new();
    for (number, line) in text.lines().enumerate().skip(1) {
        let (epoch, step, norm) = row(line)
            .ok_or_else(|| Error::DamagedTable { path: path.to_path_buf(), line: number + 1 })?;
        if records.last().is_none_or(|last| last.step != step) {
            records.push(GradientRecord::new(epoch, step));
        }
        records.last_mut().expect("one was just added").norms.push(norm);
    }
    Ok(records)
}

fn row(line: &str) -> Option<(usize, usize, GradientNorm)> {
    let [epoch, step, parameter, shape, norm]: [&str; 5] =
        line.split(',').collect::<Vec<_>>().try_into().ok()?;
    // A scalar has no sizes.
    let sizes = shape.split('x').filter(|size| !size.is_empty());
    let shape: Vec<usize> = sizes.map(|size| size.parse().ok()).collect::<Option<_>>()?;
    let norm = norm.parse().ok()?;
    Some((epoch.parse().ok()?, step.parse().ok()?, GradientNorm::new(parameter, &shape, norm)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records() -> Vec<GradientRecord> {
        let of = |epoch, step, norm| GradientRecord {
            norms: vec![
                GradientNorm::new("conv1.weight", &[8, 3, 3, 3], norm),
                GradientNorm::new("scale", &[], 0.25),
            ],
            ..GradientRecord::new(epoch, step)
        };
        vec![of(1, 1, 1e-7), of(2, 5, 0.1)]
    }

    #[test]
    fn what_was_written_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gradients.csv");
        assert_eq!(read_gradients(&path).unwrap(), []);
        let text = gradients_csv(&records());
        assert_eq!(text.lines().nth(1), Some("1,1,conv1.weight,8x3x3x3,1e-7"));
        std::fs::write(&path, text).unwrap();
        assert_eq!(read_gradients(&path).unwrap(), records());
        assert_eq!(records()[0].of_kernels().count(), 1);
    }

    #[test]
    fn a_damaged_row_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gradients.csv");
        for row in ["1,1,a,2x2", "1,x,a,2,0.5", "1,1,a,2y2,0.5", "1,1,a,2,big", ""] {
            std::fs::write(&path, format!("{HEADER}\n1,1,a,2,0.5\n{row}\n")).unwrap();
            let error = read_gradients(&path).unwrap_err().to_string();
            assert!(error.contains("gradients.csv` line 3"), "{error}");
        }
    }
}
