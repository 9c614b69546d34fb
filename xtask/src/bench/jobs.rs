//! The jobs to measure, by the names that both sides use. There are jobs for a CPU and jobs for a card,
//! with sizes that keep the card busy.

mod cards;

use super::Group;
use cards::CARD_JOBS;

/// A job that both sides can run.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) name: &'static str,
    pub(super) group: Group,
    pub(super) what: &'static str,
    /// PyTorch's modes for it.
    modes: &'static [&'static str],
}

/// This project's mode in which a card takes plain training steps where it would repeat a captured one.
pub(super) const OURS_PLAIN: &str = "ours_plain";

/// What a driver has kept of the code it compiled, when the start of a process is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cache {
    /// Nothing, as on a new machine.
    Empty,
    /// All of it: the process was started before.
    Filled,
}

/// Groups that take long and are measured only if they are asked for.
const ONLY_IF_ASKED: [Group; 2] = [Group::Families, Group::Tutorial];

const EAGER: &[&str] = &["eager"];
const BOTH_FORMATS: &[&str] = &["eager", "channels_last"];
const INFERENCE: &[&str] = &["eager", "channels_last", "compile", "compile_channels_last"];
const DATA: &[&str] = &["pil", "tensor"];

/// Suffix of the name of a job that does the same with a loader.
const LOADED: &str = "_loaded";

const JOBS: [Job; 13] = [
    Job {
        name: "resnet18_train_b16_224",
        group: Group::Train,
        what: "ResNet18, training step, batch 16, 224x224",
        modes: BOTH_FORMATS,
    },
    Job {
        name: "resnet18_train_b64_32",
        group: Group::Train,
        what: "ResNet18, training step, batch 64, 32x32",
        modes: BOTH_FORMATS,
    },
    Job {
        name: "resnet18_frozen_b16_224",
        group: Group::Train,
        what: "ResNet18, only fc trains, batch 16, 224x224",
        modes: BOTH_FORMATS,
    },
    Job {
        name: "simple_cnn_train_b64_32",
        group: Group::Train,
        what: "CIFAR CNN, training step, batch 64, 32x32",
        modes: BOTH_FORMATS,
    },
    Job {
        name: "mlp_train_b64_28",
        group: Group::Train,
        what: "MLP 784-128-10, training step, batch 64",
        modes: EAGER,
    },
    Job {
        name: "mobilenet_v2_train_b16_224",
        group: Group::Train,
        what: "MobileNetV2, training step, batch 16, 224x224",
        modes: BOTH_FORMATS,
    },
    Job {
        name: "resnet50_train_b16_224",
        group: Group::Train,
        what: "ResNet50, training step, batch 16, 224x224",
        modes: BOTH_FORMATS,
    },
    Job {
        name: "resnet18_infer_b16_224",
        group: Group::Infer,
        what: "ResNet18, inference, batch 16, 224x224",
        modes: INFERENCE,
    },
    Job {
        name: "resnet18_infer_b1_224",
        group: Group::Infer,
        what: "ResNet18, inference, batch 1, 224x224",
        modes: INFERENCE,
    },
    Job {
        name: "resnet18_gradcam_b1_224",
        group: Group::Explain,
        what: "ResNet18, Grad-CAM, batch 1, 224x224",
        modes: BOTH_FORMATS,
    },
    Job {
        name: "jpeg_load_224",
        group: Group::Data,
        what: "JPEG, RandomResizedCrop 224, flip, normalise; per image",
        modes: DATA,
    },
    Job {
        name: "jpeg_decoded_load_224",
        group: Group::Data,
        what: "The same, decoded into a file before (PyTorch: from JPEG); per image",
        modes: DATA,
    },
    Job {
        name: "jpeg_cached_load_224",
        group: Group::Data,
        what: "The same, decoded into memory before (PyTorch: from JPEG); per image",
        modes: DATA,
    },
];

