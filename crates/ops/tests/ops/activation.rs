//! Activation functions against PyTorch and finite differences.

use crate::places::devices;
use crate::reference;
use crate::support::{check_error, check_gradients, check_threads, random};
use candle_core::{Device, Result, Tensor, Var};
use candle_vision_ops as ops;

type Function = fn(&Tensor) -> Result<Tensor>;

const FUNCTIONS: [(&str, Function); 7] = [
    ("relu", ops::relu),
    ("relu6", ops::relu6),
    ("sigmoid", ops::sigmoid),
    ("silu", ops::silu),
    ("gelu", ops::gelu),
    ("hardswish", ops::hardswish),
    ("hardsigmoid", ops::hardsigmoid),
];

/// Those that have no values in the reference file.
const OTHERS: [(&str, Function); 5] = [
    ("leaky_relu", |x| ops::leaky_relu(x, 0.2)),
    ("elu", |x| ops::elu(x, 1.5)),
    ("tanh", ops::tanh),
    ("softplus", ops::softplus),
    ("mish", ops::mish),
];

/// `image_batch * 3` with the kinks in front.
fn input(name: &str) -> Result<Tensor> {
    let x = reference::image_batch(&format!("{name}.x"), &[4, 50])?.affine(3.0, 0.0)?;
    let mut values = x.flatten_all()?.to_vec1::<f32>()?;
    values[..5].copy_from_slice(&[0.0, 6.0, 3.0, -3.0, -0.0]);
    Tensor::from_vec(values, (4, 50), &Device::Cpu)
}

#[test]
fn values_and_gradients_are_pytorchs() -> Result<()> {
    let expected = reference::tensors("ops.safetensors");
    for (name, f) in FUNCTIONS {
        for device in devices() {
            let name_there = format!("{name} at {device:?}");
            let x = Var::from_tensor(&input(name)?.to_device(&device)?)?;
            let y = f(&x)?;
            reference::assert_close(&name_there, &y, &expected[&format!("{name}.y")], 1e-6);
            let grad = reference::signed(&format!("{name}.grad"), &[4, 50])?.to_device(&device)?;
            let dx = (y * &grad)?.sum_all()?.backward()?.remove(&x).expect("a gradient");
            let expected = &expected[&format!("{name}.dx")];
            reference::assert_close(&format!("{name_there}, gradient"), &dx, expected, 1e-6);
            // A wrong choice at one kink would hide in the norm over 200 elements.
            let kinks =
                |dx: &Tensor| dx.narrow(0, 0, 1)?.narrow(1, 0, 5)?.flatten_all()?.to_vec1::<f32>();
            for (i, (dx, expected)) in kinks(&dx)?.into_iter().zip(kinks(expected)?).enumerate() {
                let near = (dx - expected).abs() < 1e-6;
                assert!(near, "{name_there}, kink {i}: {dx} instead of {expected}");
            }
        }
    }
    Ok(())
}

