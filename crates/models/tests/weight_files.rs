//! Weight files in the forms that people have: `weight_files/make.py` wrote them with PyTorch.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Result, Tensor};
use candle_vision_models::weights::{LoadReport, Strictness, WeightFile, load, read};
use candle_vision_models::{Model, ModelSpec, build};

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/weight_files").join(name)
}

fn mlp(num_classes: usize) -> Result<Box<dyn Model>> {
    build(&ModelSpec::new("mlp", num_classes).input([1, 2, 2]), 7, &Device::Cpu)
}

fn values(model: &dyn Model, path: &str) -> Result<Vec<f32>> {
    let parameter = model.parameters().get(path).expect("the network has this parameter");
    parameter.detached().flatten_all()?.to_vec1()
}

/// As `numbers` in `make.py`.
fn expected(count: usize) -> Vec<f32> {
    (0..count).map(|i| ((i % 61) as f32 - 30.0) / 4.0).collect()
}

/// Loads a file into a network of three classes and checks every value.
#[track_caller]
fn loads(name: &str) -> LoadReport {
    let check = || -> Result<LoadReport> {
        let model = mlp(3)?;
        let report = WeightFile::read(file(name))?.load(model.as_ref(), Strictness::Strict)?;
        for (path, count) in [
            ("layer1.weight", 512),
            ("layer1.bias", 128),
            ("layer2.weight", 384),
            ("layer2.bias", 3),
        ] {
            assert_eq!(values(model.as_ref(), path)?, expected(count), "{name}: {path}");
        }
        Ok(report)
    };
    check().unwrap_or_else(|error| panic!("{name}: {error}"))
}

#[track_caller]
fn says(report: &LoadReport, parts: &[&str]) {
    let text = report.to_string();
    for part in parts {
        assert!(text.contains(part), "`{part}` is not in: {text}");
    }
    assert!(!text.contains('\n'), "{text}");
}

/// Fails to read or to load, in one line that has these parts.
#[track_caller]
fn fails(name: &str, parts: &[&str]) {
    let model = mlp(3).expect("a network");
    let before = values(model.as_ref(), "layer1.weight").expect("values");
    let result =
        WeightFile::read(file(name)).and_then(|read| read.load(model.as_ref(), Strictness::Strict));
    let message = result.expect_err(name).to_string();
    for part in parts {
        assert!(message.contains(part), "{name}: `{part}` is not in: {message}");
    }
    assert!(!message.contains('\n'), "{message}");
    assert_eq!(values(model.as_ref(), "layer1.weight").expect("values"), before);
}

#[test]
fn plain_weights_of_every_protocol_are_read() {
    for name in [
        "plain.pth",
        "of_module.pth",
        "parameters.pth",
        "protocol3.pth",
        "protocol4.pth",
        "protocol5.pth",
        "legacy_plain.pth",
        "big_endian.pth",
        "deflated.pth",
        "legacy_shared_storage.pth",
        "shared_storage.pth",
        "transposed.pth",
    ] {
        assert_eq!(loads(name).to_string(), "4 tensors matched", "{name}");
    }
}

#[test]
fn weights_within_a_dictionary_are_found_and_said() {
    says(&loads("model.bin"), &["found under `model`"]);
    says(&loads("net_params.pth"), &["found under `net.params`"]);
    says(&loads("ema_only.pth"), &["found under `state_dict_ema`"]);
    let with_optimizer = loads("model_state_dict.ckpt");
    says(&with_optimizer, &["found under `model_state_dict`", "beside optimizer_state_dict"]);
    for name in ["state_dict.pth.tar", "full_protocol4.pth", "legacy_full.pth.tar"] {
        let report = loads(name);
        says(&report, &["found under `state_dict`", "`module.` left off their names", "model_ema"]);
        assert!(report.left_out.is_empty() && report.unexpected.is_empty());
    }
}

#[test]
fn prefixes_are_left_off_and_said() {
    says(&loads("compiled_parallel"), &["`module._orig_mod.` left off"]);
    let lightning = loads("lightning.ckpt");
    says(
        &lightning,
        &["found under `state_dict`", "`model.` left off", "1 left out (criterion.weight)"],
    );
    says(&loads("backbone_and_head.pth"), &["`backbone.` left off", "head called `classifier`"]);
    says(&loads("momentum_twin.pth"), &["`encoder_q.` left off", "4 left out (encoder_k."]);
}

