use super::super::contestant::{Contestant, Program};
use super::super::jobs;
use super::super::measurement::measured;
use super::*;
use crate::cuda;

/// One side with its medians, or with why it has none.
fn entry(mode: Option<&'static str>, medians: &[f64], ended: Option<Ended>) -> Entry {
    let program = match mode {
        None | Some(jobs::OURS_PLAIN) => Program::Jobs(cuda::Program::plain("jobs".into())),
        Some(_) => Program::Torch { python: "python3".into(), script: "jobs.py".into() },
    };
    let contestant = Contestant { mode, program };
    Entry { contestant, runs: medians.iter().copied().map(measured).collect(), ended }
}

fn report_on(device: &str, jobs: Vec<JobReport>) -> Report {
    let environment = Environment { cpu: "a CPU".to_owned(), ..Environment::default() };
    let limits = Limits { threads: 2, seconds: 3.0, device: device.to_owned(), tiny: false };
    Report::new(environment, limits, 3, jobs)
}

fn report(jobs: Vec<JobReport>) -> Report {
    report_on("cpu", jobs)
}

fn job(entries: Vec<Entry>) -> JobReport {
    JobReport::new(jobs::of(None, false)[0], entries)
}

#[track_caller]
fn check_lines(report: &Report, expected: &[&str]) {
    let text = report.text();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines, expected, "{text}");
}

#[test]
fn the_fastest_mode_is_compared_pair_by_pair() {
    let job = job(vec![
        entry(None, &[10.0, 20.0, 10.0], None),
        entry(Some("eager"), &[30.0, 30.0, 40.0], None),
        entry(Some("channels_last"), &[25.0, 22.0, 15.0], None),
        entry(Some("compile"), &[], Some(Ended::Failed("exit code 1".to_owned()))),
    ]);
    let expected = Comparison {
        mode: "channels_last",
        ratio: 2.2,
        pair_ratios: vec![2.5, 1.1, 1.5],
        pair_ratios_median: 1.5,
    };
    assert_eq!(job.comparison, Some(expected));
    let report = report(vec![job]);
    assert!(report.any_failed());
    check_lines(
        &report,
        &[
            "a CPU",
            "2 threads, 3 runs of 3 s",
            "",
            "job                       ms  PyTorch ms           mode  PyTorch/ours      pairs  MiB  PyTorch MiB",
            "resnet18_train_b16_224  10.0        22.0  channels_last          2.20  1.10-2.50  200          250",
            "",
            "resnet18_train_b16_224, compile: FAILED: exit code 1",
        ],
    );
}

#[test]
fn without_pytorch_the_table_is_ours_alone() {
    let report = report(vec![job(vec![entry(None, &[0.5, 0.25, 120.0], None)])]);
    assert!(!report.any_failed());
    check_lines(
        &report,
        &[
            "a CPU",
            "2 threads, 3 runs of 3 s",
            "",
            "job                        ms  fastest   MiB  faults/step",
            "resnet18_train_b16_224  0.500   -0.750  1200          0.5",
        ],
    );
}

#[test]
fn a_side_without_figures_leaves_no_comparison() {
    let skipped = || Some(Ended::Skipped("no data".to_owned()));
    let only_ours = job(vec![entry(None, &[1.0], None), entry(Some("eager"), &[], skipped())]);
    assert_eq!(only_ours.comparison, None);
    let row = only_ours.row_of_both().unwrap();
    assert_eq!(row[1..], ["1.00", "-", "-", "-", "-", "10", "-"]);
    let only_torch = job(vec![entry(None, &[], skipped()), entry(Some("eager"), &[1.0], None)]);
    assert_eq!((&only_torch.comparison, only_torch.row_of_both()), (&None, None));
    let lines: Vec<String> = only_torch.missing().collect();
    assert_eq!(lines, ["resnet18_train_b16_224, ours: skipped: no data\n"]);
}

