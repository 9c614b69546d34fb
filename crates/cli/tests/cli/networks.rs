//! Published networks by name: lists, weights, and the commands that take them.

use std::collections::HashMap;

use candle_core::{Device, Tensor};
use candle_vision::models::weights::{tensors, to_safetensors, to_torch};
use candle_vision::models::{Model, ModelSpec, Pass, build};
use serde_json::Value;

use crate::support::Place;

const PHOTO: &str = "photos/val/ants/00.jpg";
const NETWORK: &str = "mobilenet_v2";

fn network() -> Box<dyn Model> {
    build(&ModelSpec::new(NETWORK, 1000), 1, &Device::Cpu).expect("a network")
}

/// A place with images, and weights of the network in its data folder.
fn place_with_weights() -> Place {
    let place = Place::new();
    place.write_images("photos");
    let bytes = to_safetensors(tensors(network().parameters())).expect("weights");
    place.write(&format!("data/weights/{NETWORK}.safetensors"), bytes);
    place
}

#[test]
fn networks_are_listed_with_their_weights() {
    let place = Place::new();
    let run = place.run(&["models", "resnet50"]).succeeds();
    for text in ["resnet50", "IMAGENET1K_V2", "80.86 %", "25.56 M", "4.09 G"] {
        assert!(run.stdout.contains(text), "{text}: {}", run.stdout);
    }
    let run = place.run(&["models", "alexnet", "--json"]).succeeds();
    let line: Value =
        serde_json::from_str(run.stdout.lines().next().expect("a line")).expect("JSON");
    assert_eq!(line["weights"][0]["parameters"], 61_100_840);
    place.run(&["models", "resnet5x"]).fails(&["no network has `resnet5x`", "did you mean"]);
}

/// What nobody published is counted; what cannot be counted is `null`.
#[test]
fn every_network_is_listed_with_its_costs() {
    let place = Place::new();
    let run = place.run(&["models", "mlp"]).succeeds();
    assert_eq!(run.stdout.matches("0.10 M").count(), 2, "{}", run.stdout);
    let run = place.run(&["models", "--json"]).succeeds();
    for line in run.stdout.lines() {
        let line: Value = serde_json::from_str(line).expect("JSON");
        let weights = line["weights"].as_array().expect("a list").iter();
        for costs in std::iter::once(&line).chain(weights) {
            for field in ["parameters", "multiply_adds"] {
                assert!(costs[field].as_u64().is_some_and(|n| n > 0), "{field}: {line}");
            }
            for field in ["bytes", "accuracy", "top5_accuracy"] {
                assert_ne!(costs[field].as_f64(), Some(0.0), "{field}: {line}");
            }
        }
    }
    let run = place.run(&["models", "dinov2", "--json"]).succeeds();
    assert!(run.stdout.contains("\"bytes\":null"), "{}", run.stdout);
}

#[test]
fn a_published_network_predicts_and_explains_without_training() {
    let place = place_with_weights();
    let run = place.run(&["predict", PHOTO, "--model", NETWORK, "--top", "3"]).succeeds();
    assert_eq!(run.stdout.lines().count(), 4, "{}", run.stdout);
    let file = format!("data/weights/{NETWORK}.safetensors");
    let run = place.run(&["explain", PHOTO, "--model", NETWORK, "--weights", &file]).succeeds();
    assert!(run.stdout.contains("features.18.2"), "{}", run.stdout);
    let eval = place.run(&["eval", "--model", NETWORK, "--folder", "photos/val"]);
    eval.fails(&["`photos/val`", "a folder with the network's classes"]);
    place.run(&["eval", "--model", NETWORK]).fails(&["lies in no run folder", "--folder DIR"]);
}

#[test]
fn folders_may_be_called_by_wordnets_identifiers() {
    let place = place_with_weights();
    for (synset, images) in [("n02206856", 2), ("n02219486", 1)] {
        for image in 0..images {
            place.write_photo(&format!("val/{synset}/{image}.jpg"), 64);
        }
    }
    let eval = || place.run(&["eval", "--model", NETWORK, "--folder", "val"]).succeeds();
    let run = eval();
    assert!(run.stdout.contains("of 3)"), "{}", run.stdout);
    // Names and identifiers side by side, and both of one class: 309 is the bee.
    for folder in ["bee", "tench"] {
        place.write_photo(&format!("val/{folder}/0.jpg"), 64);
    }
    let run = eval();
    assert!(run.stdout.contains("of 5)"), "{}", run.stdout);
    assert!(run.stderr.contains("`bee`, `n02206856` in `val` are one class"), "{}", run.stderr);
}

