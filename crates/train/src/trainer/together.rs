//! The parts of a run in which several processes meet.

use std::time::Duration;

use super::Trainer;
use crate::Result;
use crate::callback::Event;
use crate::session::Session;

impl Trainer<'_> {
    /// Before the first step: all ranks have the same settings, data and position, and the weights of the first.
    pub(super) fn meet_ranks(&self) -> Result<()> {
        let Some(ranks) = &self.ranks else { return Ok(()) };
        let mut facts = self.data.clone();
        let mut fact = |what: &str, value: String| facts.insert(what.to_owned(), value);
        fact("version of candle-vision", env!("CARGO_PKG_VERSION").to_owned());
        fact("network", format!("{:?}", self.model.spec()));
        fact("position in the run", format!("{:?}", self.position));
        let settings = serde_json::to_value(&self.config).unwrap_or_default();
        let settings = settings.as_object().into_iter().flatten();
        facts.extend(settings.map(|(key, value)| (format!("training.{key}"), value.to_string())));
        ranks.check_same(&facts)?;
        ranks.share_weights(self.model)
    }

    /// After the training steps of an epoch, before which this process had waited and sent so much: the rank that the others
    /// waited for. Validation and files do not count, because the first rank has more to do there.
    pub(super) fn tell_of_ranks(
        &self,
        session: &mut Session<'_>,
        before: Option<(Duration, u64)>,
    ) -> Result<()> {
        let Some((ranks, before)) = self.ranks.as_ref().zip(before) else { return Ok(()) };
        let now = ranks.traffic();
        let (waited, bytes) = (now.0.saturating_sub(before.0), now.1 - before.1);
        let (slowest, host) = ranks.slowest(waited)?;
        let (epoch, seconds) = (self.position.epoch, waited.as_secs_f64());
        session.notify(&Event::Ranks { epoch, slowest, host: &host, seconds, bytes })
    }
}