#[test]
fn any_common_prefix_and_inner_wrappers_are_left_off() -> Result<()> {
    let plain = read(&file("plain.pth"))?;
    let renamed = |change: &dyn Fn(&str) -> String| -> HashMap<String, Tensor> {
        plain.iter().map(|(name, tensor)| (change(name), tensor.clone())).collect()
    };
    for prefix in ["encoder.", "net.", "network.", "model.module.", "student.backbone.body."] {
        let tensors = renamed(&|name| format!("{prefix}{name}"));
        let report = load(mlp(3)?.as_ref(), &tensors, Strictness::Strict)?;
        assert_eq!(report.prefix.as_deref(), Some(prefix));
    }
    // `DataParallel` around one part of a network.
    let tensors = renamed(&|name| name.replace("layer1.", "layer1.module."));
    let report = load(mlp(3)?.as_ref(), &tensors, Strictness::Strict)?;
    assert_eq!(report.prefix.as_deref(), Some("module."));
    // Two networks that are as good as each other.
    let mut twins = renamed(&|name| format!("left.{name}"));
    twins.extend(renamed(&|name| format!("right.{name}")));
    let message =
        load(mlp(3)?.as_ref(), &twins, Strictness::Strict).expect_err("two networks").to_string();
    assert!(message.contains("`left.` and under `right.`"), "{message}");
    Ok(())
}

#[test]
fn a_trainers_tensors_are_no_weights() -> Result<()> {
    let mut tensors = read(&file("plain.pth"))?;
    for name in ["optimizer.momentum.layer1.weight", "ema.layer1.weight", "history.loss"] {
        tensors.insert(name.to_owned(), Tensor::zeros(3, DType::F64, &Device::Cpu)?);
    }
    let report = load(mlp(3)?.as_ref(), &tensors, Strictness::Strict)?;
    assert_eq!((report.matched.len(), report.left_out.len()), (4, 3));
    Ok(())
}

#[test]
fn a_head_under_another_name_is_the_head() -> Result<()> {
    says(
        &loads("sequential_head.pth"),
        &["4 tensors matched", "head called `layer2.1` in the file"],
    );
    let tensors = read(&file("sequential_head.pth"))?;
    let report = load(mlp(5)?.as_ref(), &tensors, Strictness::ExceptHead)?;
    assert_eq!((report.matched.len(), report.new_head.len()), (2, 2));
    let plain = read(&file("plain.pth"))?;
    for head in ["fc", "classifier", "head.fc", "last_linear", "whatever"] {
        let rename = |name: &String| name.replace("layer2", head);
        let tensors: HashMap<String, Tensor> =
            plain.iter().map(|(name, tensor)| (rename(name), tensor.clone())).collect();
        let model = mlp(3)?;
        let report = load(model.as_ref(), &tensors, Strictness::Strict)?;
        assert_eq!(report.head_in_file.as_deref(), Some(head));
        assert_eq!(values(model.as_ref(), "layer2.weight")?, expected(384));
    }
    Ok(())
}

#[test]
fn a_head_of_several_layers_or_none_is_replaced_or_refused() -> Result<()> {
    let tensors = read(&file("head_of_two.pth"))?;
    let report = load(mlp(3)?.as_ref(), &tensors, Strictness::ExceptHead)?;
    assert_eq!((report.matched.len(), report.new_head.len(), report.left_out.len()), (2, 2, 4));
    fails(
        "head_of_two.pth",
        &["2 missing (layer2.weight, layer2.bias)", "4 unexpected (fc.0.bias"],
    );
    let report = load(mlp(3)?.as_ref(), &read(&file("no_head.pth"))?, Strictness::ExceptHead)?;
    assert_eq!((report.matched.len(), report.new_head.len()), (2, 2));
    fails("no_head.pth", &["2 missing (layer2.weight, layer2.bias)", "no head"]);
    Ok(())
}

