//! Flips that take turns from epoch to epoch.

use super::*;

/// Images of 2x2 pixels that are brighter on the right.
struct Slopes(usize);

impl Dataset for Slopes {
    fn len(&self) -> usize {
        self.0
    }

    fn sample(&self, _: usize) -> Result<Sample> {
        Ok(Sample { image: Image::new(2, 2, 1, vec![0, 9, 0, 9])?, label: 0, mask: None })
    }

    fn classes(&self) -> &[String] {
        static ONE: std::sync::LazyLock<Vec<String>> =
            std::sync::LazyLock::new(|| vec!["one".to_owned()]);
        &ONE
    }

    fn label(&self, _: usize) -> u32 {
        0
    }

    fn name(&self, index: usize) -> String {
        format!("slope[{index}]")
    }

    fn fingerprint(&self) -> String {
        self.0.to_string()
    }
}

/// Whether each sample is mirrored, by epoch: its left column is darker than its right one unless it is.
fn mirrored(loader: &DataLoader, epoch: usize) -> Vec<bool> {
    let mut found: Vec<(usize, bool)> = Vec::new();
    for batch in loader.epoch(epoch) {
        let batch = batch.unwrap();
        let rows = batch.images.get_on_dim(1, 0).unwrap().get_on_dim(1, 0).unwrap();
        let rows = rows.to_vec2::<f32>().unwrap();
        found.extend(batch.indices.into_iter().zip(rows.into_iter().map(|row| row[0] > row[1])));
    }
    found.sort_unstable();
    found.into_iter().map(|(_, is_mirrored)| is_mirrored).collect()
}

#[test]
fn alternating_flips_take_turns_from_a_random_start() {
    let loader = |seed, workers, before: bool| {
        let compose =
            if before { Compose::new().with(RandomCrop::new([2, 2])) } else { Compose::new() };
        let transform = compose.with(AlternatingFlip::default()).with(ToTensor);
        let config = config(7, workers).shuffle(true).seed(seed);
        DataLoader::new(Arc::new(Slopes(200)), transform, config, Device::Cpu).unwrap()
    };
    let first = mirrored(&loader(1, 0, false), 0);
    let count = first.iter().filter(|is_mirrored| **is_mirrored).count();
    // Expected 100 with a deviation of 7.
    assert!((70..130).contains(&count), "{count}");
    for epoch in 1..5 {
        let turned = epoch % 2 == 1;
        let expected: Vec<bool> = first.iter().map(|start| *start != turned).collect();
        assert_eq!(mirrored(&loader(1, 3, false), epoch), expected, "epoch {epoch}");
    }
    assert_ne!(mirrored(&loader(2, 0, false), 0), first);
    // What other transforms draw does not matter, only the place in the list.
    let behind: Vec<Vec<bool>> = (0..3).map(|epoch| mirrored(&loader(1, 0, true), epoch)).collect();
    assert!(behind[0] == behind[2] && behind[0] != behind[1]);
    assert!(behind[0].iter().zip(&behind[1]).all(|(one, other)| one != other));
}
