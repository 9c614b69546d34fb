//! The callbacks and stop flags of a run.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};

use candle_vision_data::DataLoader;
use serde_json::Value;

use crate::callback::{Callback, Control, Event, StopReason};
use crate::skipping::check_skipped;
use crate::{Error, Result};

/// The callbacks and the stop flags of one call of [`Trainer::run`](crate::Trainer::run).
pub(crate) struct Session<'s> {
    callbacks: Vec<&'s mut dyn Callback>,
    stop: Vec<&'s AtomicBool>,
    stopped_by_callback: bool,
    /// With several ranks, the answer that all of them got. A rank that ended by itself would leave the others waiting.
    shared: Option<Option<StopReason>>,
    /// Skipped images that the callbacks already know of: loader and index.
    skipped: BTreeSet<(usize, usize)>,
}

impl<'s> Session<'s> {
    pub(crate) fn new(callbacks: Vec<&'s mut dyn Callback>, stop: Vec<&'s AtomicBool>) -> Self {
        Self { callbacks, stop, stopped_by_callback: false, shared: None, skipped: BTreeSet::new() }
    }

    pub(crate) fn notify(&mut self, event: &Event<'_>) -> Result<()> {
        for callback in self.callbacks.iter_mut() {
            self.stopped_by_callback |= callback.on_event(event)? == Control::Stop;
        }
        Ok(())
    }

    /// The states of the callbacks that have a name.
    pub(crate) fn states(&self) -> Result<BTreeMap<String, Value>> {
        let named = self.callbacks.iter().filter_map(|callback| Some((callback.name()?, callback)));
        named.map(|(name, callback)| Ok((name.to_owned(), callback.state()?))).collect()
    }

    /// Restores the saved states of the callbacks.
    ///
    /// # Errors
    /// [`Error::MissingCallback`] if a callback is missing.
    pub(crate) fn load_states(&mut self, states: &BTreeMap<String, Value>) -> Result<()> {
        for (name, state) in states {
            let mut callbacks = self.callbacks.iter_mut();
            let Some(callback) = callbacks.find(|callback| callback.name() == Some(name)) else {
                return Err(Error::MissingCallback { name: name.clone() });
            };
            callback.load_state(state)?;
        }
        Ok(())
    }

    /// Reports the images that were left out since the last call.
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

    /// From now on all ranks give this answer.
    pub(crate) fn share(&mut self, reason: Option<StopReason>) {
        self.shared = Some(reason);
    }

    /// Why the run ends, if it does.
    pub(crate) fn stop_reason(&self) -> Option<StopReason> {
        self.shared.unwrap_or_else(|| self.own_stop_reason())
    }

    /// Why this process was asked to end, whatever other ranks were asked.
    pub(crate) fn own_stop_reason(&self) -> Option<StopReason> {
        if self.stop.iter().any(|stop| stop.load(Ordering::Relaxed)) {
            Some(StopReason::Interrupted)
        } else if self.stopped_by_callback {
            Some(StopReason::StoppedByCallback)
        } else {
            None
        }
    }
}
