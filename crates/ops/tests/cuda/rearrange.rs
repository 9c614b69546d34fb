//! Elements moved and added up, and products, as on the CPU.

use candle_vision_ops::{
    Activation, PadConfig, PadMode, cat, channel_shuffle, matmul, mean, mul, pad, permute, reshape,
    slice, sum, transpose,
};

use crate::twins::{WITH_RELU, check, check_in, map};

#[test]
fn padding_is_the_cpus() {
    for dims in [[2, 3, 4, 3], [1, 5, 4, 8], [2, 1, 1, 1]] {
        for mode in
            [PadMode::Constant(0.5), PadMode::Replicate, PadMode::Reflect, PadMode::Circular]
        {
            let most = dims[1].min(dims[2]) - usize::from(mode == PadMode::Reflect);
            let config = PadConfig::new([most.min(2), 0, most.min(1), most.min(3)]).mode(mode);
            check(&format!("{config:?} of {dims:?}"), &[map("x", &dims)], |x| pad(&x[0], &config));
        }
    }
}

#[test]
fn parts_and_orders_are_the_cpus() {
    let inputs = [map("x", &[2, 3, 4, 6]), map("y", &[2, 3, 1, 6])];
    check("cat", &inputs, |x| cat(x, 2));
    check("shuffle", &inputs[..1], |x| channel_shuffle(&x[0], 3));
    check("slice", &inputs[..1], |x| slice(&x[0], 3, 1..4));
    check("slice of rows", &inputs[..1], |x| slice(&x[0], 0, 1..2));
    for order in [[0, 3, 1, 2], [3, 2, 1, 0], [0, 2, 1, 3]] {
        check(&format!("{order:?}"), &inputs[..1], |x| permute(&x[0], &order));
    }
    check("transpose and reshape", &inputs[..1], |x| {
        transpose(&reshape(&transpose(&x[0], 1, 2)?, (8, 18))?, 0, 1)
    });
}

#[test]
fn means_are_the_cpus() {
    for dims in [vec![2, 5, 4, 6], vec![70, 3], vec![300], vec![1, 1]] {
        let all: Vec<usize> = (0..dims.len()).collect();
        let axes = [&all[..], &all[..1], &all[1..], &all[dims.len() - 1..], &all[..dims.len() - 1]];
        for axes in axes.iter().filter(|axes| !axes.is_empty()) {
            check(&format!("mean of {dims:?} over {axes:?}"), &[map("x", &dims)], |x| {
                mean(&x[0], axes, true)
            });
            check(&format!("sum of {dims:?} over {axes:?}"), &[map("x", &dims)], |x| {
                sum(&x[0], axes, false)
            });
        }
    }
}

#[test]
fn products_are_the_cpus() {
    let maps = [2, 3, 4, 6];
    for factor in [&maps[..], &[6], &[2, 1, 1, 6], &[2, 3, 4, 1], &[1]] {
        check(&format!("mul by {factor:?}"), &[map("x", &maps), map("y", factor)], |x| {
            mul(&x[0], &x[1])
        });
    }
    let shapes: [(&[usize], &[usize]); 6] = [
        (&[3, 4], &[4, 5]),
        (&[1, 1], &[1, 1]),
        (&[2, 3, 4], &[2, 4, 5]),
        (&[2, 3, 4], &[4, 5]),
        (&[3, 4], &[2, 4, 5]),
        (&[2, 1, 2, 4], &[3, 4, 2]),
    ];
    for (x, y) in shapes {
        check(&format!("matmul {x:?} {y:?}"), &[map("x", x), map("y", y)], |x| {
            matmul(&x[0], &x[1])
        });
    }
}

#[test]
fn every_activation_is_the_cpus() {
    let others = [Activation::LeakyRelu { slope: 0.3 }, Activation::Elu { alpha: 0.5 }];
    let named = Activation::NAMES.into_iter().filter_map(Activation::from_name);
    for activation in named.chain(others).filter(|activation| *activation != Activation::Identity) {
        check_in(&format!("{activation:?}"), &WITH_RELU, &[map("x", &[3, 70])], |x| {
            activation.apply(&x[0])
        });
    }
}