#[test]
fn imagenets_validation_folder_is_measured_by_its_list() {
    let place = place_with_weights();
    for image in 1..=3 {
        place.write_photo(&format!("imagenet/val/ILSVRC2012_val_0000000{image}.JPEG"), 64);
    }
    let eval = |more: &[&str]| {
        let fixed = ["eval", "--model", NETWORK, "--folder", "imagenet/val"];
        place.run(&[&fixed[..], more].concat())
    };
    eval(&[]).fails(&["`imagenet/val`", "no class folders"]);
    let kaggle = "ImageId,PredictionString\nILSVRC2012_val_00000001,n02206856 1 2 3 4 \n\
                  ILSVRC2012_val_00000002,n02219486 1 2 3 4 n02219486 5 6 7 8\n\
                  ILSVRC2012_val_00000003,n01440764 1 2 3 4\n";
    place.write("solution.csv", kaggle);
    let by_kaggle = eval(&["--list", "solution.csv"]).succeeds();
    assert!(by_kaggle.stdout.contains("of 3)"), "{}", by_kaggle.stdout);
    let lines =
        ["1.JPEG 309", "2.JPEG 310", "3.JPEG 0"].map(|l| format!("ILSVRC2012_val_0000000{l}\n"));
    place.write("imagenet/val.txt", lines.concat());
    let by_numbers = eval(&[]).succeeds();
    assert_eq!(by_numbers.stdout.lines().next(), by_kaggle.stdout.lines().next());
    assert!(by_numbers.stderr.contains("classes by the list `imagenet/val.txt`"));
    place.write("imagenet/val.txt", lines.concat().replace("309", "1000"));
    eval(&[]).fails(&["`imagenet/val.txt` line 1 has the label `1000`", "0 to 999"]);
    place.write("ground_truth.txt", "490\n361\n171\n");
    eval(&["--list", "ground_truth.txt"])
        .fails(&["the number 490 without a file", "another order"]);
    eval(&["--list", "none.txt"]).fails(&["none.txt"]);
}

#[test]
fn what_is_not_to_be_had_is_named_with_a_remedy() {
    let place = Place::new();
    place.write_images("photos");
    let predict = |arguments: &[&str]| place.run(&[&["predict", PHOTO][..], arguments].concat());
    predict(&["--model", "resnet18", "--offline"]).fails(&["resnet18", "--from DIR"]);
    let backbone = ["--model", "vit_small_patch14_dinov2", "--weights", PHOTO];
    predict(&backbone).fails(&["a backbone without classes", "fine-tune it"]);
    let probe = ["probe", "photos", "--model", "vit_small_patch14_dinov2", "--offline"];
    place.run(&probe).fails(&["vit_small_patch14_dinov2", "--from DIR"]);
    predict(&["--model", "mlp"]).fails(&["no published weights of `mlp`"]);
    predict(&["--model", "resnet81"]).is_misuse("did you mean `resnet18`");
    predict(&["--model", "resnet18", "--weights", "none.pth"])
        .fails(&["no weight file `none.pth`"]);
    predict(&["--weights", "resnet18"]).is_misuse("--model");
    place.run(&["eval", "--folder", "photos"]).is_misuse("--checkpoint");
    place.run(&["fetch", "resnet5", "--offline"]).fails(&["did you mean `resnet50`"]);
}

