//! Padding, slices, concatenation, permutations, reshaping and means.

use candle_core::{DType, Device, Result, Tensor, Var};
use candle_vision_ops::{
    PadConfig, PadMode, add, backward, backward_from, cat, channel_shuffle, matmul, mean, mul, pad,
    permute, relu, reshape, slice, split, transpose, why_not_direct,
};

use crate::places::devices;
use crate::reference::assert_close;
use crate::support::{check_error, check_gradients, check_threads, random};

const MODES: [PadMode; 4] =
    [PadMode::Reflect, PadMode::Replicate, PadMode::Circular, PadMode::Constant(-0.5)];

fn values(x: &Tensor) -> Vec<f64> {
    x.to_dtype(DType::F64).and_then(|x| x.flatten_all()?.to_vec1()).expect("numbers")
}

#[test]
fn padding_is_pytorchs() -> Result<()> {
    // x = torch.arange(12.).reshape(1, 1, 3, 4).requires_grad_()
    // y = F.pad(x, (2, 1, 1, 2), mode=mode)
    // dx, = torch.autograd.grad((y * torch.arange(42.).reshape(y.shape)).sum(), x)
    let expected: [(PadMode, [f64; 42], [f64; 12]); 3] = [
        (
            PadMode::Reflect,
            [
                6., 5., 4., 5., 6., 7., 6., 2., 1., 0., 1., 2., 3., 2., 6., 5., 4., 5., 6., 7., 6.,
                10., 9., 8., 9., 10., 11., 10., 6., 5., 4., 5., 6., 7., 6., 2., 1., 0., 1., 2., 3.,
                2.,
            ],
            [46., 92., 146., 52., 48., 96., 156., 57., 23., 46., 73., 26.],
        ),
        (
            PadMode::Replicate,
            [
                0., 0., 0., 1., 2., 3., 3., 0., 0., 0., 1., 2., 3., 3., 4., 4., 4., 5., 6., 7., 7.,
                8., 8., 8., 9., 10., 11., 11., 8., 8., 8., 9., 10., 11., 11., 8., 8., 8., 9., 10.,
                11., 11.,
            ],
            [27., 13., 15., 36., 45., 17., 18., 39., 261., 93., 96., 201.],
        ),
        (
            PadMode::Circular,
            [
                10., 11., 8., 9., 10., 11., 8., 2., 3., 0., 1., 2., 3., 0., 6., 7., 4., 5., 6., 7.,
                4., 10., 11., 8., 9., 10., 11., 8., 2., 3., 0., 1., 2., 3., 0., 6., 7., 4., 5., 6.,
                7., 4.,
            ],
            [86., 41., 78., 82., 114., 55., 106., 110., 58., 27., 50., 54.],
        ),
    ];
    for device in devices() {
        let x = Tensor::arange(0f32, 12.0, &device)?.reshape((1, 3, 4, 1))?;
        let x = Var::from_tensor(&x)?;
        let weights = Tensor::arange(0f32, 42.0, &device)?.reshape((1, 6, 7, 1))?;
        for (mode, y, dx) in &expected {
            let found = pad(&x, &PadConfig::new([1, 2, 2, 1]).mode(*mode))?;
            assert_eq!(values(&found), y, "{mode:?}");
            let gradients = backward_from(&found, &weights)?;
            assert_eq!(values(gradients.get(&x).unwrap()), dx, "{mode:?}");
        }
        let config = PadConfig::new([0, 1, 1, 0]).mode(PadMode::Constant(9.0));
        let found = values(&pad(&x, &config)?);
        assert_eq!(found[..6], [9.0, 0.0, 1.0, 2.0, 3.0, 9.0]);
        assert_eq!(found[15..], [9.0; 5]);
    }
    Ok(())
}

#[test]
fn padding_has_the_gradients_of_its_values() {
    for dims in [[2, 3, 4, 3], [1, 1, 1, 1], [2, 5, 2, 1]] {
        let x = [random("pad", &dims)];
        for mode in MODES {
            let most = match mode {
                PadMode::Reflect => dims[1].min(dims[2]) - 1,
                PadMode::Circular => dims[1].min(dims[2]),
                _ => 3,
            };
            let config = PadConfig::new([most, 0, 0, most]).mode(mode);
            check_gradients(&format!("{config:?} of {dims:?}"), &x, |x| pad(&x[0], &config));
        }
        let strided = [random("strided", &[dims[0], dims[2], dims[1], dims[3]])];
        check_gradients("of a view", &strided, |x| {
            pad(&x[0].transpose(1, 2)?, &PadConfig::all(1).mode(PadMode::Replicate))
        });
    }
}

