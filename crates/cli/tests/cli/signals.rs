//! Signals that ask a run to stop: the first saves, the second ends at once.

use std::io::{BufRead, BufReader, PipeReader, Write, pipe};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::support::Place;

/// Bytes that a pipe of Linux holds.
const PIPE: usize = 65_536;

/// A run that cannot end by itself once it was asked to stop: it wants to print its table, and no one
/// reads what stdout is full of.
struct Stuck {
    child: Child,
    stderr: std::io::Lines<BufReader<std::process::ChildStderr>>,
    _unread: PipeReader,
}

impl Stuck {
    fn start(place: &Place) -> Self {
        Self::of(place.command(&["train", "--recipe", "small.toml", "--epochs", "500"]))
    }

    fn of(mut command: Command) -> Self {
        let (reader, mut writer) = pipe().expect("a pipe");
        writer.write_all(&[0; PIPE]).expect("it holds so much");
        let child = command.stdout(writer).stderr(Stdio::piped()).spawn();
        let mut child = child.expect("the program starts");
        let stderr = BufReader::new(child.stderr.take().expect("a pipe")).lines();
        Self { child, stderr, _unread: reader }
    }

    /// Reads stderr up to a line that begins so.
    fn wait_for(&mut self, beginning: &str) -> String {
        let lines = self.stderr.by_ref().map(|line| line.expect("UTF-8"));
        let mut found = lines.skip_while(|line| !line.starts_with(beginning));
        found.next().unwrap_or_else(|| panic!("no line begins with `{beginning}`"))
    }

    fn signal(&self, name: &str) {
        signal(&self.child, name);
    }

    /// What comes on stderr from now on, and the exit code.
    fn ends(mut self) -> (Vec<String>, Option<i32>) {
        let begun = Instant::now();
        while self.child.try_wait().expect("a child").is_none() {
            if begun.elapsed() > Duration::from_secs(20) {
                self.child.kill().expect("it can be killed");
                panic!("the second signal did not end the run");
            }
            sleep(Duration::from_millis(5));
        }
        let code = self.child.wait().expect("it has ended").code();
        (self.stderr.map(|line| line.expect("UTF-8")).collect(), code)
    }
}

fn signal(child: &Child, name: &str) {
    let kill = Command::new("kill").args([&format!("-{name}"), &child.id().to_string()]).status();
    assert!(kill.expect("`kill` starts").success());
}

#[track_caller]
fn second_ends_at_once(first: &str, second: &str, code: i32) {
    let place = Place::new();
    let mut run = Stuck::start(&place);
    run.wait_for("epoch 1/500");
    run.signal(first);
    let said = run.wait_for("stopping");
    let insist = if first == "INT" { "press Ctrl-C again" } else { "signal again" };
    assert_eq!(said, format!("stopping after this batch; {insist} to stop at once"));
    // Saved, and on its way to the table that it cannot print.
    sleep(Duration::from_millis(500));
    run.signal(second);
    let (rest, found) = run.ends();
    assert_eq!(found, Some(code), "{first}, then {second}: {rest:?}");
    assert!(only_epochs(&rest), "{rest:?}");
    // What the first signal saved is whole.
    place.tensors("runs/small/001/last.safetensors");
}

/// Epochs that ended before the signal came may be told behind it.
fn only_epochs(lines: &[String]) -> bool {
    lines.iter().all(|line| line.starts_with("epoch "))
}

#[test]
fn a_second_signal_ends_at_once_with_its_own_code() {
    second_ends_at_once("INT", "INT", 130);
    second_ends_at_once("TERM", "TERM", 143);
    second_ends_at_once("INT", "TERM", 143);
    second_ends_at_once("HUP", "INT", 130);
}

/// As soon as it can come: wherever the run is by then.
#[test]
fn a_second_signal_right_behind_the_first_does_no_harm() {
    let place = Place::new();
    for (name, code) in [("INT", 130), ("TERM", 143)] {
        let mut run = Stuck::start(&place);
        run.wait_for("epoch 1/500");
        run.signal(name);
        run.wait_for("stopping");
        run.signal(name);
        let (rest, found) = run.ends();
        assert!(only_epochs(&rest), "{rest:?}");
        assert_eq!(found, Some(code));
    }
    // What was being written stays under a temporary name at most, and the next start clears it away.
    let mut resumed = Stuck::of(place.command(&["train", "--resume", "runs/small/001"]));
    resumed.wait_for("going on with epoch");
    let files = std::fs::read_dir(place.path("runs/small/001")).expect("the run's folder");
    let names = files.map(|file| file.expect("a file").file_name().into_string().expect("UTF-8"));
    let names: Vec<String> = names.collect();
    assert!(names.iter().any(|name| name == "last.safetensors"), "{names:?}");
    resumed.signal("INT");
    resumed.wait_for("stopping");
    resumed.signal("INT");
    assert_eq!(resumed.ends().1, Some(130));
}

#[test]
fn sigterm_saves_and_has_its_own_code() {
    let place = Place::new();
    let mut command = place.command(&["train", "--recipe", "small.toml", "--epochs", "500"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = child.expect("the program starts");
    let mut lines = BufReader::new(child.stderr.take().expect("a pipe")).lines();
    assert!(lines.any(|line| line.expect("UTF-8").starts_with("epoch 1/500")));
    signal(&child, "TERM");
    let rest: Vec<String> = lines.map(|line| line.expect("UTF-8")).collect();
    let finished = child.wait_with_output().expect("the program ends");
    assert_eq!(finished.status.code(), Some(143), "{rest:?}");
    let stdout = String::from_utf8_lossy(&finished.stdout);
    assert!(stdout.contains("--resume runs/small/001"), "{stdout}");
    assert!(place.path("runs/small/001/last.safetensors").is_file());
}
