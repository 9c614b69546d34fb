//! What a person should know of classes that differ in size, and what is done about it.

use candle_vision::data::DataLoader;
use candle_vision::train::loss::Loss;

/// From this ratio of the largest class to the smallest on, classes that nothing is done about are worth a line.
const WORTH_A_LINE: f64 = 1.5;

/// One line on the sizes of the classes: how they differ, and what the sampler and the loss do about it. `None` if they
/// hardly differ and nothing is done.
pub(crate) fn imbalance(train: &DataLoader, loss: &dyn Loss) -> Option<String> {
    let dataset = train.dataset();
    let classes = dataset.classes();
    let counts = train.population().class_counts();
    let (low, high) = extremes(&counts)?;
    let ratio = counts[high] as f64 / counts[low] as f64;
    let shown = shown(train, ratio);
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
        [] => {
            let by_loss = match dataset.is_multi_label() {
                true => "`pos_weight`",
                false => "`class_weights = \"balanced\"`",
            };
            line += &format!(
                "; nothing is done about it (`data.sampler = \"balanced\"` would, or {by_loss} of the loss)"
            );
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
    let order = train.order(0);
    // A sampler of someone's own may name samples that do not exist. The loader refuses them with an error.
    let exist = order.iter().all(|&index| index < train.population().len());
    let counts = exist.then(|| train.population().counts_in(&order))?;
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
    use candle_vision::data::{Dataset, Image, LoaderConfig, Sample, Samples};
    use candle_vision::train::loss::{BinaryCrossEntropy, CrossEntropy, Focal, with_counts_of};

    use super::*;

    /// Samples with these labels, and the names of the classes.
    struct Sets(Vec<Vec<u32>>, Vec<String>);

    impl Dataset for Sets {
        fn len(&self) -> usize {
            self.0.len()
        }
        fn sample(&self, index: usize) -> candle_vision::data::Result<Sample> {
            let label = self.0[index].first().copied().unwrap_or(0);
            Ok(Sample::new(Image::new(1, 1, 1, vec![0])?, label))
        }
        fn classes(&self) -> &[String] {
            &self.1
        }
        fn label_set(&self, index: usize) -> Vec<u32> {
            self.0[index].clone()
        }
        fn is_multi_label(&self) -> bool {
            true
        }
    }

    fn line_of(
        set: impl Dataset + 'static,
        sampler: Arc<dyn Sampler>,
        loss: impl Loss + 'static,
    ) -> Option<String> {
        let transform = Compose::new().with(ToTensor);
        let train = DataLoader::new(Arc::new(set), transform, LoaderConfig::new(4), Device::Cpu);
        let train = train.and_then(|train| train.with_sampler(sampler)).expect("a loader");
        imbalance(&train, &*with_counts_of(Box::new(loss), &train))
    }

    fn line(few: usize, sampler: Arc<dyn Sampler>, loss: impl Loss + 'static) -> Option<String> {
        let rows: Vec<u32> = (0..24 + few).map(|i| u32::from(i >= 24)).collect();
        let rows: Vec<(u8, u32)> = rows.into_iter().map(|label| (0, label)).collect();
        let set = Samples::new(["many", "few"], rows, |_| Image::new(1, 1, 1, vec![0]));
        line_of(set, sampler, loss)
    }

    #[test]
    fn all_labels_of_an_image_count() {
        // The first label of all but the last images is the same.
        let set = || {
            let labels = |i| match i {
                0..4 => vec![0, 1],
                4..16 => vec![0],
                _ => vec![],
            };
            let classes = ["often", "rarely"].map(str::to_owned);
            Sets((0..20).map(labels).collect(), classes.to_vec())
        };
        let line = |sampler| line_of(set(), sampler, BinaryCrossEntropy::new()).expect("a line");
        let begins = "imbalance: 4.0 to 1 (often 16, rarely 4); ";
        let told = line(Arc::new(Shuffled::new()));
        assert!(told.starts_with(begins) && told.contains("`pos_weight` of the loss"), "{told}");
        // 16 of 20 images have a label: eight turns of each class, in all of which the first is seen.
        let told = line(Arc::new(Balanced::new()));
        assert!(told.starts_with(&format!("{begins}the sampler `balanced` shows them ")), "{told}");
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
