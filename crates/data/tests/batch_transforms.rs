//! MixUp, CutMix and the choice between them: torchvision's values, the statistics of the draws, and the same bits for
//! any number of workers.

use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use candle_vision_data::batch_transforms::*;
use candle_vision_data::transforms::{Compose, ComposeDescription, RandomHorizontalFlip, ToTensor};
use candle_vision_data::{
    DataLoader, Dataset, Generator, Image, LoaderConfig, Result, Sample, Samples, Share, random,
};

const DRAWS: usize = 20_000;

/// 11 images of 6x8 pixels and 3 channels. Those of a class are alike in no pixel.
fn images() -> impl Dataset + use<> {
    let rows = (0..11_u32).map(|i| (i, i % 3)).collect::<Vec<_>>();
    Samples::new(["a", "b", "c"], rows, |&i| {
        Image::new(8, 6, 3, (0..144).map(|place| ((place * 7 + i * 31) % 256) as u8).collect())
    })
}

fn loader(workers: usize, transforms: Vec<Arc<dyn BatchTransform>>) -> DataLoader {
    let transform = Compose::new().with(RandomHorizontalFlip::default()).with(ToTensor);
    let config = LoaderConfig::new(4).shuffle(true).seed(5).workers(workers);
    let loader = DataLoader::new(Arc::new(images()), transform, config, Device::Cpu).unwrap();
    loader.with_batch_transforms(transforms).unwrap()
}

fn choice() -> Vec<Arc<dyn BatchTransform>> {
    let choice = RandomChoice::new().with(MixUp::new(0.4), 1.0).with(CutMix::new(1.0), 1.0);
    vec![Arc::new(choice), Arc::new(MixUp::new(1.0))]
}

fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

fn contents(loader: &DataLoader, epoch: usize, first: usize) -> Vec<[Vec<f32>; 2]> {
    let content = |batch: Result<candle_vision_data::Batch>| {
        let batch = batch.unwrap();
        // The layout that networks take without a copy.
        assert!(batch.images.permute((0, 2, 3, 1)).unwrap().is_contiguous());
        [values(&batch.images), values(&batch.targets.expect("targets"))]
    };
    loader.epoch_from(epoch, first).map(content).collect()
}

#[test]
fn any_number_of_workers_gives_the_same_bits() {
    let expected = [0, 1].map(|epoch| contents(&loader(0, choice()), epoch, 0));
    assert_ne!(expected[0][0][1], expected[1][0][1], "each epoch has its own draws");
    for workers in [1, 2, 8] {
        let loader = loader(workers, choice());
        assert_eq!([0, 1].map(|epoch| contents(&loader, epoch, 0)), expected);
        assert_eq!(contents(&loader, 1, 2), expected[1][2..], "from the middle of an epoch");
    }
}

