//! The number type in which a pass computes.

use std::fmt;
use std::str::FromStr;

use candle_core::{DType, Error};
use serde::{Deserialize, Serialize};

/// The number type in which a pass keeps feature maps and computes products.
///
/// The parameters stay in `f32`. With a half type they are rounded to that type when they enter a product, as
/// in PyTorch's autocast:
///
/// | in the half type | stays in `f32` |
/// |---|---|
/// | feature maps and their gradients | parameters, and the gradients that an optimizer gets |
/// | convolutions, linear layers: inputs, copies of weights and biases, outputs | sums inside them |
/// | activations, pooling, dropout, residual sums | batch norm: scale, shift, statistics and arithmetic |
/// | | logits, softmax, cross entropy and every other loss |
/// | | optimizers and their state |
///
/// Layers that were prepared for evaluation ([`PreparedLayers`](crate::PreparedLayers)) exist only in `f32`. A
/// pass in a half type uses the plain layers.
///
/// On a CPU, a half type is computed in `f32` and rounded after each layer. The values are right, but it is
/// slower than `f32`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// The parameters' own number type. Nothing is cast.
    #[default]
    F32,
    /// `bf16`: the range of `f32` with 8 bits of precision. It overflows only where `f32` would.
    Bf16,
    /// `f16`: 11 bits of precision. The largest value is 65504. Small gradients become 0 unless the loss is
    /// scaled up.
    F16,
}

impl Precision {
    /// All precisions.
    pub const ALL: [Self; 3] = [Self::F32, Self::Bf16, Self::F16];

    /// The name: `f32`, `bf16` or `f16`.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::F16 => "f16",
        }
    }

    /// The half type in which products are computed. `None` for the parameters' own number type.
    pub fn half(self) -> Option<DType> {
        match self {
            Self::F32 => None,
            Self::Bf16 => Some(DType::BF16),
            Self::F16 => Some(DType::F16),
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Precision {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        let named = Self::ALL.into_iter().find(|precision| precision.name() == name);
        named.ok_or_else(|| Error::msg(format!("`{name}` is no precision; use f32, bf16 or f16")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_written_alike() {
        for precision in Precision::ALL {
            assert_eq!(precision.name().parse::<Precision>().unwrap(), precision);
            let json = serde_json::to_string(&precision).unwrap();
            assert_eq!(json, format!("\"{precision}\""));
            assert_eq!(serde_json::from_str::<Precision>(&json).unwrap(), precision);
        }
        let error = "fp16".parse::<Precision>().unwrap_err().to_string();
        // Behind it candle puts a backtrace where one is asked for.
        assert_eq!(error.lines().next(), Some("`fp16` is no precision; use f32, bf16 or f16"));
    }
}