/// A training step and an inference of a network, with batches of 16.
macro_rules! family {
    ($network:literal, $name:literal, $side:literal) => {
        [
            Job {
                name: concat!($network, "_train_b16_", $side),
                group: Group::Families,
                what: concat!($name, ", training step, batch 16, ", $side, "x", $side),
                modes: BOTH_FORMATS,
            },
            Job {
                name: concat!($network, "_infer_b16_", $side),
                group: Group::Families,
                what: concat!($name, ", inference, batch 16, ", $side, "x", $side),
                modes: INFERENCE,
            },
        ]
    };
}

/// A small network of each family; those of [`JOBS`] are left out.
const FAMILIES: [[Job; 2]; 18] = [
    family!("alexnet", "AlexNet", "224"),
    family!("vgg11", "VGG-11", "224"),
    family!("squeezenet1_1", "SqueezeNet 1.1", "224"),
    family!("googlenet", "GoogLeNet", "224"),
    family!("inception_v3", "Inception v3", "299"),
    family!("resnext50_32x4d", "ResNeXt50 32x4d", "224"),
    family!("densenet121", "DenseNet121", "224"),
    family!("shufflenet_v2_x1_0", "ShuffleNet v2 x1.0", "224"),
    family!("mnasnet1_0", "MNASNet 1.0", "224"),
    family!("mobilenet_v3_large", "MobileNetV3 large", "224"),
    family!("regnet_y_400mf", "RegNetY 400MF", "224"),
    family!("efficientnet_b0", "EfficientNet-B0", "224"),
    family!("efficientnet_v2_s", "EfficientNetV2 S", "224"),
    family!("efficientnet_lite0", "EfficientNet-Lite0", "224"),
    family!("convnext_tiny", "ConvNeXt tiny", "224"),
    family!("vit_b_16", "ViT-B/16", "224"),
    family!("vit_small_patch14_dinov2", "DINOv2 ViT-S/14", "224"),
    family!("swin_t", "Swin T", "224"),
];

/// The jobs of a group, or of all groups, for a card or for a CPU.
pub(super) fn of(group: Option<Group>, card: bool) -> Vec<&'static Job> {
    let families = FAMILIES.as_flattened();
    let (jobs, families): (&'static [Job], _) =
        if card { (&CARD_JOBS, &[][..]) } else { (&JOBS, families) };
    let jobs = jobs.iter().chain(families);
    jobs.filter(|job| match group {
        Some(group) => job.group == group,
        None => !ONLY_IF_ASKED.contains(&job.group),
    })
    .collect()
}

impl Job {
    /// PyTorch's modes. Those that compile are included only if asked for.
    pub(super) fn modes(&self, compile: bool) -> impl Iterator<Item = &'static str> {
        const COMPILING: [&str; 2] = ["compile", "reduce_overhead"];
        let compiles = |mode: &str| COMPILING.iter().any(|kind| mode.starts_with(kind));
        self.modes.iter().copied().filter(move |mode| compile || !compiles(mode))
    }

    /// This project's modes beside the usual one.
    pub(super) fn own_modes(&self) -> &'static [&'static str] {
        let is_of_card = CARD_JOBS.iter().any(|job| job.name == self.name);
        let trains = [Group::Train, Group::Tutorial].contains(&self.group);
        if is_of_card && trains { &[OURS_PLAIN] } else { &[] }
    }

    /// The cache of the driver, if the job is the start of a process.
    pub(super) fn start(&self) -> Option<Cache> {
        let caches = [("_empty_cache", Cache::Empty), ("_filled_cache", Cache::Filled)];
        caches.into_iter().find(|(end, _)| self.name.ends_with(end)).map(|(_, cache)| cache)
    }
}

