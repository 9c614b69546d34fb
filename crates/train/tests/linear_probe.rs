//! A linear layer on features: what it must find, what it cannot find, and what it refuses.

use candle_core::{Device, Result, Tensor};
use candle_vision_test_support::reference::uniform;
use candle_vision_train::LinearProbe;

/// Points in a plane, and the class that `class` gives each.
fn points(name: &str, count: usize, class: impl Fn(f64, f64) -> u32) -> Result<(Tensor, Vec<u32>)> {
    let values: Vec<f64> = uniform(name, 2 * count).iter().map(|u| 2.0 * u - 1.0).collect();
    let labels = values.chunks(2).map(|point| class(point[0], point[1])).collect();
    // Far from the origin, and of very different spread.
    let shifted = values.chunks(2).flat_map(|point| [1000.0 + point[0], 1e-2 * point[1] - 5.0]);
    let shifted: Vec<f32> = shifted.map(|value| value as f32).collect();
    Ok((Tensor::from_vec(shifted, (count, 2), &Device::Cpu)?, labels))
}

#[test]
fn what_a_line_divides_is_found_and_what_none_divides_is_not() {
    let probe = LinearProbe::new();
    let run = |class: fn(f64, f64) -> u32| {
        let (train, of_train) = points("train", 400, class).unwrap();
        let (val, of_val) = points("val", 400, class).unwrap();
        let result = probe.run((&train, &of_train), (&val, &of_val)).unwrap();
        assert_eq!(probe.run((&train, &of_train), (&val, &of_val)).unwrap(), result, "same bits");
        result
    };
    let line = run(|x, y| u32::from(x + 2.0 * y > 0.3));
    assert!(line.val_accuracy > 0.97 && line.train_accuracy > 0.97, "{line:?}");
    let three = run(|x, y| if x + y > 0.5 { 2 } else { u32::from(x - y > 0.0) });
    assert!(three.val_accuracy > 0.9, "{three:?}");
    // Opposite quadrants: no line is better than three quarters, and the best linear fit is near a half.
    let quadrants = run(|x, y| u32::from(x * y > 0.0));
    assert!((0.3..0.7).contains(&quadrants.val_accuracy), "{quadrants:?}");
}

#[test]
fn what_does_not_fit_is_named() -> Result<()> {
    let (train, labels) = points("train", 4, |_, _| 0)?;
    let refused = |probe: LinearProbe, train: &Tensor, labels: &[u32], val: &Tensor, part: &str| {
        let error = probe.run((train, labels), (val, &[0, 0, 0, 0])).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    };
    let probe = LinearProbe::new;
    refused(probe(), &train, &labels[1..], &train, "`labels` is 3");
    refused(probe().epochs(0), &train, &labels, &train, "`epochs` is 0");
    refused(probe().lr(-1.0), &train, &labels, &train, "`lr`");
    refused(probe(), &train, &labels, &train.narrow(1, 0, 1)?, "`features` is 2 and 1");
    let broken = (&train * f64::NAN)?;
    refused(probe(), &broken, &labels, &train, "finite");
    Ok(())
}
