//! The factor of the loss that keeps `f16` gradients from vanishing.

use serde::{Deserialize, Serialize};

/// Smallest useful scale. At that scale, non-finite values are not caused by overflow.
const SMALLEST: f64 = 1e-4;

/// The factor of the loss that keeps `f16` gradients from vanishing. It follows the rules and values of
/// PyTorch's `GradScaler`: it is found by trial and is as large as the gradients allow.
///
/// All its values are powers of two, so scaling and unscaling cause no rounding.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct LossScale {
    scale: f64,
    /// Number of steps in a row with finite gradients at this scale.
    good_steps: u32,
}

impl Default for LossScale {
    fn default() -> Self {
        Self { scale: 65536.0, good_steps: 0 }
    }
}

impl LossScale {
    /// Number of such steps in a row after which a larger scale is tried.
    const GROWTH_INTERVAL: u32 = 2000;

    /// What a first scale must be.
    pub(crate) const POSSIBLE: &str = "a power of two from 1 to 2^127, such as 65536";

    /// Whether `scale` may be a first scale.
    pub(crate) fn is_possible(scale: f64) -> bool {
        (0..128).any(|exponent| scale == 2f64.powi(exponent))
    }

    /// Begins with `scale`.
    pub(crate) fn of(scale: f64) -> Self {
        Self { scale, good_steps: 0 }
    }

    /// The factor that the loss is multiplied by and the gradients are divided by.
    pub(crate) fn factor(&self) -> f64 {
        self.scale
    }

    /// Updates the scale by whether the gradients were finite.
    pub(crate) fn update(&mut self, finite: bool) {
        if !finite {
            *self = Self { scale: self.scale * 0.5, good_steps: 0 };
            return;
        }
        self.good_steps += 1;
        if self.good_steps == Self::GROWTH_INTERVAL {
            let doubled = self.scale * 2.0;
            // The loss is scaled in `f32`, so the scale must fit it.
            let scale = if doubled <= f64::from(f32::MAX) { doubled } else { self.scale };
            *self = Self { scale, good_steps: 0 };
        }
    }

    /// Whether the scale is so small that reducing it further would not help.
    pub(crate) fn is_exhausted(&self) -> bool {
        self.scale < SMALLEST
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_halves_at_once_and_doubles_after_many_good_steps() {
        let mut scale = LossScale::default();
        scale.update(false);
        assert_eq!(scale.factor(), 32768.0);
        for _ in 0..1999 {
            scale.update(true);
        }
        assert_eq!(scale.factor(), 32768.0);
        scale.update(true);
        assert_eq!(scale.factor(), 65536.0);
        // A bad step begins the count anew.
        (0..1999).for_each(|_| scale.update(true));
        scale.update(false);
        (0..1999).for_each(|_| scale.update(true));
        assert_eq!(scale.factor(), 32768.0);
    }

    #[test]
    fn it_does_not_leave_the_range_of_f32() {
        let mut scale = LossScale { scale: 2f64.powi(127), good_steps: 1999 };
        scale.update(true);
        assert_eq!(scale, LossScale { scale: 2f64.powi(127), good_steps: 0 });
        assert!(!scale.is_exhausted());
        (0..141).for_each(|_| scale.update(false));
        assert!(scale.is_exhausted());
    }

    #[test]
    fn it_is_saved_exactly() {
        let scale = LossScale { scale: 2f64.powi(-9), good_steps: 17 };
        let json = serde_json::to_string(&scale).unwrap();
        assert_eq!(serde_json::from_str::<LossScale>(&json).unwrap(), scale);
    }
}