/// ```python
/// images = torch.arange(12.).reshape(3, 1, 2, 2) * 0.37 - 1.1
/// v2.MixUp(num_classes=3).transform(images, dict(lam=lam, labels=labels, batch_size=3))
/// ```
/// is `images.roll(1, 0).mul_(1.0 - lam).add_(images.mul(lam))`. With `lam = 0.3` the first values are 0.972000002861023,
/// 1.3420000076293945, 1.7119998931884766, as here.
#[test]
fn mixup_has_torchvision_s_values() {
    let images = (Tensor::arange(0f32, 12.0, &Device::Cpu).unwrap() * 0.37).unwrap() - 1.1;
    let images = images.unwrap().reshape((3, 1, 2, 2)).unwrap();
    let targets = Tensor::new(&[[0f32, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], &Device::Cpu);
    let batch = BatchValues { images, targets: targets.unwrap() };
    let mix_up = MixUp::new(0.7);
    let rng = || random::generator(11);
    let share = mix_up.draw(&mut rng());
    let mixed = mix_up.apply(batch.clone(), &mut rng()).unwrap();
    let (own, other) = (share as f32, (1.0 - share) as f32);
    let before = values(&batch.images);
    let expected: Vec<f32> =
        (0..12).map(|i| before[(i + 8) % 12] * other + before[i] * own).collect();
    assert_eq!(values(&mixed.images), expected);
    assert_eq!(values(&mixed.targets), [0.0, other, own, own, 0.0, other, other, own, 0.0]);
    let by_torchvision = [0.972_f32, 1.342, 1.712];
    for (i, expected) in by_torchvision.into_iter().enumerate() {
        assert!((before[i + 8] * 0.7 + before[i] * 0.3 - expected).abs() < 1e-6);
    }
}

#[test]
fn half_precision_images_stay_so() {
    for transform in [&MixUp::default() as &dyn BatchTransform, &CutMix::default()] {
        for dtype in [DType::F16, DType::BF16] {
            let images = Tensor::ones((4, 3, 6, 8), dtype, &Device::Cpu).unwrap();
            let targets = Tensor::ones((4, 2), DType::F32, &Device::Cpu).unwrap();
            let batch = BatchValues { images, targets };
            let mixed = transform.apply(batch, &mut random::generator(2)).unwrap();
            assert_eq!((mixed.images.dtype(), mixed.targets.dtype()), (dtype, DType::F32));
            let largest = |tensor: &Tensor| {
                let difference = (tensor.to_dtype(DType::F32).unwrap() - 1.0).unwrap().abs();
                values(&difference.unwrap()).into_iter().fold(0.0, f32::max)
            };
            // Two roundings of numbers up to 1 with 8 bits.
            assert!(largest(&mixed.images) < 0.01 && largest(&mixed.targets) < 1e-6);
        }
    }
}

/// Mean and variance over 100,000 draws of `v2.CutMix(alpha=alpha).make_params([images])["lam_adjusted"]` for images of
/// 24x36 pixels.
#[test]
fn boxes_have_the_shares_of_torchvision_s() {
    for (alpha, mean, variance) in [(1.0, 0.70403, 0.03316), (0.3, 0.72079, 0.05283)] {
        let cut_mix = CutMix::new(alpha);
        let mut rng = random::generator(8);
        let share = |rng: &mut Generator| {
            let cut = cut_mix.draw([24, 36], rng);
            assert!(cut.top + cut.height <= 24 && cut.left + cut.width <= 36);
            cut.share_outside([24, 36])
        };
        let shares: Vec<f64> = (0..DRAWS).map(|_| share(&mut rng)).collect();
        let found = shares.iter().sum::<f64>() / DRAWS as f64;
        let spread = shares.iter().map(|share| (share - found).powi(2)).sum::<f64>() / DRAWS as f64;
        // Five standard errors of 20,000 draws and of torchvision's 100,000.
        let error = 5.0 * (variance / DRAWS as f64 * 1.2).sqrt();
        assert!((found - mean).abs() < error, "{alpha}: {found}");
        assert!((spread - variance).abs() < error, "{alpha}: {spread}");
    }
}

/// Marks a batch by its targets.
#[derive(Debug)]
struct Mark(f64);

impl BatchTransform for Mark {
    fn apply(&self, batch: BatchValues, _rng: &mut Generator) -> Result<BatchValues> {
        let targets = batch.targets.affine(0.0, self.0)?;
        Ok(BatchValues { targets, ..batch })
    }
}

#[test]
fn choices_go_by_their_weights() {
    let choice = RandomChoice::new().with(Mark(0.0), 1.0).with(Mark(1.0), 0.0).with(Mark(2.0), 3.0);
    let images = Tensor::zeros((1, 1, 1, 1), DType::F32, &Device::Cpu).unwrap();
    let targets = Tensor::zeros((1, 1), DType::F32, &Device::Cpu).unwrap();
    let mut rng = random::generator(1);
    let mut counts = [0; 3];
    for _ in 0..4000 {
        let batch = BatchValues { images: images.clone(), targets: targets.clone() };
        counts[values(&choice.apply(batch, &mut rng).unwrap().targets)[0] as usize] += 1;
    }
    // 3000 expected, with a deviation of 27.
    assert!(counts[1] == 0 && (2860..3140).contains(&counts[2]), "{counts:?}");
}

#[test]
fn a_batch_of_one_has_nothing_to_be_mixed_with() {
    let (plain, mixed) = (loader(0, Vec::new()), loader(0, choice()));
    // 11 images in batches of 5 leave one alone.
    let last = |mut loader: DataLoader| {
        loader.set_batch_size(5).unwrap();
        loader.epoch(0).last().unwrap().unwrap()
    };
    let (plain, mixed) = (last(plain), last(mixed));
    assert_eq!(mixed.indices.len(), 1);
    assert_eq!(values(&mixed.images), values(&plain.images));
    assert!(plain.targets.is_none());
    let label = plain.labels.to_vec1::<u32>().unwrap()[0] as usize;
    assert_eq!(values(&mixed.targets.unwrap())[label], 1.0);
}

#[test]
fn draws_can_be_replayed() {
    let loader = loader(2, vec![Arc::new(Mark(1.0)), Arc::new(MixUp::new(1.0))]);
    let plain = DataLoader::new(
        Arc::clone(loader.dataset()),
        loader.transform().clone(),
        loader.config().clone(),
        Device::Cpu,
    );
    let (mixed, plain) = (loader.epoch(3).nth(1), plain.unwrap().epoch(3).nth(1));
    let (mixed, plain) = (mixed.unwrap().unwrap(), plain.unwrap().unwrap());
    let share = MixUp::new(1.0).draw(&mut loader.batch_rng(3, 1, 1));
    let found = values(&mixed.images.get(1).unwrap());
    let [own, before] = [1, 0].map(|i| values(&plain.images.get(i).unwrap()));
    for (found, (own, before)) in found.iter().zip(own.iter().zip(&before)) {
        let expected = f64::from(*own) * share + f64::from(*before) * (1.0 - share);
        assert!((f64::from(*found) - expected).abs() < 1e-6);
    }
}

/// Each of two ranks mixes its own part of a batch, by the same share.
#[test]
fn ranks_have_the_same_draws() {
    let of_rank = |rank| {
        let loader =
            loader(0, vec![Arc::new(MixUp::new(1.0))]).share(Share::Samples { rank, ranks: 2 });
        let loader = loader.unwrap();
        let share = MixUp::new(1.0).draw(&mut loader.batch_rng(2, 1, 0)) as f32;
        let batch = loader.epoch(2).nth(1).unwrap().unwrap();
        let (targets, labels) = (values(&batch.targets.unwrap()), batch.labels.to_vec1::<u32>());
        let (labels, mut expected) = (labels.unwrap(), vec![0.0; targets.len()]);
        for image in 0..labels.len() {
            let before = (image + labels.len() - 1) % labels.len();
            expected[image * 3 + labels[image] as usize] += share;
            expected[image * 3 + labels[before] as usize] += 1.0 - share;
        }
        for (found, expected) in targets.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-6);
        }
        share
    };
    assert_eq!(of_rank(0), of_rank(1));
}

