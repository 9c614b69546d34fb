//! Dropout: what it drops, that a seed repeats it, and its gradient.

use crate::support::{check_error, check_gradients, check_threads, random};
use candle_core::{DType, Device, Result, Tensor, Var};
use candle_vision_ops::{Generator, drop_rows, dropout};
use rand::{Rng, RngExt, SeedableRng};

fn rng(seed: u64) -> Generator {
    Generator::seed_from_u64(seed)
}

fn ones(count: usize) -> Result<Tensor> {
    Tensor::ones(count, DType::F32, &Device::Cpu)
}

#[test]
fn drops_the_given_fraction_and_scales_the_rest() -> Result<()> {
    for (seed, probability) in [(0, 0.1), (1, 0.5), (2, 0.9)] {
        let count = 100_000;
        let y = dropout(&ones(count)?, probability, &mut rng(seed))?.to_vec1::<f32>()?;
        let scale = (1.0 / (1.0 - probability)) as f32;
        assert!(y.iter().all(|&y| y == 0.0 || y == scale));
        let dropped = y.iter().filter(|&&y| y == 0.0).count() as f64;
        let deviation = (count as f64 * probability * (1.0 - probability)).sqrt();
        let error = (dropped - count as f64 * probability).abs();
        assert!(error < 4.0 * deviation, "dropped {dropped} of {count} at {probability}");
        // Neighbours are independent: as often both dropped as chance has it.
        let pairs = y.windows(2).filter(|pair| pair == &[0.0, 0.0]).count() as f64 / count as f64;
        assert!((pairs - probability * probability).abs() < 0.01, "{pairs} at {probability}");
    }
    Ok(())
}

#[test]
fn the_seed_alone_decides() -> Result<()> {
    let mask = |seed| dropout(&ones(1000)?, 0.5, &mut rng(seed))?.to_vec1::<f32>();
    assert_eq!(mask(7)?, mask(7)?);
    assert_ne!(mask(7)?, mask(8)?);
    // One generator gives another mask each time.
    let mut rng = rng(7);
    let mut next = || dropout(&ones(1000)?, 0.5, &mut rng)?.to_vec1::<f32>();
    assert_ne!(next()?, next()?);
    check_threads(|| Ok(vec![dropout(&ones(50_000)?, 0.3, &mut self::rng(9))?]));
    Ok(())
}

/// Pins the stream: another generator, or another way to draw from it, would change every run.
#[test]
fn the_mask_of_seed_0_is_this_one() -> Result<()> {
    let y = dropout(&ones(24)?, 0.5, &mut rng(0))?.to_vec1::<f32>()?;
    let kept: String = y.iter().map(|&y| if y == 0.0 { '.' } else { '#' }).collect();
    assert_eq!(kept, "###.###..###.###.##..###");
    Ok(())
}

#[test]
fn certain_cases_are_exact() -> Result<()> {
    let x = random("certain", &[3, 4]);
    let mut generator = rng(3);
    let same = dropout(&x, 0.0, &mut generator)?;
    assert_eq!(same.to_vec2::<f64>()?, x.to_vec2::<f64>()?);
    assert_eq!(generator.next_u32(), rng(3).next_u32(), "nothing was drawn");
    let none = dropout(&x, 1.0, &mut generator)?;
    assert_eq!(none.flatten_all()?.to_vec1::<f64>()?, [0.0; 12]);
    Ok(())
}

#[test]
fn gradient_is_that_of_its_values() -> Result<()> {
    let x = [random("gradient", &[3, 5, 7])];
    check_gradients("dropout", &x, |x| dropout(&x[0], 0.4, &mut rng(1)));
    check_gradients("dropout of a view", &x, |x| dropout(&x[0].transpose(0, 2)?, 0.4, &mut rng(1)));
    let x = Var::from_tensor(&ones(10)?)?;
    let y = dropout(&x, 0.5, &mut rng(1))?;
    let dx = y.sum_all()?.backward()?.remove(&x).expect("a gradient");
    assert_eq!(dx.to_vec1::<f32>()?, y.to_vec1::<f32>()?);
    Ok(())
}

#[test]
fn rows_are_dropped_whole() -> Result<()> {
    let ones = Tensor::ones((4000, 3), DType::F32, &Device::Cpu)?;
    let y = drop_rows(&ones, 0.2, &mut rng(5))?.to_vec2::<f32>()?;
    assert!(y.iter().all(|row| row == &[0.0; 3] || row == &[1.25; 3]));
    let dropped = y.iter().filter(|row| row[0] == 0.0).count();
    // A standard deviation of 25 rows.
    assert!((700..900).contains(&dropped), "{dropped} of 4000");
    let x = [random("rows", &[6, 2, 2])];
    check_gradients("drop_rows", &x, |x| drop_rows(&x[0], 0.5, &mut rng(1)));
    check_error(drop_rows(&ones, 1.0, &mut rng(0)), &["drop_rows", "0..1", "1"]);
    check_error(drop_rows(&Tensor::new(1f32, &Device::Cpu)?, 0.5, &mut rng(0)), &["no rows"]);
    Ok(())
}

/// Pins which rows are dropped: they are those whose number in 0..1 is not below the probability of being kept.
#[test]
fn rows_are_those_that_the_generators_numbers_leave() -> Result<()> {
    let kept = |probability: f64| -> Result<Vec<bool>> {
        let y = drop_rows(&ones(200)?, probability, &mut rng(2))?.to_vec1::<f32>()?;
        Ok(y.iter().map(|&y| y != 0.0).collect())
    };
    for probability in [0.1, 0.3, 0.5, 2f64.powi(-40)] {
        let mut generator = rng(2);
        let expected: Vec<bool> =
            (0..200).map(|_| generator.random::<f64>() < 1.0 - probability).collect();
        assert_eq!(kept(probability)?, expected, "{probability}");
    }
    Ok(())
}

#[test]
fn wrong_probabilities_are_named() -> Result<()> {
    for probability in [-0.1, 1.1, f64::NAN] {
        let result = dropout(&ones(2)?, probability, &mut rng(0));
        check_error(result, &["dropout", &probability.to_string()]);
    }
    Ok(())
}