#[test]
fn parts_put_together_are_the_whole() -> Result<()> {
    for device in devices() {
        let x = random("parts", &[3, 4, 5]).to_dtype(DType::F32)?.to_device(&device)?;
        for (axis, sizes) in [(0, vec![1, 2]), (1, vec![4]), (2, vec![1, 3, 1])] {
            let parts = split(&x, axis, &sizes)?;
            assert_eq!(parts.iter().map(|part| part.dims()[axis]).collect::<Vec<_>>(), sizes);
            assert_eq!(values(&cat(&parts, axis)?), values(&x), "axis {axis}");
        }
        let part = slice(&x, 1, 1..3)?;
        assert_eq!(values(&part), values(&x.narrow(1, 1, 2)?.contiguous()?));
        let view = x.transpose(0, 2)?;
        assert_eq!(values(&slice(&view, 0, 2..5)?), values(&view.narrow(0, 2, 3)?.contiguous()?));
    }
    Ok(())
}

#[test]
fn parts_and_orders_have_the_gradients_of_their_values() {
    let inputs =
        [random("one", &[2, 3, 4]), random("two", &[2, 1, 4]), random("three", &[2, 2, 4])];
    check_gradients("cat", &inputs, |x| cat(x, 1));
    check_gradients("cat of one", &inputs[..1], |x| cat(&x[..1], 2));
    check_gradients("cat twice", &inputs[..1], |x| cat(&[&x[0], &x[0]], 0));
    check_gradients("cat of four", &[&inputs[..], &inputs[..1]].concat(), |x| cat(x, 1));
    check_gradients("cat of two", &inputs[..2], |x| cat(x, 1));
    check_gradients("shuffle", &inputs[..1], |x| channel_shuffle(&x[0], 2));
    check_gradients("shuffle of a row", &[random("row", &[12])], |x| channel_shuffle(&x[0], 3));
    check_gradients("slice", &inputs[..1], |x| slice(&x[0], 2, 1..3));
    check_gradients("slice of one", &inputs[1..2], |x| slice(&x[0], 1, 0..1));
    check_gradients("slice of a view", &inputs[..1], |x| slice(&x[0].transpose(0, 2)?, 0, 1..4));
    for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0], [0, 2, 1]] {
        check_gradients(&format!("{order:?}"), &inputs[..1], |x| permute(&x[0], &order));
    }
    check_gradients("transpose", &inputs[..1], |x| transpose(&x[0], 0, 2));
    check_gradients("reshape", &inputs[..1], |x| reshape(&x[0], (6, 4)));
    check_gradients("reshape of a view", &inputs[..1], |x| reshape(&x[0].transpose(1, 2)?, 24));
    for axes in
        [vec![0], vec![1], vec![2], vec![0, 1], vec![1, 2], vec![2, 0], vec![0, 1, 2], vec![]]
    {
        for keep in [true, false] {
            check_gradients(&format!("mean {axes:?}"), &inputs[..1], |x| mean(&x[0], &axes, keep));
        }
    }
    check_gradients("mean of one", &[random("scalar", &[1])], |x| mean(&x[0], &[0], false));
}

#[test]
fn permutations_and_means_are_candles() -> Result<()> {
    for device in devices() {
        let x = random("orders", &[2, 3, 5, 7]).to_dtype(DType::F32)?.to_device(&device)?;
        for order in [[0, 2, 3, 1], [3, 0, 1, 2], [0, 1, 3, 2], [1, 0, 2, 3], [0, 1, 2, 3]] {
            let found = permute(&x, &order)?;
            assert!(found.is_contiguous());
            assert_eq!(values(&found), values(&x.permute(order)?.contiguous()?), "{order:?}");
        }
        for axes in [vec![0], vec![3], vec![1, 2], vec![0, 1, 2], vec![1, 2, 3], vec![0, 2]] {
            let expected = x.mean_keepdim(axes.clone())?;
            assert_close(&format!("{axes:?}"), &mean(&x, &axes, true)?, &expected, 1e-6);
            let expected = x.mean(axes.clone())?;
            assert_eq!(mean(&x, &axes, false)?.dims(), expected.dims());
        }
    }
    Ok(())
}