#[test]
fn floats_of_other_sizes_are_converted_and_said() {
    says(&loads("half.pth"), &["converted from F16"]);
    says(&loads("bfloat16.pth"), &["converted from BF16"]);
    says(&loads("double.pth"), &["converted from F64"]);
    fails("integers.pth", &["`layer1.weight` holds I16 integers", "quantized"]);
}

#[test]
fn every_number_type_and_view_is_read() -> Result<()> {
    for name in ["types.pth", "legacy_types.pth"] {
        let tensors = read(&file(name))?;
        let get = |key: &str| -> Result<Vec<f64>> {
            tensors[key].flatten_all()?.to_dtype(DType::F64)?.to_vec1()
        };
        for key in ["f64", "f16", "bf16", "tied"] {
            assert_eq!(get(key)?, [1.5, -2.0], "{name}: {key}");
        }
        for key in ["i64", "i32", "i16", "i8"] {
            assert_eq!(get(key)?, [1.0, -2.0], "{name}: {key}");
        }
        assert_eq!(get("u8")?, [1.0, 254.0]);
        assert_eq!(get("bool")?, [1.0, 0.0]);
        assert_eq!((tensors["scalar"].rank(), get("scalar")?), (0, vec![3.5]));
        assert_eq!(tensors["empty"].dims(), [0, 4]);
        assert_eq!((tensors["expanded"].dims(), get("expanded")?), (&[2, 3][..], vec![2.5; 6]));
        let plain: Vec<f64> = expected(24).into_iter().map(f64::from).collect();
        assert_eq!(get("channels_last")?, plain, "{name}");
        assert_eq!(get("offset")?, [3.0, 5.0, 7.0, 9.0]);
    }
    Ok(())
}

#[test]
fn what_is_no_weight_file_is_named_with_a_remedy() {
    let save = "torch.save(model.state_dict()";
    fails("whole_network.pth", &["a whole pickled network (`__main__.Network`)", save]);
    fails("legacy_network.pth", &["a whole pickled network (`__main__.Network`)", save]);
    fails("whole_in_dictionary.pth", &["a whole pickled network (`__main__.Network`)", save]);
    fails("torchscript.pt", &["TorchScript program (`Network`)", "torch.save("]);
    fails("quantized.pth", &["`layer1.weight` is quantized", "dequantize"]);
    fails("sparse.pth", &["`layer1.weight` is sparse", "to_dense"]);
    fails("complex.pth", &["`layer1.weight`", "Complex"]);
    fails("optimizer.pth", &["an optimizer's state and no weights", "model.state_dict()"]);
    fails("one_tensor.pth", &["one tensor"]);
    fails("nothing.pth", &["no tensors by name"]);
    fails("evil_system.pth", &["would call `posix.system`"]);
    fails("evil_eval.pth", &["would call `__builtin__.eval`"]);
    assert!(!Path::new("/tmp/candle-vision-was-here").exists());
}

#[test]
fn other_files_under_the_name_of_weights_are_told_apart() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let check = |name: &str, bytes: &[u8], expected: &str| -> Result<()> {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes)?;
        let message = read(&path).expect_err(name).to_string();
        assert!(message.contains(expected) && message.contains(name), "{message}");
        assert!(!message.contains('\n'), "{message}");
        Ok(())
    };
    check("a.pth", b"", "it is empty")?;
    check("b.pth", b"<!DOCTYPE html>\n<html><body>Sign in</body></html>", "HTML page")?;
    check(
        "c.safetensors",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12\n",
        "git lfs pull",
    )?;
    check("d.bin", b"\xff\xd8\xff\xe0\x00\x10JFIF\x00", "JPEG")?;
    check("e.h5", b"\x89HDF\r\n\x1a\n\x00\x00\x00\x00", "HDF5")?;
    check("f.onnx", b"\x08\x08\x12\x07pytorch\x1a\x052.1.0:", "ONNX")?;
    check("g.json", b"{\"weight_map\": {}}", "JSON")?;
    check(
        "h.pkl",
        b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00}\x94\x8c\x01a\x94K\x01s.",
        "plain pickle",
    )?;
    check(
        "i.tar",
        &[b"x".repeat(257).as_slice(), b"ustar\x0000", &[0; 300]].concat(),
        "tar archive",
    )?;
    let message = read(folder.path()).expect_err("a folder").to_string();
    assert!(message.contains("it is a folder"), "{message}");
    Ok(())
}

