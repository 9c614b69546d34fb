//! Runs that leave out too many images to mean anything.

mod common;

use std::sync::Arc;

use candle_core::Device;
use candle_vision_data::transforms::{Compose, ToTensor};
use candle_vision_data::{DataLoader, Dataset, Error as DataError, LoaderConfig, Sample};
use candle_vision_train::{Error, Trainer, evaluate};
use common::{Halves, Runs, network, recipe};

const ADAM: &str = "epochs = 1\noptimizer = { name = 'adam', lr = 0.003 }";

/// Halves of which several cannot be read.
struct Broken {
    whole: Halves,
    broken: Vec<usize>,
}

impl Dataset for Broken {
    fn len(&self) -> usize {
        self.whole.len()
    }

    fn sample(&self, index: usize) -> Result<Sample, DataError> {
        if self.broken.contains(&index) {
            let (name, reason) = (self.name(index), "it is cut short".to_owned());
            return Err(DataError::BrokenImage { name, reason });
        }
        self.whole.sample(index)
    }

    fn classes(&self) -> &[String] {
        self.whole.classes()
    }

    fn label(&self, index: usize) -> u32 {
        self.whole.label(index)
    }

    fn name(&self, index: usize) -> String {
        self.whole.name(index)
    }

    fn fingerprint(&self) -> String {
        self.whole.fingerprint()
    }
}

fn loader(count: usize, broken: &[usize], workers: usize) -> DataLoader {
    let data = Broken { whole: Halves::new(count, 0), broken: broken.to_vec() };
    let config = LoaderConfig::new(4).skip_broken(true).workers(workers);
    let transform = Compose::new().with(ToTensor);
    DataLoader::new(Arc::new(data), transform, config, Device::Cpu).unwrap()
}

fn run(train: &DataLoader, val: &DataLoader) -> Result<(), Error> {
    let (runs, model) = (Runs::new(), network(0));
    let folder = runs.create();
    let mut trainer =
        Trainer::new(model.as_ref(), train, val, recipe(ADAM)).unwrap().run_folder(&folder);
    let result = trainer.run().map(|_| ());
    assert_eq!(folder.best().exists(), result.is_ok(), "a result was told of");
    result
}

#[test]
fn a_class_without_a_image_left_ends_the_run() {
    for workers in [0, 2] {
        // Of 40 images the odd ones are of the second class; four of six are broken in `val`.
        let (train, val) = (loader(60, &[], workers), loader(6, &[1, 3, 5], workers));
        match run(&train, &val) {
            Err(Error::ClassSkipped { class, count: 3, last }) => {
                assert_eq!((class.as_str(), last.reason.as_str()), ("lower", "it is cut short"));
            }
            other => panic!("{other:?}"),
        }
        let (train, val) = (loader(6, &[0, 2, 4], workers), loader(60, &[], workers));
        let error = run(&train, &val).expect_err("`upper` is gone");
        assert!(
            error.to_string().starts_with("the class `upper` has lost all its images (3)"),
            "{error}"
        );
    }
}

#[test]
fn more_than_a_tenth_of_both_splits_together_ends_the_run() {
    assert!(run(&loader(12, &[4], 0), &loader(8, &[2], 0)).is_ok());
    match run(&loader(12, &[4, 7], 0), &loader(8, &[2], 0)) {
        Err(Error::TooManySkipped { skipped: 3, total: 20, .. }) => {}
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_evaluation_notices_a_class_that_is_gone() {
    let evaluated = |broken: &[usize]| evaluate(network(0).as_ref(), &loader(4, broken, 0)).run();
    assert_eq!(evaluated(&[1]).unwrap().predictions.len(), 3);
    assert!(matches!(evaluated(&[1, 3]), Err(Error::ClassSkipped { count: 2, .. })));
    assert!(matches!(evaluated(&[0, 1, 2, 3]), Err(Error::ClassSkipped { .. })));
}