/// As torchvision's `channel_shuffle`: reshape, transpose, reshape.
#[test]
fn a_shuffle_is_a_transposition_of_the_groups() -> Result<()> {
    for device in devices() {
        for (channels, groups) in [(6, 2), (6, 3), (6, 1), (6, 6), (58, 2), (4100, 4)] {
            let x = random("shuffle", &[2, 3, 1, channels]).to_dtype(DType::F32)?;
            let x = x.to_device(&device)?;
            let split = x.reshape((2, 3, 1, groups, channels / groups))?;
            let expected = split.transpose(3, 4)?.contiguous()?;
            let found = channel_shuffle(&x, groups)?;
            assert_eq!(found.dims(), x.dims());
            assert_eq!(values(&found), values(&expected), "{groups} of {channels}");
            assert_eq!(values(&channel_shuffle(&found, channels / groups)?), values(&x));
        }
    }
    let x = Tensor::zeros((1, 6), DType::F32, &Device::Cpu)?;
    check_error(channel_shuffle(&x, 4), &["channel_shuffle", "6 channels", "4 groups"]);
    check_error(channel_shuffle(&x, 0), &["channel_shuffle", "0 groups"]);
    check_error(channel_shuffle(&x.get(0)?.get(0)?, 1), &["channel_shuffle", "scalar"]);
    Ok(())
}

/// One graph with every op here.
fn graph(x: &Tensor, weight: &Tensor, scale: &Tensor) -> Result<Tensor> {
    let x = pad(x, &PadConfig::new([0, 1, 1, 0]).mode(PadMode::Replicate))?;
    let x = mul(&x, scale)?;
    let [batch, height, width, channels] = x.dims4().map(|(b, h, w, c)| [b, h, w, c])?;
    let parts = split(&x, 3, &[1, channels - 1])?;
    let x = channel_shuffle(&cat(&[&parts[1], &parts[0]], 3)?, channels)?;
    let tokens = reshape(&x, (batch, height * width, channels))?;
    let scores = matmul(&tokens, &transpose(&tokens, 1, 2)?)?;
    let tokens = matmul(&scores, &tokens)?;
    let x = relu(&matmul(&tokens, weight)?)?;
    let x = permute(&x, &[0, 2, 1])?;
    let x = reshape(&reshape(&x, (batch, channels * height, width))?, (batch, (), height * width))?;
    let first = slice(&x, 2, 0..1)?;
    let means = mean(&x, &[2], true)?;
    mean(&add(&means, &first)?, &[0, 1, 2], false)
}

#[test]
fn the_way_back_is_direct_and_candles() -> Result<()> {
    for device in devices() {
        let of = |name: &str, dims: &[usize]| {
            Var::from_tensor(&random(name, dims).to_dtype(DType::F32)?.to_device(&device)?)
        };
        let (x, weight, scale) = (of("x", &[2, 3, 4, 5])?, of("w", &[5, 5])?, of("s", &[5])?);
        let y = graph(&x, &weight, &scale)?;
        assert_eq!(why_not_direct(&y), None);
        let (ours, theirs) = (backward(&y)?, y.backward()?);
        for variable in [&x, &weight, &scale] {
            let (found, expected) = (ours.get(variable), theirs.get(variable));
            assert_close("gradient", found.unwrap(), expected.unwrap(), 1e-5);
        }
        // Variables without an op in front of them.
        for y in [
            reshape(&x, 120)?,
            cat(&[x.as_tensor(), x.as_tensor()], 0)?,
            cat(&[x.as_tensor(), &relu(&x)?], 1)?,
        ] {
            assert_eq!(why_not_direct(&y), None);
            let ones = backward(&y)?;
            assert_eq!(ones.get(&x).unwrap().dims(), x.dims());
        }
    }
    let of = |name: &str, dims: &[usize]| random(name, dims);
    let inputs = [of("x", &[2, 2, 3, 2]), of("w", &[2, 2]), of("s", &[2])];
    check_gradients("all of them", &inputs, |x| graph(&x[0], &x[1], &x[2]));
    Ok(())
}

