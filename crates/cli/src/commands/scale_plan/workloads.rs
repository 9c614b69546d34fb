//! What can be planned by name.

use anyhow::{Result, bail};
use candle_vision::registry::did_you_mean;

/// A training run of the literature's size.
#[derive(Debug, Clone)]
pub(crate) struct Workload {
    pub(crate) name: &'static str,
    pub(crate) network: String,
    pub(crate) images: usize,
    pub(crate) epochs: usize,
    /// Images of each rank in a step.
    pub(crate) batch_size: usize,
    /// Mean size of an image file in KiB.
    pub(crate) image_kib: f64,
    /// The largest batch of all ranks together for which there is a recipe, and where that is from.
    pub(crate) largest_batch: usize,
    pub(crate) source: &'static str,
}

/// All of them. Another one is another row.
pub(crate) fn all() -> Vec<Workload> {
    // The archive of ImageNet's training images has 137.9 GB.
    const IMAGENET_IMAGES: usize = 1_281_167;
    const IMAGENET_KIB: f64 = 105.0;
    vec![
        Workload {
            name: "resnet50-imagenet",
            network: "resnet50".to_owned(),
            images: IMAGENET_IMAGES,
            epochs: 90,
            batch_size: 32,
            image_kib: IMAGENET_KIB,
            largest_batch: 8192,
            source: "Goyal et al. 2017",
        },
        Workload {
            name: "vit-b-billion",
            network: "vit_b_16".to_owned(),
            images: 1_000_000_000,
            epochs: 1,
            batch_size: 64,
            image_kib: IMAGENET_KIB,
            largest_batch: 4096,
            source: "Dosovitskiy et al. 2021",
        },
    ]
}

/// The one of this name.
///
/// # Errors
/// If there is none.
pub(crate) fn named(name: &str) -> Result<Workload> {
    if let Some(found) = all().into_iter().find(|workload| workload.name == name) {
        return Ok(found);
    }
    let names: Vec<&str> = all().iter().map(|workload| workload.name).collect();
    let near = did_you_mean(name, names.iter().copied());
    bail!("no workload is called `{name}`; there are {}{near}", names.join(", "))
}
