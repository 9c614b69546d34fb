//! Tensors of more elements than 32 bits count, as views of one number: nothing of them is allocated.

use candle_core::{DType, Device, Result, Tensor};
use candle_vision_ops::{
    Activation, BatchNormParameters, Conv2dConfig, Generator, InterpolateMode, MaxPool2dConfig,
    adaptive_avg_pool2d, add, batch_norm_train, cast, channels_first, conv2d, dropout, flatten,
    interpolate, layer_norm, linear, max_pool2d, relu, scale, softmax,
};
use rand_chacha::rand_core::SeedableRng;

use crate::twins::cuda;

/// 240 images of 2000x2000.
const DIMS: [usize; 4] = [240, 2000, 2000, 3];

#[test]
fn every_op_names_a_tensor_that_cannot_be_put_in_order() -> Result<()> {
    type Op = fn(&Tensor, &Tensor) -> Result<Tensor>;
    let ops: [(&str, Op); 16] = [
        ("conv2d", |x, _| {
            let kernel = Tensor::ones((2, 3, 3, 3), DType::F32, x.device())?;
            conv2d(x, &kernel, None, &Conv2dConfig::default())
        }),
        ("linear", |x, _| linear(x, &Tensor::ones((2, 3), DType::F32, x.device())?, None)),
        ("batch_norm", |x, one| {
            let norm = BatchNormParameters::new(one, one, 1e-5);
            Ok(batch_norm_train(x, &norm, None, Activation::Relu)?.0)
        }),
        ("layer_norm", |x, one| layer_norm(x, one, one, 1e-5)),
        ("max_pool2d", |x, _| max_pool2d(x, &MaxPool2dConfig::new(2))),
        ("adaptive_avg_pool2d", |x, _| adaptive_avg_pool2d(x, [1, 1])),
        ("interpolate", |x, _| interpolate(x, [7, 7], InterpolateMode::Nearest)),
        ("relu", |x, _| relu(x)),
        ("softmax", |x, _| softmax(x)),
        ("dropout", |x, _| dropout(x, 0.5, &mut Generator::seed_from_u64(1))),
        ("add", |x, _| add(x, x)),
        ("scale", |x, _| scale(x, 2.0)),
        ("cast", |x, _| cast(x, DType::BF16)),
        ("channels_first", |x, _| channels_first(x)),
        ("flatten", |x, _| flatten(x)),
        ("silu", |x, _| candle_vision_ops::silu(x)),
    ];
    let Some(cuda) = cuda() else { return Ok(()) };
    let view = |device: &Device| Tensor::ones(1, DType::F32, device)?.broadcast_as(&DIMS);
    let (x, ones) = (view(&cuda.device)?, Tensor::ones(3, DType::F32, &cuda.device)?);
    for (name, op) in ops {
        let error = op(&x, &ones).expect_err(name).to_string();
        let parts = [name, "[240, 2000, 2000, 3]", "2880000000 elements", "use a smaller batch"];
        for part in parts {
            assert!(error.contains(part), "{name}: {error}");
        }
    }
    Ok(())
}
