//! Gathers the contents of a run's report from the run's folder and its data.

use std::path::PathBuf;

use anyhow::{Context, Result};
use candle_core::{Device, Tensor};
use candle_vision::data::{DataLoader, Image, Share};
use candle_vision::explain::{CamOptions, ClassActivationMap, grad_cam};
use candle_vision::models::summary::summarize;
use candle_vision::models::{Model, ModelSpec};
use candle_vision::report::{
    NetworkLayer, NetworkTable, RgbView, RunReport, WorstImage, run_report_html,
};
use candle_vision::train::loss::with_counts_of;
use candle_vision::train::{Evaluation, History, Prediction, RunFolder, evaluate};
use candle_vision::{Classifier, Registry, in_channels};
use candle_vision_recipe::Settings;

use crate::step_size::StepSize;
use crate::test_split::Tested;

/// Number of the worst images in the report.
const WORST: usize = 12;

/// A run that is complete or was stopped.
pub(crate) struct Run<'a> {
    pub(crate) folder: &'a RunFolder,
    pub(crate) settings: &'a Settings,
    pub(crate) history: &'a History,
    pub(crate) train: &'a DataLoader,
    pub(crate) val: &'a DataLoader,
    pub(crate) device: &'a Device,
    pub(crate) registry: &'a Registry,
}

impl Run<'_> {
    /// Evaluates the run's best network on the validation images and writes `report.html`. Calls `go_on`
    /// after each batch. If it returns false, nothing is written and the result is `None`.
    pub(crate) fn write_report(&self, go_on: impl Fn() -> bool) -> Result<Option<PathBuf>> {
        let best = Classifier::load_with(self.folder.best(), self.registry, self.device)?;
        let Some(evaluation) = self.evaluate(best.model(), go_on)? else {
            return Ok(None);
        };
        let hard = self.hardest(best.model(), &evaluation)?;
        let worst: Vec<WorstImage<'_>> = hard.iter().map(Hard::shown).collect::<Result<_>>()?;
        let path = self.folder.path().join("report.html");
        let report = RunReport {
            title: &title(self.folder),
            description: &self.settings.description,
            history: self.history,
            gradients: &self.folder.gradients()?,
            evaluation: &evaluation,
            classes: best.classes(),
            worst: &worst,
            network: &network_table(best.model())?,
            facts: &self.facts(&best),
            settings: &toml::to_string_pretty(self.settings).context("cannot show the settings")?,
        };
        run_report_html(&report, &path)?;
        Ok(Some(path))
    }

    fn evaluate(&self, model: &dyn Model, go_on: impl Fn() -> bool) -> Result<Option<Evaluation>> {
        let training = &self.settings.training;
        // The same loss as in training, so that it equals the recorded one.
        let loss = self.registry.training.losses.build(&training.loss)?;
        let loss = with_counts_of(loss, self.train);
        // The first of several processes has a share of the images, and writes the report alone.
        let val = self.val.clone().share(Share::All)?;
        let evaluator = evaluate(model, &val)
            .loss(&*loss)
            .limit(training.limit_batches)
            .precision(training.precision);
        Ok(evaluator.run_while(|_, _| Ok(go_on()))?)
    }

    /// The images with the largest loss, with their maps if the network has any.
    fn hardest(&self, model: &dyn Model, evaluation: &Evaluation) -> Result<Vec<Hard>> {
        let mut predictions: Vec<&Prediction> = evaluation.predictions.iter().collect();
        predictions.sort_by(|a, b| b.loss.total_cmp(&a.loss));
        predictions.truncate(WORST);
        let (dataset, transform) = (self.val.dataset(), self.val.transform());
        let mut hard = Vec::new();
        let mut inputs = Vec::new();
        for prediction in predictions {
            let image = dataset.sample(prediction.index)?.image;
            inputs.push(transform.eval(&image)?.to_batch(self.device)?);
            let seen = transform.eval_to_image(&image)?;
            let name = short(&dataset.name(prediction.index));
            let image = in_channels(seen, 3)?;
            hard.push(Hard { image, map: None, name, prediction: prediction.clone() });
        }
        if model.cam_layer().is_some() {
            let maps = grad_cam(model, &Tensor::cat(&inputs, 0)?, &CamOptions::default())?;
            hard.iter_mut().zip(maps).for_each(|(hard, map)| hard.map = Some(map));
        }
        Ok(hard)
    }

    fn facts(&self, best: &Classifier) -> Vec<(String, String)> {
        let ModelSpec { architecture, input: [channels, height, width], .. } =
            &best.metadata().model;
        let weights = match self.settings.model.weights.as_str() {
            "" => "none: from scratch",
            weights => weights,
        };
        let images = |loader: &DataLoader| {
            let dataset = loader.dataset();
            format!("{} images, fingerprint {}", dataset.len(), loader.fingerprint())
        };
        let mut facts = vec![
            (
                "network".to_owned(),
                format!("{architecture}, input {channels} × {height} × {width}"),
            ),
            ("first weights".to_owned(), weights.to_owned()),
            ("training data".to_owned(), images(self.train)),
            ("validation data".to_owned(), images(self.val)),
            ("seed".to_owned(), best.metadata().seed.to_string()),
        ];
        if let Some(tested) = Tested::read(self.folder) {
            facts.push(("test, measured once at the end".to_owned(), tested.to_string()));
        }
        facts.extend(self.environment().unwrap_or_default());
        facts
    }

    /// The contents of `environment.json`. A run without the file still gets a report.
    fn environment(&self) -> Option<Vec<(String, String)>> {
        let text = std::fs::read(self.folder.path().join("environment.json")).ok()?;
        let environment: serde_json::Value = serde_json::from_slice(&text).ok()?;
        let text = |name: &str| Some(environment.get(name)?.as_str()?.to_owned());
        let command = environment.get("command").and_then(|command| command.as_array());
        let words = command.into_iter().flatten().filter_map(|word| word.as_str());
        let command = words.collect::<Vec<_>>().join(" ");
        let versions = [("candle-vision", "candle_vision"), ("candle", "candle")];
        let versions =
            versions.iter().filter_map(|(name, key)| Some(format!("{name} {}", text(key)?)));
        let machine =
            [text("os"), text("arch"), environment.get("cpus").map(|n| format!("{n} cores"))];
        let machine: Vec<String> = machine.into_iter().flatten().collect();
        // Runs from before there were several processes do not say it.
        let step = StepSize::read(self.folder.path()).map(
            |StepSize { ranks, images_per_step, .. }| {
                let processes = if ranks == 1 { "one process" } else { "processes together" };
                let ranks = if ranks == 1 { String::new() } else { format!("{ranks} ") };
                ("images in a step".to_owned(), format!("{images_per_step}, of {ranks}{processes}"))
            },
        );
        let facts = vec![
            ("versions".to_owned(), versions.collect::<Vec<_>>().join(", ")),
            ("machine".to_owned(), machine.join(", ")),
            ("started".to_owned(), text("started").unwrap_or_default()),
            ("command".to_owned(), command),
        ];
        Some(step.into_iter().chain(facts).collect())
    }
}

