//! Fails when so many images are left out that the measurements would be misleading.

use candle_vision_data::{DataLoader, class_counts};

use crate::{Error, Result};

/// Checks the images that a run's loaders have left out so far.
///
/// # Errors
/// As [`check_classes`] for either loader, or if more than a tenth of all their images were left out.
pub(crate) fn check_skipped(loaders: [&DataLoader; 2]) -> Result<()> {
    loaders.into_iter().try_for_each(check_classes)?;
    let mut skipped = loaders.iter().flat_map(|loader| loader.skipped()).peekable();
    let first = skipped.peek().cloned();
    let (skipped, total) =
        (skipped.count(), loaders.map(|loader| loader.dataset().len()).iter().sum());
    match first {
        Some(first) if skipped * 10 > total => Err(Error::TooManySkipped { skipped, total, first }),
        _ => Ok(()),
    }
}

/// Checks that each class has at least one image that was not left out.
///
/// # Errors
/// If a class has lost all its images. It would be neither learned nor measured.
pub(crate) fn check_classes(loader: &DataLoader) -> Result<()> {
    let skipped = loader.skipped();
    if skipped.is_empty() {
        return Ok(());
    }
    let dataset = loader.dataset();
    let counts = class_counts(dataset.as_ref());
    let mut lost = vec![0; counts.len()];
    for sample in skipped {
        let class = dataset.label(sample.index) as usize;
        lost[class] += 1;
        if lost[class] == counts[class] {
            let name = dataset.classes().get(class).cloned();
            let name = name.unwrap_or_else(|| class.to_string());
            return Err(Error::ClassSkipped { class: name, count: counts[class], last: sample });
        }
    }
    Ok(())
}
