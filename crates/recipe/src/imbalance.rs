//! What a person should know of classes that differ in size, and what is done about it.

use candle_vision::data::{DataLoader, class_counts};
use candle_vision::train::loss::Loss;

/// From this ratio of the largest class to the smallest on, classes that nothing is done about are worth a line.
const WORTH_A_LINE: f64 = 1.5;

/// One line on the sizes of the classes: how they differ, and what the sampler and the loss do about it. `None` if they
/// hardly differ and nothing is done.
pub(crate) fn imbalance(train: &DataLoader, loss: &dyn Loss) -> Option<String> {
    let dataset = train.dataset();
    let classes = dataset.classes();
    // A sample of several labels is in several classes, and samplers are not made for that.
    let several = dataset.is_multi_label();
    let counts = match several {
        true => class_counts(&**dataset),
        false => train.population().class_counts(),
    };
    let (low, high) = extremes(&counts)?;
    let ratio = counts[high] as f64 / counts[low] as f64;
    let shown = if several { None } else { shown(train, ratio) };
    let by_loss = loss.about_imbalance();
    let is_countered = shown.is_some() || by_loss.is_some();
    if ratio < WORTH_A_LINE && !is_countered {
        return None;
    }
    let mut line = format!(
        "imbalance: {:.1} to 1 ({} {}, {} {})",
        ratio, classes[high], counts[high], classes[low], counts[low]
    );
    match shown.into_iter().chain(by_loss).collect::<Vec<_>>().as_slice() {
        [] if several => {
            line += "; nothing is done about it (`pos_weight` of the loss would)";
        }
        [] => {
            line += "; nothing is done about it (`data.sampler = \"balanced\"` would, or \
                     `class_weights = \"balanced\"` of the loss)";
        }
        done => line += &format!("; {}", done.join("; ")),
    }
    Some(line)
}

/// The smallest class that has images, and the largest.
fn extremes(counts: &[usize]) -> Option<(usize, usize)> {
    let filled = || (0..counts.len()).filter(|&class| counts[class] > 0);
    let low = filled().min_by_key(|&class| counts[class])?;
    // The first of the largest, as for the smallest.
    let high = filled().rev().max_by_key(|&class| counts[class])?;
    Some((low, high))
}

/// How often the sampler shows the classes, if that differs from their sizes.
fn shown(train: &DataLoader, ratio: f64) -> Option<String> {
    let (labels, mut counts) = (train.population().labels(), vec![0; train.population().classes()]);
    for index in train.order(0) {
        if let Some(count) = labels.get(index).and_then(|&label| counts.get_mut(label as usize)) {
            *count += 1;
        }
    }
    let (low, high) = extremes(&counts)?;
    let shown = counts[high] as f64 / counts[low] as f64;
    let name = train.sampler().describe().name;
    // A sampler that shows a part of the samples hits their shares but roughly.
    let is_evened = shown < 0.8 * ratio;
    is_evened.then(|| format!("the sampler `{name}` shows them {shown:.1} to 1"))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use candle_core::Device;
    use candle_vision::data::samplers::{Balanced, Sampler, Shuffled};
    use candle_vision::data::transforms::{Compose, ToTensor};
    use candle_vision::data::{Image, LoaderConfig, Samples};
    use candle_vision::train::loss::{CrossEntropy, Focal, with_counts_of};

    use super::*;

    fn line(few: usize, sampler: Arc<dyn Sampler>, loss: impl Loss + 'static) -> Option<String> {
        let rows: Vec<u32> = (0..24 + few).map(|i| u32::from(i >= 24)).collect();
        let rows: Vec<(u8, u32)> = rows.into_iter().map(|label| (0, label)).collect();
        let set = Samples::new(["many", "few"], rows, |_| Image::new(1, 1, 1, vec![0]));
        let transform = Compose::new().with(ToTensor);
        let train = DataLoader::new(Arc::new(set), transform, LoaderConfig::new(4), Device::Cpu);
        let train = train.and_then(|train| train.with_sampler(sampler)).expect("a loader");
        imbalance(&train, &*with_counts_of(Box::new(loss), &train))
    }

    #[test]
    fn one_line_says_the_imbalance_and_what_is_done() {
        let shuffled = || Arc::new(Shuffled::new());
        assert_eq!(line(20, shuffled(), CrossEntropy::new()), None);
        let begins = "imbalance: 4.0 to 1 (many 24, few 6); ";
        let of = |sampler, loss: CrossEntropy| {
            let line = line(6, sampler, loss).expect("a line");
            line.strip_prefix(begins).unwrap_or_else(|| panic!("{line}")).to_owned()
        };
        assert!(of(shuffled(), CrossEntropy::new()).starts_with("nothing is done about it"));
        let told = of(Arc::new(Balanced::new()), CrossEntropy::new());
        assert_eq!(told, "the sampler `balanced` shows them 1.0 to 1");
        let told = of(shuffled(), CrossEntropy::new().balanced());
        assert_eq!(told, "the loss weights classes by 0.625 to 2.500");
        let told = of(shuffled(), CrossEntropy::new().logit_adjustment(1.0));
        assert_eq!(told, "the loss adjusts logits by class shares (tau 1)");
        let told = line(6, shuffled(), Focal::new(2.0)).expect("a line");
        assert!(told.ends_with("the focal loss (gamma 2) counts hard images more"), "{told}");
    }
}