/// The name of the job that does the same without a loader, if the job called `name` has one.
pub(super) fn without_loader(name: &'static str) -> Option<&'static str> {
    name.strip_suffix(LOADED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_know_every_job() {
        let ours = [
            include_str!("../../../crates/cli/benches/jobs/main.rs"),
            include_str!("../../../crates/cli/benches/jobs/cards.rs"),
        ];
        let torch = include_str!("../../bench/torch_jobs.py");
        for Job { name, modes, .. } in JOBS.iter().chain(&CARD_JOBS).chain(FAMILIES.as_flattened())
        {
            let listed = ours.iter().any(|ours| ours.contains(&format!("(\"{name}\", ")));
            assert!(listed || is_of_a_network(name), "{name}");
            assert_eq!(torch.contains(&format!("\"{name}\": (")), listed, "{name}");
            for mode in *modes {
                assert!(torch.contains(&format!("\"{mode}\"")), "{mode} of {name}");
            }
        }
        // Both sides find the others by their names' ends.
        assert!(ours[1].contains("pub(crate) const JOBS: [Job; 26]") && CARD_JOBS.len() == 26);
    }

    /// Both sides make such a job from its name.
    fn is_of_a_network(name: &str) -> bool {
        let parts: Vec<&str> = name.rsplitn(4, '_').collect();
        let [side, batch, kind, _network] = parts[..] else { return false };
        let batch = batch.strip_prefix('b').is_some_and(|batch| batch.parse::<usize>().is_ok());
        side.parse::<usize>().is_ok() && batch && ["train", "infer"].contains(&kind)
    }

    #[test]
    fn families_are_measured_only_if_they_are_asked_for() {
        assert!(of(None, false).iter().all(|job| job.group != Group::Families));
        assert_eq!(of(Some(Group::Families), false).len(), 36);
    }

    #[test]
    fn compiling_is_asked_for() {
        let job = of(Some(Group::Infer), false)[0];
        assert_eq!(job.modes(false).collect::<Vec<_>>(), ["eager", "channels_last"]);
        assert_eq!(job.modes(true).count(), 4);
        let job = of(Some(Group::Infer), true)[0];
        let both = ["eager", "channels_last", "cuda_graph", "cuda_graph_channels_last"];
        assert_eq!(job.modes(false).collect::<Vec<_>>(), both);
        assert_eq!(job.modes(true).count(), 8);
    }

    #[test]
    fn plain_steps_and_starts_are_told_by_the_job() {
        let job = |name: &str| CARD_JOBS.iter().find(|job| job.name == name).unwrap();
        let of_job = |name| (job(name).own_modes(), job(name).start());
        assert_eq!(of_job("resnet18_train_b64_32_adam_f32"), (&[OURS_PLAIN][..], None));
        assert_eq!(of_job("resnet18_infer_b1_224_f32"), (&[][..], None));
        assert_eq!(of_job("resnet18_start_b1_224_empty_cache"), (&[][..], Some(Cache::Empty)));
        assert_eq!(of_job("resnet18_start_b1_224_filled_cache"), (&[][..], Some(Cache::Filled)));
        assert!(of(Some(Group::Train), false).iter().all(|job| job.own_modes().is_empty()));
    }

    #[test]
    fn a_card_has_jobs_of_its_own() {
        let names = |group, card| of(group, card).iter().map(|job| job.name).collect::<Vec<_>>();
        assert_eq!((names(None, false).len(), names(None, true).len()), (13, 25));
        let training = names(Some(Group::Train), true);
        for size in ["b64_224", "b256_224", "b512_32"] {
            for end in ["f32", "bf16", "bf16_loaded"] {
                let name = format!("resnet18_train_{size}_{end}");
                assert!(training.contains(&name.as_str()), "{name}");
            }
        }
        assert_eq!(training.len(), 12);
        assert_eq!(names(Some(Group::Tutorial), true), ["cifar10_resnet18_40_epochs"]);
        assert_eq!(names(Some(Group::Data), true), [""; 0]);
        assert!(names(None, true).iter().all(|name| !names(None, false).contains(name)));
    }

    #[test]
    fn a_job_with_a_loader_has_one_without() {
        let jobs = of(None, true);
        let with: Vec<_> = jobs.iter().filter_map(|job| without_loader(job.name)).collect();
        assert_eq!(with.len(), 3);
        for name in with {
            assert!(jobs.iter().any(|job| job.name == name), "{name}");
        }
    }
}