#[test]
fn missing_weights_come_from_a_folder_and_are_verified() {
    let place = place_with_weights();
    std::fs::rename(place.path("data"), place.path("usb")).expect("the folder is there");
    let predict = |network: &str| {
        let version = ["--weights", "imagenet1k_v1"];
        let fixed = ["predict", PHOTO, "--model", network, "--from", "usb", "--top", "1"];
        place.run(&[&fixed[..], &version].concat())
    };
    predict(NETWORK).succeeds();
    let copy = format!("data/weights/{NETWORK}.safetensors");
    assert!(place.path(&copy).is_file(), "it is in the data folder now");
    // What is there is not taken again.
    std::fs::remove_dir_all(place.path("usb")).expect("the folder is there");
    std::fs::create_dir(place.path("usb")).expect("a folder");
    predict(NETWORK).succeeds();
    predict("alexnet").fails(&["`usb` does not hold `alexnet`", "alexnet-owt-7be5be79.pth"]);
    // Other bytes than the file's name says.
    place.write("usb/alexnet-owt-7be5be79.pth", "other bytes");
    predict("alexnet").fails(&["alexnet-owt-7be5be79.pth", "7be5be79"]);
    let train = ["train", "--folder", "photos", "--model", "alexnet", "--from", "usb"];
    place.run(&train).fails(&["alexnet-owt-7be5be79.pth", "7be5be79"]);
    predict("resnet18").fails(&["`usb` does not hold `resnet18`"]);
    let missing = ["explain", PHOTO, "--model", NETWORK, "--from", "disk"];
    place.run(&missing).is_misuse("it is no folder");
}

#[test]
fn a_folder_gives_the_version_that_is_asked_for() {
    let place = place_with_weights();
    std::fs::rename(place.path("data"), place.path("usb")).expect("the folder is there");
    let predict = |network: &str, weights: &str| {
        place.run(&["predict", PHOTO, "--model", network, "--weights", weights, "--from", "usb"])
    };
    let expected = [
        "`usb` does not hold `mobilenet_v2-imagenet1k_v2`",
        "it holds `mobilenet_v2` (IMAGENET1K_V1)",
    ];
    predict(NETWORK, "IMAGENET1K_V2").fails(&expected);
    let train = ["train", "--folder", "photos", "--model", NETWORK, "--from", "usb", "--weights"];
    place.run(&[&train[..], &["IMAGENET1K_V2"]].concat()).fails(&expected);
    place.run(&["fetch", "mobilenet_v2-imagenet1k_v2", "--from", "usb"]).fails(&expected);
    // Any version will do, and none is there.
    let none = ["`resnet50-imagenet1k_v2` or `resnet50`", "resnet50-11ad3fa6", "resnet50-0676ba61"];
    predict("resnet50", "imagenet").fails(&none);
    let run = predict(NETWORK, "imagenet").succeeds();
    assert!(run.stderr.contains("weights IMAGENET1K_V1 of mobilenet_v2"), "{}", run.stderr);
    assert!(place.path("data/weights/mobilenet_v2.safetensors").is_file());
    // Without names everything is taken that the folder holds, also what the catalog does not list.
    std::fs::copy(
        place.path("usb/weights/mobilenet_v2.safetensors"),
        place.path("usb/resnet50-imagenet1k_v2.safetensors"),
    )
    .expect("a copy");
    let run = place.run(&["fetch", "--from", "usb"]).succeeds();
    assert!(run.stdout.contains("resnet50-imagenet1k_v2: copied"), "{}", run.stdout);
}

#[test]
fn weights_are_converted_both_ways_without_a_change() {
    let place = place_with_weights();
    let file = format!("data/weights/{NETWORK}.safetensors");
    place.run(&["convert", &file, "weights.pth"]).succeeds();
    place.run(&["convert", "weights.pth", "again.safetensors", "--model", NETWORK]).succeeds();
    let read = |name: &str| -> HashMap<String, Tensor> {
        candle_core::safetensors::load(place.path(name), &Device::Cpu).expect("weights")
    };
    let (before, after) = (read(&file), read("again.safetensors"));
    assert_eq!(before.len(), after.len());
    for (name, tensor) in before {
        let bits =
            |tensor: &Tensor| tensor.flatten_all().unwrap().to_dtype(candle_core::DType::F64);
        let (a, b) = (bits(&tensor).unwrap(), bits(&after[&name]).unwrap());
        assert_eq!(a.to_vec1::<f64>().unwrap(), b.to_vec1::<f64>().unwrap(), "{name}");
    }
    place.run(&["convert", "weights.pth", "half.safetensors", "--precision", "f16"]).succeeds();
    let [whole, half] = ["again", "half"].map(|name| {
        std::fs::metadata(place.path(&format!("{name}.safetensors"))).expect("a file").len()
    });
    assert!(half < whole * 11 / 20, "{half} of {whole} bytes");

    place.run(&["convert", &file, "weights.txt"]).fails(&["`weights.txt` tells no format"]);
    let other = ["convert", &file, "other.pth", "--model", "resnet18"];
    place.run(&other).fails(&["no weights of `resnet18`"]);
    place.write("cut.pth", &to_torch(tensors(network().parameters())).expect("weights")[..5000]);
    place.run(&["convert", "cut.pth", "cut.safetensors"]).fails(&["`cut.pth`", "cut short"]);
}

