//! The parts of a run in which several processes meet.

use super::Trainer;
use crate::Result;
use crate::callback::Event;
use crate::session::Session;

impl Trainer<'_> {
    /// Before the first step: all ranks have the same settings, data and position, and the weights of the first.
    pub(super) fn meet_ranks(&self) -> Result<()> {
        let Some(ranks) = &self.ranks else { return Ok(()) };
        let mut facts = vec![
            ("version of candle-vision".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
            ("network".to_owned(), format!("{:?}", self.model.spec())),
            ("position in the run".to_owned(), format!("{:?}", self.position)),
        ];
        let settings = serde_json::to_value(&self.config).unwrap_or_default();
        let settings = settings.as_object().into_iter().flatten();
        facts.extend(settings.map(|(key, value)| (format!("training.{key}"), value.to_string())));
        facts.extend(self.data.clone());
        ranks.check_same(&facts)?;
        ranks.share_weights(self.model)
    }

    /// After an epoch: the rank that the others waited for.
    pub(super) fn tell_of_ranks(&self, session: &mut Session<'_>, epoch: usize) -> Result<()> {
        let Some(ranks) = &self.ranks else { return Ok(()) };
        let waited = ranks.waited();
        let (slowest, host) = ranks.slowest(waited)?;
        let (seconds, traffic) = (waited.as_secs_f64(), ranks.communicator().traffic());
        session.notify(&Event::Ranks { epoch, slowest, host: &host, seconds, bytes: traffic.bytes })
    }
}
