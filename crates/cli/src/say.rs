//! Output of the program: results go to stdout, everything else to stderr.

use std::fmt::Display;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use candle_vision::data::{DataLoader, Skipped};

/// Prints a line of the result to stdout.
///
/// # Errors
/// If it cannot be written, for example because the reader of a pipe has gone.
pub(crate) fn result(line: impl Display) -> io::Result<()> {
    writeln!(io::stdout().lock(), "{}", harmless(&line.to_string()))
}

/// The name by which this program was called, for messages that suggest a command.
pub(crate) fn program() -> String {
    let name = std::env::args_os().next().map(|name| name.to_string_lossy().into_owned());
    name.unwrap_or_else(|| "candle-vision".to_owned())
}

/// Prints a note to stderr. If it cannot be written, nobody reads it, and that is no reason to end a long
/// run.
pub(crate) fn note(line: impl Display) {
    // One call for all of it: other processes write to the same place.
    let line = harmless(&line.to_string()) + "\n";
    let line = line.as_bytes();
    let _ = match &*LISTENER.lock().unwrap_or_else(PoisonError::into_inner) {
        Listener::Stderr => io::stderr().lock().write_all(line),
        Listener::File(file) => (&mut &**file).write_all(line),
        Listener::Nobody => Ok(()),
    };
}

/// A text for the terminal. Names from outside must not change its colours or move its cursor, so control characters become
/// escapes. Line ends stay, because tables have several lines.
fn harmless(text: &str) -> String {
    text.split('\n').map(candle_vision::registry::one_line).collect::<Vec<_>>().join("\n")
}

/// Says that an image is left out.
pub(crate) fn left_out(skipped: &Skipped) {
    note(left_out_line(skipped));
}

/// The line that says so, whatever its name has.
pub(crate) fn left_out_line(skipped: &Skipped) -> String {
    let line = format!("left out: {}: {}", skipped.name, skipped.reason);
    candle_vision::registry::one_line(&line).into_owned()
}

/// Who gets notes.
enum Listener {
    Stderr,
    File(&'static File),
    Nobody,
}

/// Of several processes that train one network, the first speaks to the person, and the others write to files.
static LISTENER: Mutex<Listener> = Mutex::new(Listener::Stderr);

fn listen(by: Listener) {
    *LISTENER.lock().unwrap_or_else(PoisonError::into_inner) = by;
}

/// From now on notes go to stderr, as they do at first.
pub(crate) fn to_stderr() {
    listen(Listener::Stderr);
}

/// From now on nobody gets notes.
pub(crate) fn to_nobody() {
    listen(Listener::Nobody);
}

/// From now on notes go to a file, at its end.
///
/// # Errors
/// If it cannot be opened.
pub(crate) fn to_file(path: &Path) -> io::Result<()> {
    let file = File::options().create(true).append(true).open(path)?;
    // It is open until the process ends.
    listen(Listener::File(Box::leak(Box::new(file))));
    Ok(())
}

/// Reports how many images were left out, if any.
pub(crate) fn skipped<const N: usize>(loaders: [&DataLoader; N]) {
    let skipped: usize = loaders.iter().map(|loader| loader.skipped().len()).sum();
    let total: usize = loaders.iter().map(|loader| loader.dataset().len()).sum();
    if skipped > 0 {
        note(format_args!("left out: {skipped} of {total} images, because they cannot be read"));
    }
}

/// Reports the characters that images show as code points, and a remedy.
pub(crate) fn characters_without_font() {
    // A few characters are enough to recognise a script.
    const MOST: usize = 12;
    let characters = candle_vision::report::characters_without_font();
    if characters.is_empty() {
        return;
    }
    let shown: Vec<String> = characters.iter().take(MOST).map(ToString::to_string).collect();
    let more = if characters.len() > MOST { " ..." } else { "" };
    note(format_args!(
        "no font on this machine has {}{more}: images show code points instead; install a font that \
         has them, such as Noto",
        shown.join(" ")
    ));
}

/// Prints an error as one line.
pub(crate) fn error(error: &anyhow::Error) {
    note(format_args!("error: {}", one_line(error)));
}

/// Whether the error is that the reader of stdout has gone.
pub(crate) fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let error = error.downcast_ref::<io::Error>();
    error.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// The whole error chain in one line. A cause that its parent already contains is left out.
pub(crate) fn one_line(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        let cause = without_line_ends(without_backtrace(&cause));
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

/// candle appends a backtrace to its messages if `RUST_BACKTRACE` asks for one.
fn without_backtrace(message: &str) -> &str {
    message.find("\n   0: ").map_or(message, |at| &message[..at])
}

/// candle puts a context and its cause on separate lines.
fn without_line_ends(message: &str) -> String {
    let lines = message.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.collect::<Vec<_>>().join(": ").replace(":: ", ": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_is_one_line_without_repetitions() {
        let error = anyhow::anyhow!("cut\nshort").context("cannot read `a`: cut: short");
        assert_eq!(one_line(&error.context("in a run")), "in a run: cannot read `a`: cut: short");
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        assert_eq!(harmless("a\u{1b}[31m | b\nc"), "a\\u{1b}[31m | b\nc");
    }

    #[test]
    fn a_backtrace_is_left_out() {
        let message = "shapes differ\n   0: candle_core::error::Error::bt\n   1: main";
        assert_eq!(without_backtrace(message), "shapes differ");
    }
}