#[test]
fn values_that_are_not_finite_are_named() {
    let place = Place::new();
    let with = |value: f32| {
        let all = tensors(network().parameters()).into_iter().map(|(name, tensor)| {
            let is_it = name == "classifier.1.bias";
            let tensor = if is_it {
                (tensor.ones_like().unwrap() * f64::from(value)).unwrap()
            } else {
                tensor
            };
            (name, tensor)
        });
        to_safetensors(all).expect("weights")
    };
    place.write("nan.safetensors", with(f32::NAN));
    let expected = ["`nan.safetensors`", "`classifier.1.bias` [1000] holds 1000 of 1000 values"];
    place.run(&["convert", "nan.safetensors", "x.safetensors"]).fails(&expected);
    place.write_images("photos");
    let predict = ["predict", PHOTO, "--model", NETWORK, "--weights", "nan.safetensors"];
    let expected = ["the weights of `mobilenet_v2` cannot be used", expected[1]];
    place.run(&predict).fails(&expected);
    place.write("large.safetensors", with(1e6));
    let convert = ["convert", "large.safetensors", "x.safetensors", "--precision", "f16"];
    place.run(&convert).fails(&["f16 is too small for its values", expected[1]]);
    assert!(!place.path("x.safetensors").exists());
}

#[test]
fn a_file_of_no_known_version_says_how_images_are_prepared() {
    let place = place_with_weights();
    let predict = |file: &str| {
        let file = format!("data/weights/{file}.safetensors");
        place.run(&["predict", PHOTO, "--model", NETWORK, "--weights", &file]).succeeds().stderr
    };
    let known = predict(NETWORK);
    assert!(!known.contains("images are prepared"), "{known}");
    let weights = |name: &str| place.path(&format!("data/weights/{name}.safetensors"));
    std::fs::copy(weights(NETWORK), weights("other")).expect("a copy");
    let other = predict("other");
    assert!(other.contains("images are prepared as for IMAGENET1K_V2 of mobilenet_v2"), "{other}");
}

#[test]
fn weights_in_several_files_are_read_by_their_index() {
    let place = Place::new();
    let all: Vec<(String, Tensor)> = tensors(network().parameters()).into_iter().collect();
    let (first, second) = all.split_at(all.len() / 2);
    let mut map = HashMap::new();
    for (file, part) in [("a.safetensors", first), ("b.safetensors", second)] {
        map.extend(part.iter().map(|(name, _)| (name.clone(), file)));
        place.write(file, to_safetensors(part.to_vec()).expect("weights"));
    }
    let index = serde_json::json!({ "metadata": {}, "weight_map": map });
    place.write("model.safetensors.index.json", index.to_string());
    let convert = || place.run(&["convert", "model.safetensors.index.json", "whole.safetensors"]);
    let run = convert().succeeds();
    assert!(run.stdout.contains(&format!("{0} of {0} tensors", all.len())), "{}", run.stdout);
    std::fs::remove_file(place.path("b.safetensors")).expect("the file is there");
    convert().fails(&["there is no weight file `b.safetensors`"]);
    let elsewhere = serde_json::json!({ "weight_map": { "fc.weight": "../secret.safetensors" } });
    place.write("model.safetensors.index.json", elsewhere.to_string());
    convert().fails(&["no file of weights beside it"]);
}

