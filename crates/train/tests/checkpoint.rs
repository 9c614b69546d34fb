//! Checkpoints as files: what any program can read of them, and what is said of files that are none.

mod common;

use std::collections::HashMap;
use std::path::Path;

use candle_core::{Device, Tensor};
use candle_vision_models::{Model, ModelSpec, Networks, build, weights};
use candle_vision_train::{Checkpoint, CheckpointMetadata, Error, FORMAT_VERSION};
use common::*;

fn metadata(model: &dyn Model) -> CheckpointMetadata {
    let classes = vec!["upper".to_owned(), "lower".to_owned()];
    let preprocessing = val_loader().transform().describe();
    CheckpointMetadata {
        epoch: 7,
        val_accuracy: Some(0.1 + 0.2),
        val_loss: Some(1.0 / 3.0),
        seed: u64::MAX,
        ..CheckpointMetadata::new(model.spec().clone(), classes, preprocessing)
    }
}

/// A checkpoint of a network in a folder of its own.
fn saved() -> (tempfile::TempDir, std::path::PathBuf, Box<dyn Model>) {
    let folder = tempfile::tempdir().unwrap();
    let (path, model) = (folder.path().join("best.safetensors"), network(4));
    Checkpoint::of(model.as_ref(), metadata(model.as_ref())).save(&path).unwrap();
    (folder, path, model)
}

#[track_caller]
fn check_refused(path: &Path, expected: &str) {
    let error = Checkpoint::load(path).expect_err("this is no checkpoint").to_string();
    assert!(error.contains(expected) && error.contains(path.to_str().unwrap()), "{error}");
}

#[test]
fn what_is_saved_comes_back() {
    let (_folder, path, model) = saved();
    let checkpoint = Checkpoint::load(&path).unwrap();
    assert_eq!(checkpoint.metadata, metadata(model.as_ref()));
    assert_eq!(checkpoint.metadata.format_version, FORMAT_VERSION);
    let other = network(5);
    checkpoint.restore(other.as_ref()).unwrap();
    for parameter in model.parameters().all() {
        let restored = other.parameters().get(parameter.path()).unwrap();
        assert_eq!(tensor_bits(&restored.detached()), tensor_bits(&parameter.detached()));
    }
}

#[test]
fn more_classes_than_numbers_are_damage() {
    let (_folder, path, model) = saved();
    let mut many = metadata(model.as_ref());
    many.model.num_classes = 4_000_000_000_000;
    Checkpoint::of(model.as_ref(), many).save(&path).unwrap();
    let built = Checkpoint::load(&path).unwrap().model(&Networks::standard(), &Device::Cpu);
    let Err(error) = built else { panic!("no memory has room for it") };
    let error = error.to_string();
    assert!(error.contains("is damaged") && error.contains("4000000000000 classes"), "{error}");
}

#[test]
fn the_same_network_gives_the_same_bytes() {
    let (_a, first, model) = saved();
    let second = first.with_file_name("again.safetensors");
    Checkpoint::of(model.as_ref(), metadata(model.as_ref())).save(&second).unwrap();
    assert_eq!(std::fs::read(first).unwrap(), std::fs::read(second).unwrap());
}

#[test]
fn any_program_reads_the_weights() {
    let (_folder, path, model) = saved();
    let report = weights::load(
        network(6).as_ref(),
        &weights::read(&path).unwrap(),
        weights::Strictness::Strict,
    );
    assert_eq!(report.unwrap().matched.len(), model.parameters().all().len());
}

#[test]
fn another_network_is_named_with_this_one() {
    let (_folder, path, _) = saved();
    let mlp = build(&ModelSpec::new("mlp", 10), 0, &Device::Cpu).unwrap();
    let error = Checkpoint::load(&path).unwrap().restore(mlp.as_ref()).unwrap_err().to_string();
    let expected =
        "is a checkpoint of `gap_cnn_deep` with 2 classes, expected `mlp` with 10 classes";
    assert!(error.ends_with(expected), "{error}");
}

#[test]
fn a_tensor_that_is_missing_leaves_the_network_as_it_was() {
    let (_folder, path, _) = saved();
    let mut checkpoint = Checkpoint::load(&path).unwrap();
    checkpoint.tensors.remove("fc.bias");
    let model = network(8);
    let before =
        tensor_bits(&model.parameters().get("conv1.weight").unwrap().detached().copy().unwrap());
    let error = checkpoint.restore(model.as_ref()).unwrap_err();
    assert!(matches!(error, Error::Weights { .. }), "{error}");
    let after = tensor_bits(&model.parameters().get("conv1.weight").unwrap().detached());
    assert_eq!(before, after);
}

#[test]
fn plain_weights_are_no_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("resnet18.safetensors");
    let tensor = Tensor::new(&[1f32], &Device::Cpu).unwrap();
    candle_core::safetensors::save(&HashMap::from([("fc.bias", tensor)]), &path).unwrap();
    check_refused(&path, "is no checkpoint of candle-vision");
}

#[test]
fn other_files_are_no_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notes.safetensors");
    std::fs::write(&path, "a text that someone renamed").unwrap();
    check_refused(&path, "is no checkpoint of candle-vision");
    std::fs::write(&path, "").unwrap();
    check_refused(&path, "damaged or cut short");
    check_refused(&folder.path().join("missing.safetensors"), "cannot read");
}

#[test]
fn a_cut_file_is_damaged_wherever_it_is_cut() {
    let (_folder, path, _) = saved();
    let whole = std::fs::read(&path).unwrap();
    let cut = path.with_file_name("cut.safetensors");
    for length in [1, 7, 8, 9, 100, 1000, whole.len() / 2, whole.len() - 1] {
        std::fs::write(&cut, &whole[..length]).unwrap();
        check_refused(&cut, "damaged or cut short");
    }
    std::fs::write(&cut, [&whole[..], b"more"].concat()).unwrap();
    check_refused(&cut, "damaged or cut short");
}

#[test]
fn a_damaged_header_is_an_error() {
    let (_folder, path, _) = saved();
    let whole = std::fs::read(&path).unwrap();
    let header = 8..8 + u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    let changed = path.with_file_name("changed.safetensors");
    // Every seventh byte of the header becomes a bracket in turn: some of that is still JSON, and
    // then a name or number has changed, but nothing may panic.
    for place in header.step_by(7) {
        let mut bytes = whole.clone();
        bytes[place] = b'[';
        std::fs::write(&changed, bytes).unwrap();
        if let Ok(checkpoint) = Checkpoint::load(&changed) {
            let _ = checkpoint.restore(network(1).as_ref());
        }
    }
}

#[test]
fn a_newer_format_asks_for_an_update() {
    let (_folder, path, model) = saved();
    let newer =
        CheckpointMetadata { format_version: FORMAT_VERSION + 1, ..metadata(model.as_ref()) };
    Checkpoint::of(model.as_ref(), newer).save(&path).unwrap();
    check_refused(&path, "has checkpoint format 2, this program reads up to 1");
}