/// Name and number of a run's folder: `resnet18 001`.
pub(crate) fn title(folder: &RunFolder) -> String {
    let names: Vec<_> = folder.path().components().rev().take(2).collect();
    let names = names.iter().rev().map(|name| name.as_os_str().to_string_lossy());
    names.collect::<Vec<_>>().join(" ")
}

/// The end of a path. A report may be shown to others, and the folders above the data are of no interest.
pub(crate) fn short(name: &str) -> String {
    let parts: Vec<&str> = name.split(['/', '\\']).collect();
    parts[parts.len().saturating_sub(3)..].join("/")
}

/// An image that the network finds hard.
struct Hard {
    image: Image,
    map: Option<ClassActivationMap>,
    name: String,
    prediction: Prediction,
}

impl Hard {
    fn shown(&self) -> Result<WorstImage<'_>> {
        let image = &self.image;
        Ok(WorstImage {
            image: RgbView::new(image.width(), image.height(), image.pixels())?,
            map: self.map.as_ref(),
            name: &self.name,
            prediction: &self.prediction,
        })
    }
}

fn network_table(model: &dyn Model) -> Result<NetworkTable> {
    let summary = summarize(model, 1)?;
    let layer = |layer: candle_vision::models::summary::LayerSummary| NetworkLayer {
        path: layer.path,
        output: layer.output.into_iter().skip(1).collect(),
        parameters: layer.parameters,
        multiply_adds: layer.multiply_adds,
    };
    Ok(NetworkTable {
        architecture: model.spec().architecture.clone(),
        parameters: summary.parameters,
        multiply_adds: summary.multiply_adds,
        layers: summary.layers.into_iter().map(layer).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::short;

    #[test]
    fn a_name_is_the_end_of_its_path() {
        assert_eq!(short("/home/me/data/val/ants/1.jpg"), "val/ants/1.jpg");
        assert_eq!(short("test[17]"), "test[17]");
    }
}