#[test]
fn outputs_are_compared_layer_by_layer() {
    let place = place_with_weights();
    let model = network();
    let images = Tensor::randn(0f32, 1.0, (2, 3, 64, 64), &Device::Cpu).expect("images");
    let layers = ["features.1", "features.18.2"];
    let mut recorder = candle_vision::explain::Recorder::new(layers);
    let logits =
        model.forward(&images, &mut Pass::eval().with_hooks(&mut recorder)).expect("logits");
    let mut file: Vec<(String, Tensor)> = recorder.outputs().to_vec();
    assert_eq!(file.len(), 2);
    file.push(("input".to_owned(), images));
    file.push(("logits".to_owned(), logits.clone()));
    let write = |file: &[(String, Tensor)]| {
        let contiguous =
            |(name, tensor): &(String, Tensor)| (name.clone(), tensor.contiguous().unwrap());
        let bytes = to_safetensors(file.iter().map(contiguous)).expect("tensors");
        place.write("reference.safetensors", bytes);
    };
    let parity = || place.run(&["parity", NETWORK, "--reference", "reference.safetensors"]);
    write(&file);
    let run = parity().succeeds();
    for layer in ["features.1 ", "features.18.2", "logits"] {
        assert!(run.stdout.contains(layer), "{layer}: {}", run.stdout);
    }
    if let Some(last) = file.last_mut() {
        last.1 = (logits * 1.01).expect("a product");
    }
    write(&file);
    assert_eq!(parity().code, Some(1));
    file.push((
        "features.99".to_owned(),
        Tensor::zeros(1, candle_core::DType::F32, &Device::Cpu).unwrap(),
    ));
    write(&file);
    parity().fails(&["names the layer `features.99`", "did you mean"]);
    place.write("empty.safetensors", to_safetensors(Vec::new()).expect("no tensors"));
    place
        .run(&["parity", NETWORK, "--reference", "empty.safetensors"])
        .fails(&["no tensor `input`"]);
}

/// Auxiliary classifiers are for training: the summary shows them as such, and evaluation does without them.
#[test]
fn auxiliary_classifiers_are_shown_and_not_needed_to_predict() {
    let place = Place::new();
    place.write_images("photos");
    let run = place.run(&["summary", "googlenet", "--depth", "1"]).succeeds();
    for text in ["in training only", "6,379,984 of them in auxiliary classifiers"] {
        assert!(run.stdout.contains(text), "{text}: {}", run.stdout);
    }
    for network in ["googlenet", "vit_b_32"] {
        let run = place.run(&["summary", network, "--json"]).succeeds();
        let summary: Value = serde_json::from_str(&run.stdout).expect("JSON");
        let rows = summary["layers"].as_array().expect("a list").iter();
        let rows: u64 = rows.map(|row| row["parameters"].as_u64().expect("a number")).sum();
        assert_eq!(summary["parameters"], rows, "{network}");
    }
    let model = build(&ModelSpec::new("googlenet", 1000), 1, &Device::Cpu).expect("a network");
    let mut weights = tensors(model.parameters());
    weights.retain(|name, _| !name.starts_with("aux"));
    let bytes = to_safetensors(weights).expect("weights");
    place.write("data/weights/googlenet.safetensors", bytes);
    place.run(&["predict", PHOTO, "--model", "googlenet"]).succeeds();
}

#[test]
fn a_file_without_auxiliary_classifiers_is_converted_without_them() {
    let place = Place::new();
    place.write_images("photos");
    let convert = |input: &str, output: &str| {
        place.run(&["convert", input, output, "--model", "googlenet"]).succeeds()
    };
    let read = |name: &str| -> HashMap<String, Tensor> {
        candle_core::safetensors::load(place.path(name), &Device::Cpu).expect("weights")
    };
    let model = build(&ModelSpec::new("googlenet", 1000), 1, &Device::Cpu).expect("a network");
    let mut weights = tensors(model.parameters());
    let all = weights.len();
    place.write("all.safetensors", to_safetensors(weights.clone()).expect("weights"));
    let run = convert("all.safetensors", "whole.safetensors");
    assert_eq!(read("whole.safetensors").len(), all);
    assert!(!run.stderr.contains("auxiliary"), "{}", run.stderr);

    weights.retain(|name, _| !name.starts_with("aux"));
    let kept = weights.len();
    place.write("eval.pth", to_torch(weights).expect("weights"));
    let run = convert("eval.pth", "bare.safetensors");
    let absent = format!(
        "(aux1, aux2) are absent from the file, or are for other classes: {} tensors",
        all - kept
    );
    assert!(run.stderr.contains(&absent), "{}", run.stderr);
    let written = read("bare.safetensors");
    assert!(written.len() == kept && written.keys().all(|name| !name.starts_with("aux")));
    place
        .run(&["predict", PHOTO, "--model", "googlenet", "--weights", "bare.safetensors"])
        .succeeds();
}