#[test]
fn the_others_are_pytorchs_too() -> Result<()> {
    // x = torch.tensor([-25, -3.5, -1, -0.25, 0, 0.5, 2, 19, 25], dtype=torch.float64, requires_grad=True)
    // y = F.leaky_relu(x, 0.2), F.elu(x, 1.5), torch.tanh(x), F.softplus(x), F.mish(x)
    // dx, = torch.autograd.grad(y.sum(), x)
    let x = [-25.0, -3.5, -1.0, -0.25, 0.0, 0.5, 2.0, 19.0, 25.0];
    let expected: [[[f64; 9]; 2]; 5] = [
        [
            [-5.0, -0.7, -0.2, -0.05, 0.0, 0.5, 2.0, 19.0, 25.0],
            [0.2, 0.2, 0.2, 0.2, 0.2, 1.0, 1.0, 1.0, 1.0],
        ],
        [
            [
                -1.4999999999791682,
                -1.4547039248665223,
                -0.9481808382428365,
                -0.3317988253928927,
                0.0,
                0.5,
                2.0,
                19.0,
                25.0,
            ],
            [
                2.083191579744603e-11,
                0.04529607513347775,
                0.5518191617571635,
                1.1682011746071073,
                1.5,
                1.0,
                1.0,
                1.0,
                1.0,
            ],
        ],
        [
            [
                -1.0,
                -0.9981778976111987,
                -0.7615941559557649,
                -0.24491866240370913,
                0.0,
                0.4621171572600098,
                0.9640275800758169,
                0.9999999999999999,
                1.0,
            ],
            [
                0.0,
                0.0036408847204873578,
                0.41997434161402614,
                0.940014848806378,
                1.0,
                0.7864477329659274,
                0.07065082485316443,
                0.0,
                0.0,
            ],
        ],
        [
            [
                1.3887943864867583e-11,
                0.029750418272620566,
                0.31326168751822286,
                0.5759394198788436,
                std::f64::consts::LN_2,
                0.9740769841801067,
                2.1269280110429727,
                19.000000005602796,
                25.0,
            ],
            [
                1.3887943864771146e-11,
                0.029312230751356316,
                0.2689414213699951,
                0.4378234991142019,
                0.5,
                0.6224593312018546,
                0.8807970779778824,
                0.9999999943972036,
                1.0,
            ],
        ],
        [
            [
                -3.4719859662168955e-10,
                -0.10409575448637122,
                -0.30340146137410895,
                -0.129926963679141,
                0.0,
                0.3752452113048951,
                1.9439589595339946,
                18.999999999999996,
                25.0,
            ],
            [
                -3.33310652754411e-10,
                -0.07276041344326706,
                0.059216755877395014,
                0.43981560172180506,
                0.6,
                0.8864243753577272,
                1.0693179342794896,
                1.0,
                1.0,
            ],
        ],
    ];
    for ((name, f), [y, dx]) in OTHERS.into_iter().zip(expected) {
        let variable = Var::new(&x, &Device::Cpu)?;
        let found = f(&variable)?;
        let gradient = ops::backward(&found)?.remove(&variable).expect("a gradient");
        for (what, found, expected) in [("value", &found, y), ("gradient", &gradient, dx)] {
            for (i, found) in found.to_vec1::<f64>()?.into_iter().enumerate() {
                let difference = (found - expected[i]).abs();
                assert!(
                    difference < 1e-15 + 1e-14 * expected[i].abs(),
                    "{name}, {what} {i}: {found}"
                );
            }
        }
        let nan = f(&Tensor::new(f32::NAN, &Device::Cpu)?)?.to_scalar::<f32>()?;
        assert!(nan.is_nan(), "{name} of NaN");
    }
    Ok(())
}

#[test]
fn gradients_are_those_of_the_values() {
    for (name, f) in FUNCTIONS.into_iter().chain(OTHERS) {
        let x = random(name, &[3, 5, 7]).affine(3.0, 0.0).expect("a tensor");
        check_gradients(name, &[x], |x| f(&x[0]));
    }
}

#[test]
fn extremes_stay_finite_and_nan_stays_nan() -> Result<()> {
    for (name, f) in FUNCTIONS {
        let x = Var::new(&[-1e4f32, 1e4, f32::NAN], &Device::Cpu)?;
        let y = f(&x)?;
        let values = y.to_vec1::<f32>()?;
        assert!(values[0].is_finite() && values[1].is_finite(), "{name}: {values:?}");
        assert!(values[2].is_nan(), "{name} of NaN is {}", values[2]);
        let dx = y.narrow(0, 0, 2)?.sum_all()?.backward()?.remove(&x).expect("a gradient");
        let slopes = dx.to_vec1::<f32>()?;
        assert!(slopes[0].is_finite() && slopes[1].is_finite(), "{name}: {slopes:?}");
    }
    Ok(())
}

#[test]
fn views_and_empty_tensors_are_taken() -> Result<()> {
    let x = random("view", &[4, 6]).t()?;
    let y = ops::relu(&x)?;
    assert_eq!(y.to_vec2::<f64>()?, x.contiguous()?.relu()?.to_vec2::<f64>()?);
    assert_eq!(ops::gelu(&random("empty", &[0, 3]))?.dims(), [0, 3]);
    Ok(())
}

#[test]
fn threads_do_not_matter() {
    check_threads(|| {
        let x = Var::from_tensor(&reference::image_batch("threads", &[7, 3001])?)?;
        let y = ops::silu(&x)?;
        let dx = y.sqr()?.sum_all()?.backward()?.remove(&x).expect("a gradient");
        Ok(vec![y.detach(), dx])
    });
}

#[test]
fn integers_are_refused() -> Result<()> {
    let x = Tensor::new(&[1u32], &Device::Cpu)?;
    check_error(ops::relu6(&x), &["relu6", "U32"]);
    Ok(())
}
