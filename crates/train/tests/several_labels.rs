//! Images of several labels or none: metrics with scikit-learn's values, and a run that learns.

mod common;

use std::sync::Arc;

use candle_core::{Device, Result as TensorResult, Tensor};
use candle_vision_data::batch_transforms::MixUp;
use candle_vision_data::transforms::{Compose, Normalize, ToTensor};
use candle_vision_data::{DataLoader, Dataset, Error, Image, LoaderConfig, Sample};
use candle_vision_models::{ModelSpec, build};
use candle_vision_train::loss::{BinaryCrossEntropy, CrossEntropy};
use candle_vision_train::metrics::{
    Average, ExactMatch, MacroF1, MeanAveragePrecision, Metric, MultiLabelF1,
};
use candle_vision_train::optim::Adam;
use candle_vision_train::tta::TestTimeAugmentation;
use candle_vision_train::{Trainer, TrainerConfig, evaluate};
use common::SIDE;

/// Noise, with a bright band for each label: in the upper rows, in the lower rows.
struct Bands {
    count: usize,
    first: usize,
    classes: Vec<String>,
}

impl Bands {
    fn new(count: usize, first: usize) -> Self {
        Self { count, first, classes: ["upper", "lower"].map(str::to_owned).to_vec() }
    }
}

impl Dataset for Bands {
    fn len(&self) -> usize {
        self.count
    }

    fn sample(&self, index: usize) -> Result<Sample, Error> {
        let labels = self.label_set(index);
        let pixel = |i: usize| {
            let half = u32::from(i >= SIDE * SIDE * 3 / 2);
            let noise = (((self.first + index) * 7919 + i * 104_729) % 61) as u8;
            if labels.contains(&half) { 160 + noise } else { 20 + noise }
        };
        let pixels = (0..SIDE * SIDE * 3).map(pixel).collect();
        Ok(Sample::new(Image::new(SIDE, SIDE, 3, pixels)?, self.label(index)))
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn label(&self, index: usize) -> u32 {
        self.label_set(index).first().copied().unwrap_or(0)
    }

    fn label_set(&self, index: usize) -> Vec<u32> {
        [vec![], vec![0], vec![1], vec![0, 1]][index % 4].clone()
    }

    fn is_multi_label(&self) -> bool {
        true
    }
}

fn loader(count: usize, first: usize, shuffle: bool) -> DataLoader {
    let transform = Compose::new().with(ToTensor).with(Normalize::new([0.5; 3], [0.25; 3]));
    let config = LoaderConfig::new(8).shuffle(shuffle);
    DataLoader::new(Arc::new(Bands::new(count, first)), transform, config, Device::Cpu).unwrap()
}

fn config() -> TrainerConfig {
    TrainerConfig::new(8, Adam::new(0.01)).loss(BinaryCrossEntropy::new())
}

#[test]
fn a_run_learns_each_label_by_itself() {
    let model = build(&ModelSpec::new("mlp", 2).input([3, SIDE, SIDE]), 0, &Device::Cpu).unwrap();
    let (train, val) = (loader(48, 0, true), loader(16, 1000, false));
    let done = Trainer::builder(model.as_ref())
        .data(&train, &val)
        .config(config().monitor("mean_average_precision"))
        .metric(MeanAveragePrecision::new())
        .metric(MultiLabelF1::new())
        .metric(ExactMatch::new())
        .run()
        .unwrap();
    let last = done.history.epochs.last().unwrap();
    assert!(last.val_loss < 0.5 * done.history.epochs[0].train_loss, "{last:?}");
    assert!(last.metrics["mean_average_precision"] > 0.95, "{last:?}");
    assert!(last.metrics["multi_label_f1"] > 0.9, "{last:?}");
    assert_eq!(last.metrics["exact_match"], last.val_accuracy);
    assert!(last.train_accuracy > 0.8, "{last:?}");

    let evaluation = evaluate(model.as_ref(), &val).run().unwrap();
    assert_eq!(evaluation.accuracy, last.val_accuracy);
    assert!((evaluation.loss - last.val_loss).abs() < 1e-9);
    let mean = evaluation.predictions.iter().map(|prediction| prediction.loss).sum::<f64>() / 16.0;
    assert!((mean - evaluation.loss).abs() < 1e-9);
    assert!(evaluation.confusion.iter().flatten().all(|&count| count == 0));
}

#[test]
fn several_labels_can_be_mixed() {
    let model = build(&ModelSpec::new("mlp", 2).input([3, SIDE, SIDE]), 0, &Device::Cpu).unwrap();
    let train = loader(48, 0, true).with_batch_transforms(vec![Arc::new(MixUp::new(0.2))]).unwrap();
    let val = loader(16, 1000, false);
    let done = Trainer::new(model.as_ref(), &train, &val, config()).unwrap().run().unwrap();
    let epochs = &done.history.epochs;
    // An untrained network has about ln 2. Of mixed labels some loss stays, which differs with the shares.
    assert!(epochs[7].train_loss < 0.5 && epochs[7].val_accuracy > 0.9, "{epochs:?}");
}

#[test]
fn what_is_made_for_one_label_is_refused() {
    let model = build(&ModelSpec::new("mlp", 2).input([3, SIDE, SIDE]), 0, &Device::Cpu).unwrap();
    let (train, val) = (loader(16, 0, true), loader(8, 1000, false));
    let builder = || Trainer::builder(model.as_ref()).data(&train, &val).config(config());
    let error = builder().loss(CrossEntropy::new()).build().err().unwrap().to_string();
    let begins = "the loss `cross_entropy` takes one label for each image, but the targets are several labels";
    assert!(error.starts_with(begins) && error.contains("use `binary_cross_entropy`"), "{error}");
    let error = builder().metric(MacroF1::new()).build().err().unwrap().to_string();
    assert!(error.starts_with("the metric `macro_f1` takes one label"), "{error}");
    assert!(error.contains("use `mean_average_precision`"), "{error}");
}

/// The logits and labels of the metrics' reference values.
struct Known(Vec<String>);

const LOGITS: [[f32; 3]; 6] = [
    [2.0, -1.0, 0.5],
    [0.5, 1.5, 0.5],
    [-0.3, 0.2, -2.0],
    [1.0, -0.5, 0.5],
    [-1.0, 3.0, -0.1],
    [0.2, -2.0, 0.4],
];
const SETS: [&[u32]; 6] = [&[0, 2], &[1], &[], &[0, 1, 2], &[1], &[0]];

impl Dataset for Known {
    fn len(&self) -> usize {
        6
    }