/// The program carries torchvision's and timm's outputs, so nothing is fetched and no file is named.
#[test]
fn a_network_is_compared_with_stored_outputs() {
    let place = place_with_weights();
    let run = place.run(&["parity", "lenet5"]).succeeds();
    for text in ["conv1", "fc1", "logits", "[2, 10]"] {
        assert!(run.stdout.contains(text), "{text}: {}", run.stdout);
    }
    let strict = place.run(&["parity", "lenet5", "--tolerance", "0"]);
    assert_eq!((strict.code, strict.stdout), (Some(1), run.stdout));
    place.run(&["parity", "mlp"]).fails(&["no outputs are stored for `mlp`", "--reference FILE"]);
    place.run(&["parity", "lenet"]).fails(&["`lenet`", "did you mean"]);
    // Weights of which nothing is stored.
    for weights in ["imagenet", &format!("data/weights/{NETWORK}.safetensors")] {
        let run = place.run(&["parity", NETWORK, "--weights", weights]);
        run.fails(&["no outputs are stored for the weights in", "--reference FILE"]);
    }
    let run = place.run(&["parity", NETWORK, "--weights", "none.pth"]);
    run.fails(&["there is no weight file `none.pth`"]);
}

/// The published weights, when the data folder is there.
#[test]
#[expect(clippy::print_stdout, reason = "a skipped test says so")]
fn published_weights_are_compared_with_stored_outputs() {
    let Some(data) = std::env::var_os("CANDLE_VISION_DATA").map(std::path::PathBuf::from) else {
        println!("skipped: CANDLE_VISION_DATA is not set");
        return;
    };
    let place = Place::new();
    for network in ["resnet18", "mobilenet_v2", "efficientnet_lite0"] {
        let file = data.join(format!("weights/{network}.safetensors"));
        let file = file.to_str().expect("the path is text");
        let run = place.run(&["parity", network, "--weights", file]).succeeds();
        assert!(run.stdout.contains("[2, 1000]"), "{}", run.stdout);
    }
}

#[test]
fn a_summary_of_another_size_and_depth() {
    let place = Place::new();
    let run = place.run(&["summary", "resnet18", "--input", "2x3x64x64", "--depth", "1", "--json"]);
    let summary: Value = serde_json::from_str(&run.succeeds().stdout).expect("JSON");
    assert_eq!(summary["input"], serde_json::json!([2, 3, 64, 64]));
    assert_eq!(summary["parameters"], 11_689_512);
    assert_eq!(summary["input_bytes"], 2 * 3 * 64 * 64 * 4);
    let parts = ["input_bytes", "forward_backward_bytes", "parameter_bytes"];
    let parts = parts.map(|part| summary[part].as_u64().expect("a number"));
    assert_eq!(summary["total_bytes"], parts.iter().sum::<u64>());
    let layers = summary["layers"].as_array().expect("a list");
    let layer4 = layers.iter().find(|layer| layer["path"] == "layer4").expect("a stage");
    assert_eq!(layer4["output"], serde_json::json!([2, 512, 2, 2]));
    // torchinfo's 0.60 + 39.75 + 46.76 = 87.11 MB of 10^6 bytes.
    let text = place.run(&["summary", "resnet18"]).succeeds().stdout;
    let totals = "83.07 MiB = input 0.57 + forward and backward pass 37.91 + parameters 44.59";
    assert!(text.contains(totals), "{text}");
    place.run(&["summary", "resnet18", "--input", "64x64"]).is_misuse("3x64x64");
    place.run(&["summary", "resnet18", "--input", "3x0x64"]).is_misuse("at least 1");
    place.run(&["summary", "alexnet", "--input", "3x32x32"]).fails(&["at least 63x63"]);
}
