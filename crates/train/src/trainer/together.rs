//! The parts of a run in which several processes meet.

use std::time::{Duration, Instant};

use super::Trainer;
use crate::Result;
use crate::callback::Event;
use crate::ranks::Ranks;
use crate::session::Session;
use crate::training_state::Position;

/// Where the ranks stood before the training steps of an epoch.
pub(super) struct Before {
    since: Instant,
    /// Number of the last step in the whole run.
    step: usize,
    /// How long this process had waited, and how many bytes it had sent.
    traffic: (Duration, u64),
}

impl Trainer<'_> {
    /// Before the first step: all ranks have the same settings, data and position, and the weights of the first, and their
    /// averages.
    pub(super) fn meet_ranks(&mut self) -> Result<()> {
        let Some(ranks) = &self.ranks else { return Ok(()) };
        let mut facts = self.data.clone();
        let mut fact = |what: &str, value: String| facts.insert(what.to_owned(), value);
        fact("version of candle-vision", env!("CARGO_PKG_VERSION").to_owned());
        fact("network", format!("{:?}", self.model.spec()));
        // Not the seconds and sums of the epoch so far, which each rank measures for itself.
        let Position { epoch, batch, step, .. } = self.position;
        fact("position in the run", format!("epoch {epoch}, batch {batch}, step {step}"));
        let settings = serde_json::to_value(&self.config).unwrap_or_default();
        let settings = settings.as_object().into_iter().flatten();
        facts.extend(settings.map(|(key, value)| (format!("training.{key}"), value.to_string())));
        ranks.check_same(&facts)?;
        self.share_weights()?;
        // Those of this process began at its own weights.
        if self.averages.is_some() {
            self.on_averages(|trainer| trainer.share_weights())?;
        }
        Ok(())
    }

    fn share_weights(&self) -> Result<()> {
        self.ranks.as_ref().map_or(Ok(()), |ranks| ranks.share_weights(self.model))
    }

    /// Gives all ranks the running statistics of the first, or their averages if those are in place: what is validated is what is
    /// saved.
    pub(super) fn share_buffers(&self) -> Result<()> {
        self.ranks.as_ref().map_or(Ok(()), |ranks| ranks.share_buffers(self.model))
    }

    pub(super) fn before_steps(&self) -> Option<Before> {
        let traffic = self.ranks.as_ref().map(Ranks::traffic)?;
        Some(Before { since: Instant::now(), step: self.position.step, traffic })
    }

    /// After the training steps of an epoch: the rank that the others waited for, how long this process waited, and what it
    /// sent. Validation and files do not count, because the first rank has more to do there.
    pub(super) fn tell_of_ranks(
        &mut self,
        session: &mut Session<'_>,
        before: Option<Before>,
    ) -> Result<()> {
        let Some((ranks, before)) = self.ranks.as_ref().zip(before) else { return Ok(()) };
        let (of_seconds, now) = (before.since.elapsed().as_secs_f64(), ranks.traffic());
        let waited = now.0.saturating_sub(before.traffic.0);
        let (slowest, host) = ranks.slowest(waited)?;
        let [waited_by_all, of_all] = ranks.sums([waited.as_secs_f64(), of_seconds])?;
        let steps = self.position.step - before.step;
        self.waiting = (steps > 0).then(|| waited_by_all / of_all);
        session.notify(&Event::Ranks {
            epoch: self.position.epoch,
            slowest,
            host: &host,
            seconds: waited.as_secs_f64(),
            of_seconds,
            bytes: now.1 - before.traffic.1,
            steps,
        })
    }
}
