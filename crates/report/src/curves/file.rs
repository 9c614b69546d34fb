//! A callback that redraws the curves of a run while it trains.

use std::path::PathBuf;

use candle_vision_train::{Callback, Control, Event, History};

use super::curves_png;

/// A callback that draws the curves of a run after each epoch.
///
/// The image is that of [`curves_png`]. Give this callback to the trainer together with the others.
#[derive(Debug)]
pub struct CurvesFile {
    path: PathBuf,
    title: String,
}

impl CurvesFile {
    /// Draws to the PNG file `path`, with the heading `title`.
    pub fn new(path: impl Into<PathBuf>, title: impl Into<String>) -> Self {
        Self { path: path.into(), title: title.into() }
    }

    fn draw(&self, history: &History) -> candle_vision_train::Result<()> {
        let drawn = curves_png(history, &self.title, &self.path);
        drawn.map_err(|e| candle_vision_train::Error::callback("drawing the curves", e))
    }
}

impl Callback for CurvesFile {
    fn on_event(&mut self, event: &Event<'_>) -> candle_vision_train::Result<Control> {
        match event {
            Event::EpochEnd { history, .. } => self.draw(history)?,
            // A run that is stopped within an epoch still gets the curves of its batches.
            Event::RunEnd { history, .. } => self.draw(history)?,
            _ => {}
        }
        Ok(Control::Continue)
    }
}