#[test]
fn the_name_of_a_file_does_not_matter() -> Result<()> {
    let folder = tempfile::tempdir()?;
    for name in ["weights", "weights.safetensors", "weights.png", "weights.pth.tar"] {
        let path = folder.path().join(name);
        std::fs::copy(file("plain.pth"), &path)?;
        assert_eq!(read(&path)?.len(), 4);
        candle_core::safetensors::save(&read(&file("plain.pth"))?, &path)?;
        assert_eq!(read(&path)?.len(), 4);
    }
    Ok(())
}

#[test]
fn a_file_that_is_cut_short_says_so() -> Result<()> {
    let folder = tempfile::tempdir()?;
    for name in ["plain.pth", "legacy_plain.pth"] {
        let bytes = std::fs::read(file(name))?;
        let path = folder.path().join(name);
        for len in [10, bytes.len() / 2, bytes.len() - 1] {
            std::fs::write(&path, &bytes[..len])?;
            let message = read(&path).expect_err("cut short").to_string();
            assert!(message.contains("cut short"), "{name} at {len}: {message}");
        }
    }
    Ok(())
}

#[test]
fn a_cast_that_fails_leaves_the_network_as_it_was() -> Result<()> {
    let model = mlp(3)?;
    let before = values(model.as_ref(), "layer1.weight")?;
    let mut tensors = read(&file("plain.pth"))?;
    // The last of the parameters cannot take what the file holds for it.
    tensors.insert("layer2.bias".to_owned(), Tensor::zeros(3, DType::U8, &Device::Cpu)?);
    assert!(load(model.as_ref(), &tensors, Strictness::Strict).is_err());
    assert_eq!(values(model.as_ref(), "layer1.weight")?, before);
    // Its own tensors share memory with it.
    let own: HashMap<String, Tensor> =
        candle_vision_models::weights::tensors(model.parameters()).into_iter().collect();
    load(model.as_ref(), &own, Strictness::Strict)?;
    assert_eq!(values(model.as_ref(), "layer1.weight")?, before);
    Ok(())
}

/// Thousands of damaged files: an error or weights, never a panic, and memory in proportion to the file.
#[test]
fn damaged_files_never_panic() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("damaged");
    let mut random = Random(1);
    for (name, rounds) in [
        ("plain.pth", 300),
        ("types.pth", 300),
        ("legacy_plain.pth", 1200),
        ("legacy_types.pth", 1500),
        ("legacy_full.pth.tar", 300),
        ("torchscript.pt", 100),
    ] {
        let bytes = std::fs::read(file(name))?;
        for _ in 0..rounds {
            std::fs::write(&path, random.damaged(&bytes))?;
            if let Err(error) = read(&path) {
                let message = error.to_string();
                assert!(message.contains("damaged") && !message.contains('\n'), "{message}");
            }
        }
    }
    let tensors = read(&file("types.pth"))?;
    candle_core::safetensors::save(&tensors, &path)?;
    let bytes = std::fs::read(&path)?;
    for _ in 0..1000 {
        std::fs::write(&path, random.damaged(&bytes))?;
        drop(read(&path));
    }
    Ok(())
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % below.max(1) as u64) as usize
    }

    /// Bytes changed, left out, doubled or cut off; mostly near the start, where the structure is.
    fn damaged(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut damaged = bytes.to_vec();
        for _ in 0..=self.next(4) {
            let near = if self.next(2) == 0 { damaged.len() } else { damaged.len().min(1500) };
            let at = self.next(near);
            let end = (at + 1 + self.next(40)).min(damaged.len());
            match self.next(6) {
                0 => damaged.truncate(at),
                1 => drop(damaged.drain(at..end)),
                2 => {
                    let copy = damaged[at..end].to_vec();
                    let to = self.next(damaged.len());
                    drop(damaged.splice(to..to, copy));
                }
                3 => damaged[at..end].fill([0, 0xff, b'(', b'}', b'h'][self.next(5)]),
                _ if !damaged.is_empty() => damaged[at] = self.next(256) as u8,
                _ => {}
            }
            if damaged.is_empty() {
                return damaged;
            }
        }
        damaged
    }
}
