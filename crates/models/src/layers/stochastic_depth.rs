//! Stochastic depth: branches that are left out at random.

use candle_core::{Result, Tensor, bail};
use candle_vision_ops::drop_rows;

use crate::{ParameterBuilder, Pass};

/// `torchvision.ops.StochasticDepth` in its mode `row`, also called drop path (Huang et al. 2016,
/// <https://arxiv.org/abs/1603.09382>): in a training pass, each image's branch is left out with a
/// probability, and the others are scaled up by `1 / (1 - probability)`; otherwise nothing is done.
///
/// The generator of the pass draws one number for each row.
///
/// ```
/// use candle_vision_models::candle_core::{DType, Device, Tensor};
/// use candle_vision_models::layers::StochasticDepth;
/// use candle_vision_models::{Parameters, Pass};
///
/// let vb = Parameters::new().builder(0, DType::F32, &Device::Cpu);
/// let layer = StochasticDepth::new(0.5, vb.pp("stochastic_depth"))?;
/// let x = Tensor::ones((8, 2, 2, 3), DType::F32, &Device::Cpu)?;
/// for row in layer.forward(&x, &mut Pass::train(1))?.flatten_from(1)?.to_vec2::<f32>()? {
///     assert!(row == [0.0; 12] || row == [2.0; 12]);
/// }
/// # candle_vision_models::candle_core::Result::Ok(())
/// ```
#[derive(Debug, Clone)]
pub struct StochasticDepth {
    path: String,
    probability: f64,
}

impl StochasticDepth {
    /// Leaves out each image's branch with `probability`, a fraction in `0.0..1.0`. The layer has no
    /// parameters; hooks see it at the path of `vb`.
    ///
    /// # Errors
    /// If `probability` is not in its range.
    pub fn new(probability: f64, vb: ParameterBuilder) -> Result<Self> {
        if !(0.0..1.0).contains(&probability) {
            bail!("`{}`: the probability is a fraction in 0..1, got {probability}", vb.path())
        }
        Ok(Self { path: vb.path().to_owned(), probability })
    }

    /// A tensor of the shape of `x`, `[batch, ..]`: what the branch has computed, before it is added to the
    /// shortcut.
    ///
    /// # Errors
    /// If `x` does not hold floats, or what a hook returns.
    pub fn forward(&self, x: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        let x = pass.input(&self.path, x)?;
        let y =
            if self.drops(pass) { drop_rows(&x, self.probability, pass.generator())? } else { x };
        pass.output(&self.path, y)
    }

    fn drops(&self, pass: &Pass<'_>) -> bool {
        pass.is_train() && self.probability > 0.0
    }

    /// Whether this pass needs the layer by itself: it leaves branches out, or a hook looks at it. If not, the layer
    /// before it may be fused with the sum behind it.
    pub(crate) fn stands_alone(&self, pass: &Pass<'_>) -> bool {
        self.drops(pass) || pass.wants(&self.path)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};
    use candle_vision_ops::{add, is_direct};

    use super::*;
    use crate::Parameters;
    use crate::layers::{Conv2d, Conv2dOptions};

    fn ones(batch: usize) -> Tensor {
        Tensor::ones((batch, 1, 1, 2), DType::F32, &Device::Cpu).unwrap()
    }

    #[test]
    fn rows_are_dropped_whole_by_the_seed_and_keep_their_mean() {
        let vb = Parameters::new().builder(0, DType::F32, &Device::Cpu);
        let layer = StochasticDepth::new(0.2, vb.pp("drop")).unwrap();
        let draw = |pass: &mut Pass<'_>| {
            let y = layer.forward(&ones(4000), pass).unwrap();
            y.flatten_from(1).unwrap().to_vec2::<f32>().unwrap()
        };
        let rows = draw(&mut Pass::train(3));
        assert_eq!(rows, draw(&mut Pass::train(3)));
        assert_ne!(rows, draw(&mut Pass::train(4)));
        assert!(rows.iter().all(|row| row == &[0.0, 0.0] || row == &[1.25, 1.25]));
        // The mean of 4000 draws has a standard deviation of 0.008.
        let mean = rows.iter().map(|row| row[0]).sum::<f32>() / 4000.0;
        assert!((mean - 1.0).abs() < 0.03, "{mean}");
        assert!(draw(&mut Pass::eval()).iter().all(|row| row == &[1.0, 1.0]));
        assert!(StochasticDepth::new(1.0, vb.pp("all")).is_err());
    }

    #[test]
    fn backward_keeps_to_its_fast_path() {
        let vb = Parameters::new().builder(0, DType::F32, &Device::Cpu);
        let conv = Conv2d::new(Conv2dOptions::new(2, 2, 1), vb.pp("conv")).unwrap();
        let layer = StochasticDepth::new(0.5, vb.pp("drop")).unwrap();
        let pass = &mut Pass::train(0);
        let branch = layer.forward(&conv.forward(&ones(4), pass).unwrap(), pass).unwrap();
        assert!(is_direct(&add(&ones(4), &branch).unwrap()));
    }
}