/// Images of several labels or none.
struct Several(Vec<String>);

impl Dataset for Several {
    fn len(&self) -> usize {
        4
    }

    fn sample(&self, index: usize) -> Result<Sample> {
        Ok(Sample::new(Image::new(1, 1, 1, vec![index as u8])?, self.label(index)))
    }

    fn classes(&self) -> &[String] {
        &self.0
    }

    fn label(&self, index: usize) -> u32 {
        self.label_set(index).first().copied().unwrap_or(0)
    }

    fn label_set(&self, index: usize) -> Vec<u32> {
        [vec![1], vec![0, 2], vec![], vec![0, 1, 2]][index].clone()
    }

    fn is_multi_label(&self) -> bool {
        true
    }
}

#[test]
fn several_labels_are_targets_and_are_mixed() {
    let set = || Arc::new(Several(["a", "b", "c"].map(str::to_owned).to_vec()));
    let transform = Compose::new().with(ToTensor);
    let loader = DataLoader::new(set(), transform, LoaderConfig::new(4), Device::Cpu).unwrap();
    let targets = |loader: &DataLoader| {
        let batch = loader.epoch(0).next().unwrap().unwrap();
        batch.targets.unwrap().to_vec2::<f32>().unwrap()
    };
    let sets = [[0.0, 1.0, 0.0], [1.0, 0.0, 1.0], [0.0; 3], [1.0; 3]];
    assert_eq!(targets(&loader), sets);
    let share = MixUp::new(1.0).draw(&mut loader.batch_rng(0, 0, 0)) as f32;
    let loader = loader.with_batch_transforms(vec![Arc::new(MixUp::new(1.0))]).unwrap();
    let mixed = targets(&loader);
    assert!((mixed[2][0] - (1.0 - share)).abs() < 1e-6 && mixed[2][1] == 0.0, "{mixed:?}");
}

