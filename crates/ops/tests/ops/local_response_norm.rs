//! Local response norm against PyTorch and finite differences.

use candle_core::{DType, Result, Var};
use candle_vision_ops::{LocalResponseNormConfig, local_response_norm};

use crate::places::devices;
use crate::reference;
use crate::support::{check_error, check_gradients, check_threads, nchw, nhwc, random};

#[test]
fn values_and_gradients_are_pytorchs() -> Result<()> {
    let mut seen = 0;
    for (cases, tensors) in
        [("ops.json", "ops.safetensors"), ("attention.json", "attention.safetensors")]
    {
        let expected = reference::tensors(tensors);
        for case in reference::json(cases).as_array().expect("a list") {
            if case["op"] != "local_response_norm" {
                continue;
            }
            let name = case["case"].as_str().expect("a name");
            let dims: Vec<usize> = serde_json::from_value(case["x"].clone()).expect("sizes");
            let mut config = LocalResponseNormConfig::new(case["size"].as_u64().unwrap() as usize);
            if let (Some(alpha), Some(beta), Some(k)) =
                (case["alpha"].as_f64(), case["beta"].as_f64(), case["k"].as_f64())
            {
                config = config.alpha(alpha).beta(beta).k(k);
            }
            let x = nhwc(&reference::image_batch(&format!("{name}.x"), &dims)?);
            let grad = nhwc(&reference::signed(&format!("{name}.grad"), &dims)?);
            for device in devices() {
                let x = Var::from_tensor(&x.to_device(&device)?)?;
                let y = local_response_norm(&x, &config)?;
                let what = format!("{name} at {device:?}");
                reference::assert_close(&what, &nchw(&y), &expected[&format!("{name}.y")], 1e-6);
                let dx = (y * grad.to_device(&device)?)?.sum_all()?.backward()?.remove(&x);
                let dx = nchw(&dx.expect("a gradient"));
                reference::assert_close(&what, &dx, &expected[&format!("{name}.dx")], 1e-6);
            }
            seen += 1;
        }
    }
    assert_eq!(seen, 4);
    Ok(())
}

#[test]
fn gradients_are_those_of_the_values() {
    for channels in [1, 2, 7, 20] {
        for size in [1, 2, 5, 9] {
            for beta in [0.75, 0.5, 1.3] {
                let config = LocalResponseNormConfig::new(size).alpha(0.8).beta(beta).k(1.2);
                let x = [random("lrn", &[1, 2, 2, channels])];
                check_gradients(&format!("{channels} {config:?}"), &x, |x| {
                    local_response_norm(&x[0], &config)
                });
            }
        }
    }
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let x = random("threads", &[3, 40, 41, 16]).to_dtype(DType::F32).expect("a tensor");
    check_threads(|| Ok(vec![local_response_norm(&x, &LocalResponseNormConfig::new(5))?]));
}

#[test]
fn wrong_arguments_are_named() {
    let config = LocalResponseNormConfig::new(5);
    check_error(local_response_norm(&random("x", &[2, 3]), &config), &["[2, 3]"]);
    let none = LocalResponseNormConfig::new(0);
    check_error(local_response_norm(&random("x", &[1, 1, 1, 1]), &none), &["size", "0"]);
}
