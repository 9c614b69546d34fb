//! How many images a training step has on all processes together, which a run records beside its settings.

use std::fs;
use std::path::Path;

use candle_vision_recipe::{OpenedRun, Settings};
use serde::{Deserialize, Serialize};

use crate::ranks::Ranks;
use crate::say;

/// What `environment.json` has of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StepSize {
    /// Number of processes.
    pub(crate) ranks: usize,
    /// Number of images of all batches of a step.
    pub(crate) images_per_step: usize,
    /// Number of batches that each process has in a step. The settings have it, too.
    #[serde(skip)]
    accumulate: usize,
}

impl StepSize {
    /// What the run in `folder` recorded. `None` for runs from before they did.
    pub(crate) fn read(folder: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(folder.join("environment.json")).ok()?).ok()
    }

    /// What to tell of a run that begins with the settings of `run`, if its steps have other images than they had there.
    fn differs(&self, run: &Self) -> Option<String> {
        let Self { ranks, images_per_step: own, accumulate } = self;
        let expected = run.images_per_step;
        if *own == expected {
            return None;
        }
        let batches = ranks * accumulate;
        let remedy = if expected.is_multiple_of(batches) {
            format!("`--batch-size {}` gives as many", expected / batches)
        } else {
            format!("{batches} batches cannot have as many")
        };
        let had = format!("had {expected} images in a step, on {} ranks", run.ranks);
        Some(format!("the run of this recipe {had}; this one has {own}: {remedy}"))
    }
}

pub(crate) fn step_of(opened: &OpenedRun, settings: &Settings, ranks: Option<&Ranks>) -> StepSize {
    let ranks = ranks.map_or(1, |ranks| ranks.communicator.size());
    let (batch, accumulate) = (opened.train.config().batch_size, settings.training.accumulate);
    StepSize { ranks, images_per_step: batch * ranks * accumulate, accumulate }
}

/// Says so if `recipe` is that of a run whose processes together had other steps than this run will have.
pub(crate) fn note_other_step(recipe: &Path, now: &StepSize) {
    let of_run = recipe.file_name().is_some_and(|name| name == "config.toml");
    let run = recipe.parent().filter(|_| of_run).and_then(StepSize::read);
    // One process more or less is what the recipe alone does not say.
    let other = run.filter(|run| run.ranks != now.ranks).and_then(|run| now.differs(&run));
    other.iter().for_each(say::note);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_number_of_ranks_asks_for_another_batch() {
        let step = |ranks, batch: usize, accumulate| StepSize {
            ranks,
            images_per_step: batch * ranks * accumulate,
            accumulate,
        };
        let run = step(2, 8, 3);
        let told = step(1, 8, 3).differs(&run).expect("half of the images");
        assert!(told.contains("48 images in a step, on 2 ranks; this one has 24"), "{told}");
        assert!(told.ends_with("`--batch-size 16` gives as many"), "{told}");
        let told = step(5, 8, 3).differs(&run).expect("too many ranks");
        assert!(told.ends_with("15 batches cannot have as many"), "{told}");
        assert_eq!(step(1, 16, 3).differs(&run), None);
    }
}