/// Leaves an image out.
#[derive(Debug)]
struct Short;

impl BatchTransform for Short {
    fn apply(&self, batch: BatchValues, _rng: &mut Generator) -> Result<BatchValues> {
        Ok(BatchValues { images: batch.images.narrow(0, 1, 3)?, ..batch })
    }
}

#[test]
fn a_transform_that_loses_an_image_is_named() {
    let error = loader(2, vec![Arc::new(Short)]).epoch(0).next().unwrap().unwrap_err();
    let error = error.to_string();
    assert!(error.starts_with("transform `Short`: gave images [3, 3, 6, 8]"), "{error}");
    assert_eq!(error.lines().count(), 1);
}

fn parse(list: &str) -> ComposeDescription {
    #[derive(serde::Deserialize)]
    struct Recipe {
        list: ComposeDescription,
    }
    toml::from_str::<Recipe>(&format!("list = {list}")).unwrap().list
}

#[test]
fn a_recipe_names_them_and_gets_every_setting_back() {
    let table = BatchTransforms::standard();
    let filled = |list: &str| describe_all(&table.build_all(&parse(list)).unwrap());
    assert_eq!(filled("[{ op = 'mixup' }]"), parse("[{ op = 'mixup', alpha = 1.0 }]"));
    let whole = "[{ op = 'random_choice', p = [1.0, 1.0], \
                 transforms = [{ op = 'mixup', alpha = 0.2 }, { op = 'cutmix', alpha = 1.0 }] }]";
    let short = "[{ op = 'random_choice', transforms = [{ op = 'mixup', alpha = 0.2 }, { op = 'cutmix' }] }]";
    assert_eq!(filled(short), parse(whole));
    assert_eq!(filled(whole), parse(whole));
}

#[test]
fn bad_settings_are_one_line() {
    let check = |list: &str, words: &str| {
        let error = BatchTransforms::standard().build_all(&parse(list)).err();
        let error = error.unwrap_or_else(|| panic!("{list}")).to_string();
        assert!(error.contains(words) && error.lines().count() == 1, "{list}: {error}");
    };
    check(
        "[{ op = 'mixup', alpha = 0.0 }]",
        "transform `mixup`: `alpha` is 0; give a number above 0",
    );
    check("[{ op = 'cutmix', alpha = -1.0 }]", "transform `cutmix`: `alpha` is -1");
    check("[{ op = 'cutmix', alpha = nan }]", "`alpha` must be a finite number");
    check("[{ op = 'mixup', alfa = 1.0 }]", "unknown field `alfa`; did you mean `alpha`");
    check("[{ op = 'mix' }]", "no batch transform is called `mix`; did you mean `mixup`");
    check("[{ op = 'random_choice', transforms = [] }]", "`transforms` is empty");
    let two = |p: &str| {
        format!(
            "[{{ op = 'random_choice', p = {p}, transforms = [{{ op = 'mixup' }}, {{ op = 'cutmix' }}] }}]"
        )
    };
    check(&two("[1.0]"), "`p` has 1 numbers for 2 transforms");
    check(&two("[0.0, 0.0]"), "give numbers that are not negative, and one above 0");
    check(
        "[{ op = 'random_choice', transforms = [{ op = 'mixup', alpha = -1 }] }]",
        "transform `mixup`",
    );
}