    fn sample(&self, index: usize) -> Result<Sample, Error> {
        Ok(Sample::new(Image::new(1, 1, 1, vec![index as u8])?, self.label(index)))
    }

    fn classes(&self) -> &[String] {
        &self.0
    }

    fn label(&self, index: usize) -> u32 {
        SETS[index].first().copied().unwrap_or(0)
    }

    fn label_set(&self, index: usize) -> Vec<u32> {
        SETS[index].to_vec()
    }

    fn is_multi_label(&self) -> bool {
        true
    }
}

/// Answers with the known logits, whatever the network says. A pixel is the number of its image.
#[derive(Debug)]
struct Answering;

impl TestTimeAugmentation for Answering {
    fn views(&self, images: &Tensor) -> TensorResult<Vec<(Tensor, f64)>> {
        Ok(vec![(images.clone(), 1.0)])
    }

    fn logits(
        &self,
        images: &Tensor,
        _forward: &mut dyn FnMut(&Tensor) -> TensorResult<Tensor>,
    ) -> TensorResult<Tensor> {
        let pixels = (images.flatten_all()? * 255.0)?.to_vec1::<f32>()?;
        let rows = pixels.iter().map(|pixel| LOGITS[pixel.round() as usize].to_vec());
        Tensor::new(rows.collect::<Vec<_>>(), &Device::Cpu)
    }
}

/// scikit-learn 1.9, with the logits `S` and the labels `Y` as rows of 0 and 1:
/// ```python
/// average_precision_score(Y, S)                       # 0.833333333333
/// f1_score(Y, S > 0, average="macro")                 # 0.730158730159
/// f1_score(Y, S > 0, average="micro")                 # 0.736842105263
/// accuracy_score(Y, S > 0)                            # 0.333333333333
/// F.binary_cross_entropy_with_logits(S, Y)            # torch, 0.497166641214
/// ```
#[test]
fn metrics_have_scikit_learn_s_values() {
    let model = build(&ModelSpec::new("mlp", 3).input([1, 1, 1]), 0, &Device::Cpu).unwrap();
    let set = Known(["a", "b", "c"].map(str::to_owned).to_vec());
    let transform = Compose::new().with(ToTensor);
    let config = LoaderConfig::new(4);
    let loader = DataLoader::new(Arc::new(set), transform, config, Device::Cpu).unwrap();
    let mut metrics: Vec<Box<dyn Metric>> = vec![
        Box::new(MeanAveragePrecision::new()),
        Box::new(MultiLabelF1::new()),
        Box::new(MultiLabelF1::new().average(Average::Micro)),
        Box::new(ExactMatch::new()),
    ];
    let answering = Answering;
    let tta: &dyn TestTimeAugmentation = &answering;
    let evaluation =
        evaluate(model.as_ref(), &loader).metrics(&mut metrics).tta(tta).run().unwrap();
    let expected = [0.833_333_333_333, 0.730_158_730_159, 0.736_842_105_263, 0.333_333_333_333];
    for (metric, expected) in metrics.iter().zip(expected) {
        assert!((metric.value() - expected).abs() < 1e-9, "{}: {}", metric.name(), metric.value());
    }
    assert_eq!(evaluation.accuracy, metrics[3].value());
    assert_eq!((evaluation.right(), evaluation.is_multi_label()), (2, true));
    // precision_recall_fscore_support(Y, S > 0)
    let third = 1.0 / 3.0;
    let expected = [(0.75, 1.0, 3), (2.0 * third, 2.0 * third, 3), (0.5, 1.0, 2)];
    for (scores, (precision, recall, support)) in evaluation.class_scores().iter().zip(expected) {
        assert!((scores.precision.unwrap() - precision).abs() < 1e-12, "{scores:?}");
        assert!((scores.recall.unwrap() - recall).abs() < 1e-12, "{scores:?}");
        assert_eq!(scores.support, support);
    }
    // The most probable classes of the third image and the last are none of their labels.
    let named = evaluation.predictions.iter().filter(|prediction| prediction.names_a_label());
    assert_eq!(named.count(), 4);
    assert!((evaluation.loss - 0.497166641214).abs() < 1e-6, "{}", evaluation.loss);
}
