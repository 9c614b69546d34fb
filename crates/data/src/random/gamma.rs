//! The beta and the Dirichlet distribution, which come from the gamma distribution.

use super::{Generator, normal, unit};

/// A number of the beta distribution with these parameters, which are above 0. It is in `0.0..=1.0`.
///
/// The number is `x / (x + y)` for two numbers of gamma distributions.
pub fn beta(rng: &mut Generator, a: f64, b: f64) -> f64 {
    let (x, y) = (log_gamma(rng, a), log_gamma(rng, b));
    // For small parameters both gamma numbers may be too small for `f64`, so only their logarithms are used.
    1.0 / (1.0 + (y - x).exp())
}

/// Numbers that add up to 1: the symmetric Dirichlet distribution with this concentration, which is above 0.
pub fn dirichlet(rng: &mut Generator, concentration: f64, count: usize) -> Vec<f64> {
    let logarithms: Vec<f64> = (0..count).map(|_| log_gamma(rng, concentration)).collect();
    let most = logarithms.iter().copied().fold(f64::MIN, f64::max);
    let numbers: Vec<f64> = logarithms.into_iter().map(|log| (log - most).exp()).collect();
    let sum: f64 = numbers.iter().sum();
    numbers.into_iter().map(|number| number / sum).collect()
}

/// The logarithm of a number of the gamma distribution with this shape and scale 1 (Marsaglia and Tsang 2000, "A
/// simple method for generating gamma variables").
fn log_gamma(rng: &mut Generator, shape: f64) -> f64 {
    if shape < 1.0 {
        // The method needs a shape of at least 1. A number of shape `a` is one of shape `a + 1` times `u^(1 / a)`.
        let factor = positive_unit(rng).ln() / shape;
        // Two infinities would have no difference.
        return (log_gamma(rng, shape + 1.0) + factor).max(f64::MIN);
    }
    let d = shape - 1.0 / 3.0;
    let c = 1.0 / (9.0 * d).sqrt();
    loop {
        let x = normal(rng);
        let v = (1.0 + c * x).powi(3);
        if v > 0.0 && positive_unit(rng).ln() < 0.5 * x * x + d - d * v + d * v.ln() {
            return d.ln() + v.ln();
        }
    }
}

/// A uniform number in `(0, 1]`, which has a logarithm.
fn positive_unit(rng: &mut Generator) -> f64 {
    1.0 - unit(rng)
}

#[cfg(test)]
mod tests {
    use super::super::generator;
    use super::*;

    const DRAWS: usize = 40_000;

    /// Mean `a / (a + b)` and variance `ab / ((a + b)^2 (a + b + 1))`, within five standard errors of the mean. The
    /// variance of bounded numbers is at most as uncertain.
    #[track_caller]
    fn check(a: f64, b: f64) {
        let mut rng = generator(3);
        let draws: Vec<f64> = (0..DRAWS).map(|_| beta(&mut rng, a, b)).collect();
        assert!(draws.iter().all(|draw| (0.0..=1.0).contains(draw)));
        let mean = draws.iter().sum::<f64>() / DRAWS as f64;
        let variance = draws.iter().map(|draw| (draw - mean).powi(2)).sum::<f64>() / DRAWS as f64;
        let expected = a * b / ((a + b).powi(2) * (a + b + 1.0));
        let error = 5.0 * (expected / DRAWS as f64).sqrt();
        assert!((mean - a / (a + b)).abs() < error, "{a} {b}: mean {mean}");
        assert!((variance - expected).abs() < error, "{a} {b}: variance {variance}");
    }

    /// Each of `n` numbers has the mean `1 / n` and the variance of the beta distribution with `a` and `(n - 1) a`.
    #[test]
    fn dirichlet_numbers_are_shares() {
        let mut rng = generator(4);
        for a in [1e-5, 0.3, 1.0, 50.0] {
            let draws: Vec<Vec<f64>> = (0..DRAWS / 4).map(|_| dirichlet(&mut rng, a, 3)).collect();
            assert!(draws.iter().all(|shares| (shares.iter().sum::<f64>() - 1.0).abs() < 1e-12));
            let expected = (2.0 / 9.0) / (3.0 * a + 1.0);
            for i in 0..3 {
                let mean = draws.iter().map(|shares| shares[i]).sum::<f64>() / draws.len() as f64;
                let square = draws.iter().map(|shares| (shares[i] - mean).powi(2)).sum::<f64>();
                let error = 5.0 * (expected / draws.len() as f64).sqrt();
                assert!((mean - 1.0 / 3.0).abs() < error, "{a}: mean {mean}");
                let variance = square / draws.len() as f64;
                assert!((variance - expected).abs() < error, "{a}: variance {variance}");
            }
        }
    }

    #[test]
    fn mean_and_variance_are_those_of_the_distribution() {
        for (a, b) in [(0.2, 0.2), (0.4, 0.4), (1.0, 1.0), (2.0, 5.0), (30.0, 30.0)] {
            check(a, b);
        }
    }

    /// Runs that mix images lean on these numbers, which must stay. The last bits may differ between machines, because
    /// logarithm, exponential and cosine are those of the system.
    #[test]
    fn draws_are_pinned() {
        let mut rng = generator(7);
        let draws = [0.2, 1.0, 4.0].map(|alpha| beta(&mut rng, alpha, alpha));
        for (found, expected) in
            draws.iter().zip([0.941_437_598_732, 0.924_725_135_974, 0.376_097_652_789])
        {
            assert!((found - expected).abs() < 1e-9, "{draws:?}");
        }
    }

    #[test]
    fn with_both_parameters_one_it_is_uniform() {
        let mut rng = generator(4);
        let mut tenths = [0; 10];
        (0..DRAWS).for_each(|_| tenths[((beta(&mut rng, 1.0, 1.0) * 10.0) as usize).min(9)] += 1);
        // 4000 each, with a deviation of 60.
        assert!(tenths.iter().all(|count| (3700..4300).contains(count)), "{tenths:?}");
    }

    #[test]
    fn tiny_parameters_give_ends_and_never_nan() {
        let mut rng = generator(5);
        for parameter in [1e-3, 1e-6, 1e-300, 5e-324] {
            let draws: Vec<f64> = (0..200).map(|_| beta(&mut rng, parameter, parameter)).collect();
            assert!(draws.iter().all(|draw| (0.0..=1.0).contains(draw)), "{parameter}");
        }
    }
}
