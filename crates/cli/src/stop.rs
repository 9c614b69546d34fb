//! Requests to stop, by Ctrl-C or by a signal from outside.

use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;

use anyhow::{Context, Result};

use crate::say;

/// Whether this process was asked to stop, and by which signal.
///
/// The first request sets the [`flag`](Self::flag), which loops check. A second request ends the process at
/// once.
pub(crate) struct Stop {
    asked: Arc<AtomicBool>,
    code: Arc<AtomicUsize>,
    /// The thread that reports the first request and then ends.
    teller: Option<JoinHandle<()>>,
    /// Whether the input ended, which is no signal that the thread would report.
    ended: Arc<AtomicBool>,
}

impl Stop {
    /// Starts to listen. Call it once.
    pub(crate) fn listen() -> Result<Self> {
        let code = Arc::new(AtomicUsize::new(INTERRUPTED));
        let mut stop = Self { asked: Arc::default(), code, teller: None, ended: Arc::default() };
        stop.teller = stop.register().context("cannot listen for Ctrl-C")?;
        Ok(stop)
    }

    /// Starts to listen in a process that waits for another one, which listens itself. So nothing is reported, and a second
    /// request does not end this process before the other.
    pub(crate) fn wait_for_child() -> Result<Self> {
        let code = Arc::new(AtomicUsize::new(INTERRUPTED));
        let stop = Self { asked: Arc::default(), code, teller: None, ended: Arc::default() };
        stop.register_silently().context("cannot listen for Ctrl-C")?;
        Ok(stop)
    }

    /// Takes the end of the standard input for a request too. It comes when the process at its other end ends, whatever
    /// ended it.
    pub(crate) fn also_at_end_of_input(&self) {
        let (asked, ended) = (self.asked.clone(), self.ended.clone());
        std::thread::spawn(move || {
            // What is written there does not matter.
            let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
            ended.store(true, Ordering::Relaxed);
            asked.store(true, Ordering::Relaxed);
        });
    }

    /// The flag that is set when the process was asked to stop.
    pub(crate) fn flag(&self) -> &AtomicBool {
        &self.asked
    }

    /// The exit code that a shell gives to a command that the same signal ended: 130 for Ctrl-C, 143 for
    /// SIGTERM. For a process that was asked to stop, or that stops with another one that was.
    pub(crate) fn exit_code(self) -> u8 {
        // The thread is about to print its line, which must not be lost if the batch was short. A thread
        // that panicked prints nothing more. Without a signal to this process it waits for ever: the request may have come
        // to another rank, or by the end of the input.
        if self.asked.load(Ordering::Relaxed) && !self.ended.load(Ordering::Relaxed) {
            let _ = self.teller.map(JoinHandle::join);
        }
        u8::try_from(self.code.load(Ordering::Relaxed)).unwrap_or(u8::MAX)
    }

    #[cfg(unix)]
    fn register(&self) -> std::io::Result<Option<JoinHandle<()>>> {
        use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
        use signal_hook::flag;

        const SIGNALS: [i32; 3] = [SIGINT, SIGTERM, SIGHUP];
        for signal in SIGNALS {
            let code = 128 + signal;
            // A signal's actions run in this order, so the flag is not set yet at the first signal, and it
            // is set at the second. The second signal ends the process with `_exit`. An ordinary exit would
            // run handlers that unload libraries such as the CUDA driver while threads still use them.
            flag::register_conditional_shutdown(signal, code, self.asked.clone())?;
            flag::register_usize(signal, self.code.clone(), code.unsigned_abs() as usize)?;
            flag::register(signal, self.asked.clone())?;
        }
        // A signal's action must not write, so this thread does.
        let mut signals = signal_hook::iterator::Signals::new(SIGNALS)?;
        Ok(Some(std::thread::spawn(move || {
            if let Some(signal) = signals.forever().next() {
                tell(if signal == SIGINT { "press Ctrl-C again" } else { "signal again" });
            }
        })))
    }

    #[cfg(unix)]
    fn register_silently(&self) -> std::io::Result<()> {
        use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
        use signal_hook::flag;

        for signal in [SIGINT, SIGTERM, SIGHUP] {
            let code = (128 + signal).unsigned_abs() as usize;
            flag::register_usize(signal, self.code.clone(), code)?;
            flag::register(signal, self.asked.clone())?;
        }
        Ok(())
    }

    #[cfg(not(unix))]
    fn register_silently(&self) -> Result<(), ctrlc::Error> {
        let asked = self.asked.clone();
        ctrlc::set_handler(move || asked.store(true, Ordering::Relaxed))
    }

    #[cfg(not(unix))]
    fn register(&self) -> Result<Option<JoinHandle<()>>, ctrlc::Error> {
        let asked = self.asked.clone();
        ctrlc::set_handler(move || {
            if asked.swap(true, Ordering::Relaxed) {
                std::process::exit(INTERRUPTED as i32);
            }
            tell("press Ctrl-C again");
        })?;
        Ok(None)
    }
}

/// Exit code of a command that SIGINT ended.
const INTERRUPTED: usize = 130;

/// Prints that the request was received, and how to stop at once.
fn tell(insist: &str) {
    // On a terminal the cursor stands after a bar.
    let new_line = if std::io::stderr().is_terminal() { "\n" } else { "" };
    say::note(format_args!("{new_line}stopping after this batch; {insist} to stop at once"));
}
