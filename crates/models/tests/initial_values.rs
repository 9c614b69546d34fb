//! What the parameters of torchvision's networks begin with: mean, spread and the largest value.

use candle_core::{DType, Device, Result};
use candle_vision_models::{ModelSpec, build};
use candle_vision_test_support::reference;

/// A line of `initial_values.txt`: what torchvision drew once.
struct Drawn {
    network: String,
    parameter: String,
    count: f64,
    mean: f64,
    std: f64,
    largest: f64,
}

impl Drawn {
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split(' ');
        let (network, parameter) = (words.next()?.to_owned(), words.next()?.to_owned());
        let mut number = || words.next()?.parse().ok();
        let [count, mean, std, largest] = [number()?, number()?, number()?, number()?];
        Some(Self { network, parameter, count, mean, std, largest })
    }

    /// How far two draws of one distribution may lie apart: five standard deviations of their difference.
    fn fits(&self, mean: f64, std: f64, largest: f64) -> bool {
        let (apart, n) = (5.0 * f64::sqrt(2.0), self.count);
        let is_mean = (mean - self.mean).abs() <= apart * self.std / n.sqrt() + 1e-12;
        // Of a variance: `kurtosis - 1` is at most 2 for the distributions in use.
        let is_std = (std - self.std).abs() <= apart * self.std / (2.0 * n).sqrt() + 1e-12;
        // The ends of a normal distribution vary, those of a uniform one do not.
        is_mean && is_std && largest <= 2.0 * self.largest + 1e-12
    }
}

/// `tests/reference/generate.py initial_values` wrote the file: convolutions and linear layers only, with 1,000
/// classes, and at least 16 values in a parameter.
#[test]
fn parameters_begin_as_torchvisions() -> Result<()> {
    let text = std::fs::read_to_string(reference::path("initial_values.txt")).expect("a file");
    let drawn: Vec<Drawn> = text.lines().filter_map(Drawn::parse).collect();
    assert_eq!(drawn.len(), text.lines().count());
    let mut wrong = Vec::new();
    for of_network in drawn.chunk_by(|a, b| a.network == b.network) {
        let network = &of_network[0].network;
        let model = build(&ModelSpec::new(network, 1000), 3, &Device::Cpu)?;
        for drawn in of_network {
            let name = &drawn.parameter;
            let parameter = model.parameters().get(name);
            let values = parameter.unwrap_or_else(|| panic!("{network} has no {name}")).detached();
            let values = values.flatten_all()?.to_dtype(DType::F64)?.to_vec1::<f64>()?;
            let n = values.len() as f64;
            assert!(n == drawn.count, "{network}, {name}: {n} values");
            let mean = values.iter().sum::<f64>() / n;
            let variance =
                values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (n - 1.0);
            let largest = values.iter().fold(0f64, |most, value| most.max(value.abs()));
            if !drawn.fits(mean, variance.sqrt(), largest) {
                wrong.push(format!(
                    "{network}, {name}: mean {mean:.3e}, deviation {:.3e}, at most {largest:.3e}; torchvision has \
                     {:.3e}, {:.3e}, {:.3e}",
                    variance.sqrt(),
                    drawn.mean,
                    drawn.std,
                    drawn.largest
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}
