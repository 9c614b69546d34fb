//! Runs that are interrupted, killed and resumed.

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use crate::support::{Finished, Place};

/// Long enough to be caught in its midst.
const LONG: [&str; 8] = [
    "train",
    "--recipe",
    "small.toml",
    "--set",
    "training.epochs=6",
    "--set",
    "data.train_images=320",
    "--skip-broken",
];

fn start(place: &Place) -> Child {
    let mut command = place.command(&LONG);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts")
}

fn interrupt(child: &Child) {
    let kill = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(kill.expect("`kill` starts").success());
}

/// Interrupts a run once its first epoch is over.
fn interrupted(place: &Place) -> Finished {
    let mut child = start(place);
    let mut lines = BufReader::new(child.stderr.take().expect("a pipe")).lines();
    let mut stderr = String::new();
    for line in lines.by_ref() {
        let line = line.expect("UTF-8");
        let is_epoch = line.starts_with("epoch 1/6");
        stderr += &(line + "\n");
        if is_epoch {
            interrupt(&child);
        }
    }
    let mut finished = Finished::of(&child.wait_with_output().expect("the program ends"));
    finished.stderr = stderr;
    finished
}

#[cfg(unix)]
#[test]
fn an_interrupted_run_ends_as_one_that_was_not() {
    let place = Place::new();
    let run = interrupted(&place);
    assert_eq!(run.code, Some(130), "{}", run.stderr);
    assert!(run.stderr.contains("stopping after this batch"), "{}", run.stderr);
    assert!(run.stdout.contains("--resume runs/small/001"), "{}", run.stdout);
    let done = place.read("runs/small/001/batches.csv").lines().count();
    assert!(done < 1 + 6 * 40, "the run was over before it was interrupted");

    let resumed = place.run(&["train", "--resume", "last"]).succeeds();
    assert!(resumed.stderr.contains("going on with epoch"), "{}", resumed.stderr);
    place.run(&LONG).succeeds();
    for name in ["best.safetensors", "last.safetensors"] {
        let weights = |number| place.tensors(&format!("runs/small/{number}/{name}"));
        assert_eq!(weights("001"), weights("002"), "{name}");
    }
    let batches = |number| place.read(&format!("runs/small/{number}/batches.csv"));
    assert_eq!(batches("001"), batches("002"));
}

/// A folder where the report would be, set up while the run is interrupted.
#[cfg(unix)]
#[test]
fn a_report_that_cannot_be_written_fails_no_run() {
    let place = Place::new();
    assert_eq!(interrupted(&place).code, Some(130));
    std::fs::create_dir(place.path("runs/small/001/report.html")).expect("a folder");
    let run = place.run(&["train", "--resume", "last"]);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let warning = run.stderr.lines().last().unwrap_or_default();
    assert!(warning.starts_with("warning: no report.html: cannot write"), "{warning}");
    assert!(warning.contains("candle-vision report runs/small/001"), "{warning}");
    assert!(run.stdout.contains("all epochs are done"), "{}", run.stdout);
    place.run(&["report", "runs/small/001"]).fails(&["cannot write", "report.html"]);
}

#[test]
fn a_finished_run_is_not_resumed() {
    let (place, _) = Place::trained();
    let parts = ["`runs/small/001/last.safetensors` is finished after 2 epochs", "start a new run"];
    place.run(&["train", "--resume", "runs/small/001"]).fails(&parts);
    place.run(&["train", "--resume", "last"]).fails(&parts);
    let misuse = place.run(&["train", "--resume", "last", "--recipe", "small.toml"]);
    misuse.is_misuse("cannot be used with '--re");
}

#[test]
fn what_cannot_be_resumed_is_named() {
    let (place, _) = Place::trained();
    place.run(&["train", "--resume", "nowhere"]).fails(&["no run in `nowhere`"]);
    place.run(&["train", "--resume", "runs/small"]).fails(&["`runs/small`", "config.toml"]);
    place.run(&["train", "--resume", "last", "--runs", "other"]).fails(&["`other`", "--recipe"]);
    place.cut("runs/small/001/last.safetensors", 20_000);
    let run = place.run(&["train", "--resume", "runs/small/001"]);
    run.fails(&["`runs/small/001/last.safetensors` is damaged or cut short"]);
    std::fs::remove_file(place.path("runs/small/001/last.safetensors")).expect("the file is there");
    place.run(&["train", "--resume", "runs/small/001"]).fails(&["nothing to resume"]);
}

/// Whatever the moment, the run either goes on to the same end or had not begun.
#[test]
fn a_killed_run_goes_on_or_had_not_begun() {
    let place = Place::new();
    place.run(&[LONG.as_slice(), &["--name", "whole"]].concat()).succeeds();
    let whole = place.tensors("runs/whole/001/last.safetensors");
    for milliseconds in [30, 250, 600, 1100] {
        let mut child = start(&place);
        sleep(Duration::from_millis(milliseconds));
        kill(&mut child);
        resume_what_there_is(&place, &whole);
    }
    let mut child = start(&place);
    let lines = BufReader::new(child.stderr.take().expect("a pipe")).lines();
    let first_epoch = |line: &std::io::Result<String>| {
        line.as_ref().is_ok_and(|line| line.starts_with("epoch 1/6"))
    };
    assert!(lines.into_iter().any(|line| first_epoch(&line)));
    kill(&mut child);
    assert!(resume_what_there_is(&place, &whole), "an epoch was over: there is a checkpoint");
}

fn kill(child: &mut Child) {
    child.kill().expect("the program can be killed");
    child.wait().expect("it ends");
}

/// Resumes the killed run, if there is one, and clears it away; whether it had a checkpoint.
fn resume_what_there_is(place: &Place, whole: &HashMap<String, Vec<f32>>) -> bool {
    const RUN: &str = "runs/small/001";
    if !place.path(RUN).is_dir() {
        return false;
    }
    let has_config = place.path(RUN).join("config.toml").is_file();
    let has_checkpoint = place.path(RUN).join("last.safetensors").is_file();
    let run = place.run(&["train", "--resume", RUN]);
    if has_checkpoint {
        // A slow kill may come after the end.
        if !run.stderr.contains("is finished after 6 epochs") {
            run.succeeds();
        }
        assert_eq!(&place.tensors(&format!("{RUN}/last.safetensors")), whole);
    } else if has_config {
        run.fails(&["there is nothing to resume"]);
    } else {
        run.fails(&["it has no config.toml"]);
    }
    std::fs::remove_dir_all(place.path(RUN)).expect("the folder is there");
    has_checkpoint
}
