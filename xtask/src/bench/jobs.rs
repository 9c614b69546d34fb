//! The jobs that are measured, as both sides call them.

use super::Group;

/// A piece of work that both sides know how to do.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) name: &'static str,
    pub(super) group: Group,
    pub(super) what: &'static str,
    /// PyTorch's ways to do it.
    modes: &'static [&'static str],
}

const EAGER: &[&str] = &["eager"];
const BOTH_FORMATS: &[&str] = &["eager", "channels_last"];
const INFERENCE: &[&str] = &["eager", "channels_last", "compile", "compile_channels_last"];
const DATA: &[&str] = &["pil", "tensor"];

pub(super) const JOBS: [Job; 11] = [
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
        what: "JPEG, RandomResizedCrop 224, flip, normalise; per picture",
        modes: DATA,
    },
];

impl Job {
    /// PyTorch's modes, those that compile only if asked for.
    pub(super) fn modes(&self, compile: bool) -> impl Iterator<Item = &'static str> {
        self.modes.iter().copied().filter(move |mode| compile || !mode.starts_with("compile"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_know_every_job() {
        let ours = include_str!("../../../crates/cli/benches/jobs/main.rs");
        let torch = include_str!("../../bench/torch_jobs.py");
        for Job { name, modes, .. } in &JOBS {
            assert!(ours.contains(&format!("(\"{name}\", ")), "{name}");
            assert!(torch.contains(&format!("\"{name}\": (")), "{name}");
            for mode in *modes {
                assert!(torch.contains(&format!("\"{mode}\"")), "{mode} of {name}");
            }
        }
    }

    #[test]
    fn compiling_is_asked_for() {
        let job = JOBS.iter().find(|job| job.group == Group::Infer).unwrap();
        assert_eq!(job.modes(false).collect::<Vec<_>>(), ["eager", "channels_last"]);
        assert_eq!(job.modes(true).count(), 4);
    }
}
