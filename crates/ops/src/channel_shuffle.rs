//! Shuffles the channels of grouped convolutions.

use candle_core::{Result, Tensor, bail};
use candle_vision_kernels::rearrange::Places;

use crate::rearrange::along;

/// Takes the channels of `groups` equal groups in turn, as `torch.nn.ChannelShuffle` does: the first of each
/// group, then the second of each, and so on (Zhang et al. 2017, <https://arxiv.org/abs/1707.01083>, figure 1).
///
/// Shuffling with `channels / groups` groups undoes it. As reshape, permutation and reshape it would move pairs
/// of elements one by one; here every pixel is one row.
///
/// # Shapes
/// - `x`: `[.., channels]`, of any float type
/// - returns a tensor as `x`
///
/// # Errors
/// If the channels cannot be split into `groups` equal groups, or `x` is a scalar.
///
/// # Example
/// ```
/// use candle_core::{Device, Tensor};
/// use candle_vision_ops::channel_shuffle;
///
/// let x = Tensor::new(&[1f32, 2.0, 3.0, 10.0, 20.0, 30.0], &Device::Cpu)?;
/// let y = channel_shuffle(&x, 2)?;
/// assert_eq!(y.to_vec1::<f32>()?, [1.0, 10.0, 2.0, 20.0, 3.0, 30.0]);
/// assert_eq!(channel_shuffle(&y, 3)?.to_vec1::<f32>()?, x.to_vec1::<f32>()?);
/// # candle_core::Result::Ok(())
/// ```
pub fn channel_shuffle(x: &Tensor, groups: usize) -> Result<Tensor> {
    let Some(&channels) = x.dims().last() else { bail!("{NAME}: a scalar has no channels") };
    if groups == 0 || !channels.is_multiple_of(groups) {
        bail!("{NAME}: {channels} channels cannot be split into {groups} groups")
    }
    along(NAME, x, [(x.rank() - 1, Places::shuffled(channels, groups))], 0.0)
}

const NAME: &str = "channel_shuffle";
