//! Runs that are interrupted, killed and resumed.

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
    "data.train_pictures=320",
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

#[test]
fn a_finished_run_is_not_resumed() {
    let (place, _) = Place::trained();
    let parts = ["`runs/small/001/last.safetensors` is finished after 2 epochs", "start a new run"];
    place.run(&["train", "--resume", "runs/small/001"]).fails(&parts);
    place.run(&["train", "--resume", "last"]).fails(&parts);
    let misuse = place.run(&["train", "--resume", "last", "--epochs", "9"]);
    misuse.is_misuse("cannot be used with '--epochs");
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
    let mut resumed = 0;
    for (i, milliseconds) in [30, 250, 600, 1100].into_iter().enumerate() {
        let mut child = start(&place);
        sleep(Duration::from_millis(milliseconds));
        child.kill().expect("the program can be killed");
        child.wait().expect("it ends");
        let run = format!("runs/small/{:03}", i + 1);
        if !place.path(&run).is_dir() {
            // Killed before there was a folder: take its number, so that the next has the next.
            std::fs::create_dir_all(place.path(&run)).expect("a folder");
            continue;
        }
        let again = place.run(&["train", "--resume", &run]);
        if again.code == Some(0) {
            assert_eq!(place.tensors(&format!("{run}/last.safetensors")), whole, "{run}");
            resumed += 1;
        } else if !again.stderr.contains("is finished after 6 epochs") {
            let parts: &[&str] = if place.path(&format!("{run}/config.toml")).is_file() {
                &["there is nothing to resume"]
            } else {
                &["it has no config.toml"]
            };
            again.fails(parts);
        }
    }
    println!("{resumed} of 4 killed runs had a checkpoint");
}
