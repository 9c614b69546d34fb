//! Who follows a run, and who may end it.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

use candle_vision_data::DataLoader;

use crate::Result;
use crate::callback::{Callback, Control, Event, StopReason};
use crate::skipping::check_skipped;

/// The callbacks and the stop flag of one call of [`Trainer::run`](crate::Trainer::run).
pub(crate) struct Session<'s, 'c> {
    callbacks: &'s mut [&'c mut dyn Callback],
    stop: &'s AtomicBool,
    stopped_by_callback: bool,
    /// Left-out images that the callbacks know of: loader and index.
    skipped: BTreeSet<(usize, usize)>,
}

impl<'s, 'c> Session<'s, 'c> {
    pub(crate) fn new(callbacks: &'s mut [&'c mut dyn Callback], stop: &'s AtomicBool) -> Self {
        Self { callbacks, stop, stopped_by_callback: false, skipped: BTreeSet::new() }
    }

    pub(crate) fn notify(&mut self, event: &Event<'_>) -> Result<()> {
        for callback in self.callbacks.iter_mut() {
            self.stopped_by_callback |= callback.on_event(event)? == Control::Stop;
        }
        Ok(())
    }

    /// Tells of images that were left out since it was last asked.
    ///
    /// # Errors
    /// As [`check_skipped`].
    pub(crate) fn notify_skipped(&mut self, loaders: [&DataLoader; 2]) -> Result<()> {
        let before = self.skipped.len();
        for (i, loader) in loaders.into_iter().enumerate() {
            for sample in &loader.skipped() {
                if self.skipped.insert((i, sample.index)) {
                    self.notify(&Event::SampleSkipped { sample })?;
                }
            }
        }
        if self.skipped.len() > before { check_skipped(loaders) } else { Ok(()) }
    }

    pub(crate) fn stop_reason(&self) -> Option<StopReason> {
        if self.stop.load(Ordering::Relaxed) {
            Some(StopReason::Interrupted)
        } else if self.stopped_by_callback {
            Some(StopReason::StoppedByCallback)
        } else {
            None
        }
    }
}
