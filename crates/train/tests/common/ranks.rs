//! Ranks that are threads of a test.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use candle_core::{DType, Device, Tensor};
use candle_vision_data::samplers::{Population, Sampler};
use candle_vision_data::{LoaderConfig, Share};
use candle_vision_distributed::{Communicator, threads};
use candle_vision_models::{Model, ModelSpec, build};
use candle_vision_train::{
    Checkpoint, Control, Description, Error, Event, RunFolder, Trainer, TrainerBuilder,
    TrainerConfig, TrainingResult,
};

use super::*;

/// One rank of a run.
pub(crate) struct Rank {
    pub(crate) communicator: Arc<dyn Communicator>,
    /// Images per batch of all ranks together.
    pub(crate) batch: usize,
    pub(crate) images: usize,
    pub(crate) device: Device,
    pub(crate) architecture: &'static str,
    /// Whether each rank reads files of its own.
    pub(crate) own_files: bool,
}

/// Gives each rank samples of its own, as shards do.
#[derive(Debug)]
struct OwnFiles;

impl Sampler for OwnFiles {
    fn order(&self, population: &Population, _: u64, _: usize) -> Vec<usize> {
        (0..population.len()).collect()
    }

    fn orders_of_ranks(
        &self,
        population: &Population,
        _: u64,
        _: usize,
        ranks: usize,
    ) -> Option<Vec<Vec<usize>>> {
        let own = |rank| (rank..population.len()).step_by(ranks).collect();
        Some((0..ranks).map(own).collect())
    }

    fn files_of_ranks(&self, _: &Population) -> Option<usize> {
        Some(100)
    }

    fn describe(&self) -> Description {
        Description::named("own_files")
    }
}

impl Rank {
    pub(crate) fn network(&self) -> Box<dyn Model> {
        // Only rank 0 has the weights of the run.
        network_of(self.architecture, self.communicator.rank() as u64, &self.device)
    }

    pub(crate) fn train(
        &self,
        config: &TrainerConfig,
        folder: Option<&RunFolder>,
        from: Option<&Checkpoint>,
        on_event: impl FnMut(&Event<'_>) -> Control,
    ) -> Result<(TrainingResult, HashMap<String, Tensor>), Error> {
        self.train_changed(config, folder, from, on_event, |trainer| trainer)
    }

    /// The same with a trainer that was changed.
    pub(crate) fn train_changed(
        &self,
        config: &TrainerConfig,
        folder: Option<&RunFolder>,
        from: Option<&Checkpoint>,
        on_event: impl FnMut(&Event<'_>) -> Control,
        change: impl for<'a> FnOnce(TrainerBuilder<'a>) -> TrainerBuilder<'a>,
    ) -> Result<(TrainingResult, HashMap<String, Tensor>), Error> {
        let (rank, ranks) = (self.communicator.rank(), self.communicator.size());
        let own = LoaderConfig::new(self.batch / ranks).shuffle(true).seed(3).workers(0);
        let mut train = loader_on(&self.device, Halves::new(self.images, 0), own);
        if self.own_files {
            train = train.with_sampler(Arc::new(OwnFiles))?;
        }
        let train = train.share(Share::Samples { rank, ranks })?;
        let val = loader_on(&self.device, Halves::new(10, 1000), LoaderConfig::new(4));
        let val = val.share(Share::Batches { rank, ranks })?;
        let model = self.network();
        let builder = Trainer::builder(model.as_ref()).data(&train, &val).config(config.clone());
        let builder = builder.communicator(Arc::clone(&self.communicator));
        let mut trainer = change(builder).build()?;
        if let Some(folder) = folder {
            trainer = trainer.run_folder(folder);
        }
        if let Some(from) = from {
            trainer.resume(from)?;
        }
        let done = trainer.run_with(&mut [&mut Watch(on_event)], &AtomicBool::new(false))?;
        let all = model.parameters().all();
        let tensors = all.iter().map(|p| (p.path().to_owned(), p.detached().copy()));
        let tensors = tensors.map(|(path, tensor)| Ok((path, tensor?)));
        Ok((done, tensors.collect::<Result<_, candle_core::Error>>()?))
    }
}

const RESIDUAL: &str = "resnet20_cifar";

pub(crate) fn residual(seed: u64, device: &Device) -> Box<dyn Model> {
    network_of(RESIDUAL, seed, device)
}

fn network_of(architecture: &str, seed: u64, device: &Device) -> Box<dyn Model> {
    let spec = ModelSpec::new(architecture, 2).input([3, SIDE, SIDE]);
    build(&spec, seed, device).expect("a network")
}

/// What `work` gives on each of so many ranks. Each computes in a pool of its own.
pub(crate) fn on_ranks<T: Send>(
    ranks: usize,
    (batch, images): (usize, usize),
    work: impl Fn(Rank) -> T + Sync,
) -> Vec<T> {
    on_devices(&vec![Device::Cpu; ranks], (batch, images), work)
}

/// The same with a rank on each of these devices.
pub(crate) fn on_devices<T: Send>(
    devices: &[Device],
    (batch, images): (usize, usize),
    work: impl Fn(Rank) -> T + Sync,
) -> Vec<T> {
    let work = &work;
    std::thread::scope(|scope| {
        let ranks: Vec<_> = threads(devices.len())
            .into_iter()
            .zip(devices)
            .map(|(rank, device)| {
                let device = device.clone();
                let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a pool");
                let communicator = Arc::new(rank);
                let rank = Rank {
                    communicator,
                    batch,
                    images,
                    device,
                    architecture: RESIDUAL,
                    own_files: false,
                };
                scope.spawn(move || pool.install(|| work(rank)))
            })
            .collect();
        ranks.into_iter().map(|rank| rank.join().expect("no panic")).collect()
    })
}

pub(crate) fn quiet(_: &Event<'_>) -> Control {
    Control::Continue
}

pub(crate) fn largest_difference(a: &HashMap<String, Tensor>, b: &HashMap<String, Tensor>) -> f64 {
    let difference = |path: &String| -> Result<f64, candle_core::Error> {
        let wide = |x: &Tensor| x.to_dtype(DType::F64)?.flatten_all();
        (wide(&a[path])? - wide(&b[path])?)?.abs()?.max(0)?.to_scalar()
    };
    assert_eq!(a.len(), b.len());
    a.keys().map(|path| difference(path).expect("one shape")).fold(0.0, f64::max)
}

pub(crate) fn same_bits(a: &HashMap<String, Tensor>, b: &HashMap<String, Tensor>) -> bool {
    a.iter().all(|(path, tensor)| tensor_bits(tensor) == tensor_bits(&b[path]))
}