#[test]
fn half_precision_is_rounded_full_precision() -> Result<()> {
    let x = Tensor::new(&[[1.0f32, 2.0], [3.0, 4.5]], &Device::Cpu)?;
    for dtype in [DType::F16, DType::BF16] {
        let half = x.to_dtype(dtype)?;
        assert_eq!(values(&transpose(&half, 0, 1)?), [1.0, 3.0, 2.0, 4.5]);
        assert_eq!(values(&mean(&half, &[0], false)?), [2.0, 3.25]);
        assert_eq!(values(&cat(&[&half, &half], 1)?)[..4], [1.0, 2.0, 1.0, 2.0]);
        assert_eq!(values(&mul(&half, &half)?), [1.0, 4.0, 9.0, 20.25]);
        assert_eq!(values(&matmul(&half, &half)?), [7.0, 11.0, 16.5, 26.25]);
        assert_eq!(slice(&half, 0, 1..2)?.dtype(), dtype);
    }
    Ok(())
}

#[test]
fn threads_do_not_matter() {
    check_threads(|| {
        let x = random("threads", &[3, 37, 41, 43]).to_dtype(DType::F32)?;
        let padded = pad(&x, &PadConfig::new([1, 2, 3, 4]).mode(PadMode::Reflect))?;
        Ok(vec![
            permute(&x, &[3, 1, 0, 2])?,
            mean(&x, &[0, 1, 2], false)?,
            mean(&x, &[1, 2], false)?,
            mean(&x, &[3], false)?,
            slice(&padded, 2, 5..30)?,
        ])
    });
}

#[test]
fn wrong_arguments_are_named() -> Result<()> {
    let x = random("wrong", &[2, 3, 4, 1]);
    let reflect = PadConfig::all(3).mode(PadMode::Reflect);
    check_error(pad(&x, &reflect), &["pad", "Reflect", "at most 2", "height of 3"]);
    check_error(pad(&x.squeeze(3)?, &reflect), &["pad", "[2, 3, 4]"]);
    check_error(pad(&x, &PadConfig::all(usize::MAX / 2)), &["pad", "at most"]);
    check_error(slice(&x, 4, 0..1), &["slice", "axis 4", "[2, 3, 4, 1]"]);
    check_error(slice(&x, 1, 2..4), &["slice", "2..4", "axis 1"]);
    check_error(slice(&x, 1, 2..2), &["slice", "2..2"]);
    check_error(split(&x, 1, &[1, 1]), &["split", "[1, 1]", "axis 1"]);
    check_error(cat::<Tensor>(&[], 0), &["cat", "no tensors"]);
    check_error(cat(&[&x, &random("other", &[2, 3, 5, 1])], 1), &["cat", "tensor 1"]);
    check_error(cat(&[&x, &x.to_dtype(DType::F32)?], 1), &["cat", "F32"]);
    check_error(cat(&[&x], 4), &["cat", "axis 4"]);
    check_error(permute(&x, &[0, 1, 2, 2]), &["permute", "[0, 1, 2, 2]"]);
    check_error(transpose(&x, 0, 4), &["transpose", "4"]);
    check_error(reshape(&x, 25), &["reshape", "[2, 3, 4, 1]"]);
    check_error(reshape(&x, ((), 5)), &["reshape", "[2, 3, 4, 1]"]);
    check_error(mean(&x, &[1, 1], false), &["mean", "[1, 1]"]);
    check_error(mean(&x, &[4], false), &["mean", "[4]"]);
    let empty = Tensor::zeros((0, 3), DType::F32, &Device::Cpu)?;
    check_error(mean(&empty, &[0], false), &["mean", "[0, 3]"]);
    assert_eq!(mean(&empty, &[1], false)?.dims(), [0]);
    assert_eq!(transpose(&empty, 0, 1)?.dims(), [3, 0]);
    assert_eq!(slice(&empty, 1, 1..2)?.dims(), [0, 1]);
    Ok(())
}