#[test]
fn the_json_holds_every_run() {
    let report = report(vec![job(vec![
        entry(None, &[10.0, 20.0], None),
        entry(Some("eager"), &[30.0, 40.0], None),
    ])]);
    let json: serde_json::Value = serde_json::from_str(&report.to_json().unwrap()).unwrap();
    assert_eq!((&json["threads"], &json["runs"]), (&2.into(), &3.into()));
    assert_eq!(json["environment"]["cpu"], "a CPU");
    let job = &json["jobs"][0];
    assert_eq!(job["job"], "resnet18_train_b16_224");
    assert_eq!(job["ours"]["runs"][1]["median_ms"], 20.0);
    assert_eq!(job["ours"]["summary"]["median_ms"], 15.0);
    assert_eq!(job["pytorch"][0]["mode"], "eager");
    assert_eq!(job["comparison"]["best_mode"], "eager");
    assert_eq!(job["comparison"]["pair_ratios"], serde_json::json!([3.0, 2.0]));
}

/// The report on a job for a card.
fn card_job(name: &str, entries: Vec<Entry>) -> JobReport {
    let job = jobs::of(None, true).into_iter().find(|job| job.name == name).unwrap();
    JobReport::new(job, entries)
}

#[test]
fn on_a_card_every_side_has_a_line() {
    let job = card_job(
        "resnet18_infer_b64_224_bf16",
        vec![
            entry(None, &[4.0, 8.0], None),
            entry(Some("eager"), &[8.0, 8.0], None),
            entry(Some("compile"), &[3.0, 3.0], None),
            entry(Some("channels_last"), &[], Some(Ended::Skipped("no CUDA".to_owned()))),
        ],
    );
    check_lines(
        &report_on("cuda", vec![job]),
        &[
            "a CPU",
            "2 threads, 3 runs of 3 s, on cuda",
            "",
            "job                             side    ms  images/s  side/ours      pairs  waiting",
            "resnet18_infer_b64_224_bf16     ours  6.00      3000          -          -        -",
            "resnet18_infer_b64_224_bf16    eager  8.00      2000       1.33  1.00-2.00        -",
            "resnet18_infer_b64_224_bf16  compile  3.00      5333       0.50  0.38-0.75        -",
            "",
            "resnet18_infer_b64_224_bf16, channels_last: skipped: no CUDA",
        ],
    );
}

#[test]
fn what_a_loader_adds_is_waiting() {
    let entries = |ours, torch| {
        vec![entry(None, &[ours], None), entry(Some("channels_last"), &[torch], None)]
    };
    let report = report_on(
        "cuda",
        vec![
            card_job("resnet18_train_b64_224_bf16", entries(9.0, 10.0)),
            card_job("resnet18_train_b64_224_bf16_loaded", entries(10.0, 9.0)),
        ],
    );
    let waiting = |job: usize| -> Vec<Option<f64>> {
        report.jobs[job].sides().map(|side| side.waiting).collect()
    };
    assert_eq!(waiting(0), [None, None]);
    let [Some(ours), Some(torch)] = waiting(1)[..] else { panic!("{:?}", waiting(1)) };
    assert!((ours - 0.1).abs() < 1e-12 && torch == 0.0, "{ours} {torch}");
    assert!(report.text().contains("10.0 %"), "{}", report.text());
}

#[test]
fn plain_steps_are_a_line_of_ours_and_no_rival() {
    let job = card_job(
        "resnet18_train_b64_32_adam_f32",
        vec![
            entry(None, &[2.0], None),
            entry(Some(jobs::OURS_PLAIN), &[6.0], None),
            entry(Some("cuda_graph"), &[8.0], None),
        ],
    );
    assert_eq!(job.comparison.as_ref().map(|found| found.mode), Some("cuda_graph"));
    let report = report_on("cuda", vec![job]);
    let text = report.text();
    let line = text.lines().find(|line| line.contains(jobs::OURS_PLAIN)).unwrap();
    assert!(line.contains("6.00") && line.contains("3.00-3.00"), "{text}");
    let json: serde_json::Value = serde_json::from_str(&report.to_json().unwrap()).unwrap();
    let job = &json["jobs"][0];
    assert_eq!(job["ours_otherwise"][0]["mode"], jobs::OURS_PLAIN);
    assert_eq!(
        (&job["ours"]["runs"][0]["median_ms"], job["pytorch"].as_array().unwrap().len()),
        (&2.0.into(), 1)
    );
}
