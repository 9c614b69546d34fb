//! Padding of convolutions that differs from side to side, and how a convolution may be computed.

use candle_core::{DType, Device, Result, Tensor};
use candle_vision_ops::{Conv2dConfig, ConvolutionOptions, Padding2d, conv2d};

use crate::places::places;
use crate::reference::{assert_close, signed};

#[test]
fn tensorflows_padding_is_timms() -> Result<()> {
    // x = (torch.arange(60) % 7 - 3.).reshape(1, 2, 5, 6).requires_grad_()
    // c = timm.layers.Conv2dSame(2, 3, 3, stride=2, bias=False)
    // c.weight.data = (torch.arange(54) % 5 - 2.).reshape(3, 2, 3, 3)
    // y = c(x); w = (torch.arange(27) % 5 - 1.).reshape(1, 3, 3, 3)
    // dx, dk = torch.autograd.grad((y * w).sum(), [x, c.weight]); all in channels-last order but dk
    let y = [
        -3, 14, -9, 6, -6, -3, -5, 2, -6, 4, -1, -1, -2, 15, -8, -1, 2, -5, 5, -13, 9, 5, 3, -4,
        -4, 2, -2,
    ];
    let dx = [
        0, -4, -6, 0, 10, -1, -6, 7, -5, -7, 4, -1, 4, 7, -4, 4, -9, -4, 6, -7, 6, -1, 6, 2, 1, -2,
        4, 1, 0, 1, 4, 3, -5, 0, -6, 0, -4, -9, -4, -4, 6, -5, -4, 0, 6, 3, -4, 4, 7, 5, -6, 7, -5,
        -7, 4, -1, 0, 2, 4, 1,
    ];
    let dkernel = [
        -1, -15, -6, -4, 3, -11, 10, 0, 2, -8, -1, 6, -11, -11, -1, 4, -6, -4, -4, -5, -5, -18,
        -10, -11, 12, -15, -7, 1, 14, 6, -9, -1, 4, -7, -6, -4, -2, 10, 11, -17, -8, 9, -1, -15,
        -6, 15, -1, -4, 8, 24, 4, -8, -1, 6,
    ];
    let numbers = |count: u32, modulus: u32, less: f64| {
        let numbers: Vec<f32> =
            (0..count).map(|i| (f64::from(i % modulus) - less) as f32).collect();
        Tensor::from_vec(numbers, count as usize, &Device::Cpu)
    };
    let images =
        |x: Tensor, dims: [usize; 4]| x.reshape(&dims)?.permute([0, 2, 3, 1])?.contiguous();
    let rounded = |x: &Tensor| -> Result<Vec<i64>> {
        let values = x.flatten_all()?.to_vec1::<f32>()?;
        Ok(values.into_iter().map(|value| value as i64).collect())
    };
    for place in places().into_iter().filter(|place| place.dtype == DType::F32) {
        let x = place.var(&images(numbers(60, 7, 3.0)?, [1, 2, 5, 6])?)?;
        let kernel = place.var(&numbers(54, 5, 2.0)?.reshape((3, 2, 3, 3))?)?;
        let config = Conv2dConfig::default().stride(2).padding(Padding2d::SameTf);
        let found = conv2d(&x, &kernel, None, &config)?;
        let weights = images(numbers(27, 5, 1.0)?, [1, 3, 3, 3])?.to_device(&place.device)?;
        let gradients = candle_vision_ops::backward_from(&found, &weights)?;
        assert_eq!(rounded(&found)?, y);
        assert_eq!(rounded(gradients.get(&x).unwrap())?, dx);
        assert_eq!(rounded(gradients.get(&kernel).unwrap())?, dkernel);
    }
    // F.conv2d(torch.arange(12.).reshape(1, 1, 3, 4), torch.arange(8.).reshape(1, 1, 2, 4), padding="same")
    let x = Tensor::arange(0f32, 12.0, &Device::Cpu)?.reshape((1, 3, 4, 1))?;
    let kernel = Tensor::arange(0f32, 8.0, &Device::Cpu)?.reshape((1, 1, 2, 4))?;
    let config = Conv2dConfig::default().padding(Padding2d::Same);
    let same = rounded(&conv2d(&x, &kernel, None, &config)?)?;
    assert_eq!(same, [100, 140, 100, 62, 196, 252, 172, 102, 56, 62, 32, 11]);
    Ok(())
}

#[test]
fn options_of_one_convolution_are_its_own() -> Result<()> {
    let (x, kernel) = (signed("x", &[1, 12, 12, 32])?, signed("kernel", &[32, 32, 3, 3])?);
    let config = Conv2dConfig::default().padding(1);
    let exact = config.options(ConvolutionOptions::default().exact(true));
    let fast = config.options(ConvolutionOptions::default().exact(false));
    let of = |config: &Conv2dConfig| conv2d(&x, &kernel, None, config);
    let bits = |y: &Tensor| y.flatten_all()?.to_vec1::<f32>();
    assert_ne!(bits(&of(&exact)?)?, bits(&of(&fast)?)?, "Winograd's kernels round otherwise");
    assert_eq!(bits(&of(&config)?)?, bits(&of(&fast)?)?, "the default of the process");
    assert_close("both", &of(&exact)?, &of(&fast)?, 1e-5);
    Ok(())
}
