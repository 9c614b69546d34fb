//! `scale-plan`: what many ranks would take, from measured figures.

use serde_json::Value;

use crate::support::{Finished, Place};

const RESNET50: [&str; 4] = ["scale-plan", "resnet50-imagenet", "--images-per-s", "100"];

fn plan(args: &[&str]) -> Finished {
    Place::new().run(&[RESNET50.as_slice(), args].concat())
}

#[track_caller]
fn check(found: &Value, expected: f64) {
    let found = found.as_f64().expect("a number");
    assert!((found / expected - 1.0).abs() < 1e-9, "{found} instead of {expected}");
}

/// One bucket, so no sum begins before the end of the backward pass: 4 ranks sum it in 6 rounds.
#[test]
fn a_plan_is_what_a_hand_computes() {
    let shown = plan(&[
        "--ranks",
        "1,4",
        "--ranks-per-host",
        "1",
        "--link-gbit",
        "8",
        "--latency-us",
        "1000",
        "--bucket-mib",
        "1000",
        "--batch-size",
        "10",
        "--images",
        "1001",
        "--epochs",
        "2",
        "--price",
        "3",
        "--image-kib",
        "100",
        "--json",
    ]);
    let json: Value = serde_json::from_str(&shown.succeeds().stdout).expect("JSON");
    let plan = &json[0];
    // ResNet50 has 25,557,032 parameters.
    check(&plan["bytes_per_step"], 102_228_128.0);
    assert_eq!(plan["buckets"], 1);
    let (one, four) = (&plan["plan"][0], &plan["plan"][1]);
    check(&one["step_ms"], 100.0);
    check(&one["efficiency"], 1.0);
    // 101 steps an epoch.
    check(&one["hours"], 2.0 * 101.0 * 0.1 / 3600.0);
    let sums = 6.0 * (0.001 + 102_228_128.0 / 4.0 / 1e9);
    let step = 0.1 + sums;
    check(&four["all_reduce_ms"], sums * 1e3);
    check(&four["step_ms"], step * 1e3);
    check(&four["efficiency"], 0.1 / step);
    check(&four["images_per_s"], 40.0 / step);
    check(&four["storage_gbit"], 40.0 / step * 102_400.0 * 8.0 / 1e9);
    // 26 steps an epoch.
    check(&four["hours"], 2.0 * 26.0 * step / 3600.0);
    check(&four["cost"], 2.0 * 26.0 * step / 3600.0 * 4.0 * 3.0);
}

#[test]
fn what_breaks_first_is_said_first() {
    let shown = plan(&["--ranks", "64,1024", "--files-per-s", "5000"]).succeeds();
    let lines: Vec<&str> = shown.stdout.lines().filter(|line| line.starts_with("breaks")).collect();
    // A little more than 50 ranks read 5,000 files; 257 ranks have more than 8,192 images.
    assert!(lines[0].starts_with("breaks first, from 5"), "{lines:?}");
    assert!(lines[0].ends_with("the storage gives 5000"), "{lines:?}");
    let batch = "breaks then, from 257 ranks on: a batch of 8224 images; known recipes go to 8192 (Goyal et al. 2017)";
    assert_eq!(lines[1], batch);
    let wire = plan(&["--ranks", "16", "--link-gbit", "0.5", "--largest-batch", "100000"]);
    let said = wire.succeeds().stdout;
    assert!(said.contains("breaks first, from 9 ranks on: the sums of a step take"), "{said}");
    let calm = plan(&["--ranks", "2"]).succeeds().stdout;
    assert!(calm.contains("nothing breaks up to there"), "{calm}");
}

#[test]
fn figures_come_from_the_files_of_the_bench() {
    let place = Place::new();
    let of_bench = r#"{"jobs": [{"job": "resnet50_train_b16_224", "ours": {"summary": {"images_per_s": 12.5, "min_ms": 1}}}]}"#;
    place.write("bench.json", of_bench);
    let shown = place.run(&["scale-plan", "--measured", "bench.json"]).succeeds().stdout;
    assert!(shown.contains("resnet50-imagenet") && shown.contains("12.5"), "{shown}");
    assert!(!shown.contains("vit-b-billion"), "{shown}");
    place
        .run(&["scale-plan", "vit-b-billion", "--measured", "bench.json"])
        .fails(&["`bench.json` has no training of vit_b_16"]);
    place.write("other.json", "[1]");
    place.run(&["scale-plan", "--measured", "other.json"]).fails(&["other.json", "bench --json"]);
    place.run(&["scale-plan", "--measured", "none.json"]).fails(&["cannot read `none.json`"]);
}

/// Half a second of computation; 25 MiB of sums in 100 ms, so 10 MB in 38.1 ms, all after the backward pass.
#[test]
fn a_plan_is_compared_with_measured_ranks() {
    let place = Place::new();
    let measured = r#"{"jobs": [{"job": "resnet18_train_b50_32", "sides": [
        {"side": "ours", "ranks": 1, "images_per_s": 100, "shared": null},
        {"side": "eager", "ranks": 1, "images_per_s": 1, "shared": null},
        {"side": "ours", "ranks": 2, "images_per_s": 180, "shared": {"waiting": 0.1, "bytes_per_step": 1e7,
            "all_reduce_one_us": 0, "all_reduce_bucket_ms": 100, "bucket_bytes": 26214400}}]}]}"#;
    place.write("scale.json", measured);
    let shown = place.run(&["scale-plan", "--compare", "scale.json"]).succeeds().stdout;
    let row = shown.lines().find(|line| line.contains("resnet18")).expect("a row");
    let cells: Vec<&str> = row.split_whitespace().filter(|cell| *cell != "│").collect();
    assert!(row.contains("185.8") && row.contains("180.0") && row.contains("0.97"), "{cells:?}");
    assert!(row.contains("7.1 %") && row.contains("10.0 %"), "{cells:?}");
    place.write("alone.json", r#"{"jobs": []}"#);
    place.run(&["scale-plan", "--compare", "alone.json"]).fails(&["no steps of several ranks"]);
}

#[test]
fn what_a_plan_lacks_is_said() {
    let place = Place::new();
    place
        .run(&["scale-plan"])
        .fails(&["images a second that one rank trains of resnet50 or vit_b_16"]);
    place
        .run(&["scale-plan", "resnet50-imagnet", "--images-per-s", "1"])
        .fails(&["no workload is called `resnet50-imagnet`", "did you mean"]);
    plan(&["--network", "resnet5"]).fails(&["resnet5"]);
    for args in [["--ranks", "0"], ["--link-gbit", "0"], ["--backward-share", "2"]] {
        plan(&args).is_misuse(args[0]);
    }
}
