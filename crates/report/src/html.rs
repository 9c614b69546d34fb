//! The report of a run: one HTML page that needs no other file.

mod card;
pub(crate) mod chart;
mod confusion;
pub(crate) mod data_uri;
mod reliability;
pub(crate) mod template;

use std::collections::BTreeSet;
use std::path::Path;

use candle_vision_explain::ClassActivationMap;
use candle_vision_train::metrics::{calibration, wilson_interval};
use candle_vision_train::{
    EpochRecord, Evaluation, GradientRecord, History, Prediction, write_atomically,
};
use serde::Serialize;

use crate::curves::{metrics, panels};
use crate::gradients;
use crate::image::RgbView;
use crate::{Error, Result};
use card::Card;
use chart::Chart;
use confusion::Classes;
use reliability::Reliability;

/// Number of bins of the reliability diagram. Papers on calibration use this number.
const BINS: usize = 15;

/// The contents of a run's report.
#[derive(Debug, Clone, Copy)]
pub struct RunReport<'a> {
    /// The name of the run.
    pub title: &'a str,
    /// One line about the run; it may be empty.
    pub description: &'a str,
    /// Everything that was measured while training.
    pub history: &'a History,
    /// The norms of its gradients, if they were recorded.
    pub gradients: &'a [GradientRecord],
    /// The predictions of the best network for the validation images.
    pub evaluation: &'a Evaluation,
    /// Names of the classes.
    pub classes: &'a [String],
    /// The images with the largest loss, the worst first.
    pub worst: &'a [WorstImage<'a>],
    /// The network.
    pub network: &'a NetworkTable,
    /// Further facts as name and value, such as the seed and the version of the program.
    pub facts: &'a [(String, String)],
    /// All settings, as text.
    pub settings: &'a str,
}

/// An image that a network finds hard.
#[derive(Debug, Clone, Copy)]
pub struct WorstImage<'a> {
    /// What the network saw.
    pub image: RgbView<'a>,
    /// The class activation map of the predicted class; `None` if the network has no maps.
    pub map: Option<&'a ClassActivationMap>,
    /// Where the image comes from.
    pub name: &'a str,
    /// The network's prediction.
    pub prediction: &'a Prediction,
}

/// A table of a network's layers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct NetworkTable {
    /// The name of the network.
    pub architecture: String,
    /// The layers, in the order of the forward pass.
    pub layers: Vec<NetworkLayer>,
    /// Number of learned elements.
    pub parameters: usize,
    /// Multiply-adds for one image.
    pub multiply_adds: usize,
}

/// A layer of a [`NetworkTable`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NetworkLayer {
    /// The path of the layer, such as `layer1.0.conv1`.
    pub path: String,
    /// The shape of the layer's output for one image.
    pub output: Vec<usize>,
    /// Number of learned elements of this layer alone.
    pub parameters: usize,
    /// Multiply-adds for one image.
    pub multiply_adds: usize,
}

/// Writes the report of a run: one HTML file that contains its images and loads nothing from other places.
///
/// The page is legible on a telephone and in dark mode. It also works without its script.
///
/// # Errors
/// If the evaluation does not fit the classes, if a map does not fit its size, or if the file cannot be
/// written. The file that was there before is then intact.
///
/// # Example
/// ```
/// use candle_vision_report::{NetworkTable, RunReport, run_report_html};
/// use candle_vision_train::{EpochRecord, Evaluation, History, Prediction};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let sure = Prediction { index: 0, label: 1, predicted: 1, probability: 0.9, loss: 0.1, label_sets: None };
/// let evaluation = Evaluation {
///     loss: 0.1,
///     accuracy: 1.0,
///     predictions: vec![sure],
///     confusion: vec![vec![0, 0], vec![0, 1]],
/// };
/// let report = RunReport {
///     title: "resnet18 001",
///     description: "Ants or bees",
///     history: &History::default(),
///     gradients: &[],
///     evaluation: &evaluation,
///     classes: &["ants".to_owned(), "bees".to_owned()],
///     worst: &[],
///     network: &NetworkTable::default(),
///     facts: &[("seed".to_owned(), "0".to_owned())],
///     settings: "epochs = 1",
/// };
/// let folder = tempfile::tempdir()?;
/// run_report_html(&report, folder.path().join("report.html"))?;
/// # Ok(())
/// # }
/// ```
pub fn run_report_html(report: &RunReport<'_>, path: impl AsRef<Path>) -> Result<()> {
    Ok(write_atomically(path, page(report)?.as_bytes())?)
}

fn page(report: &RunReport<'_>) -> Result<String> {
    let &RunReport { history, evaluation, classes, .. } = report;
    check(evaluation, classes)?;
    let recorded = !report.gradients.is_empty();
    let of_gradients = recorded.then(|| gradients::of_steps(report.gradients));
    let worst = report.worst.iter().map(|worst| Card::of(worst, classes));
    let page = Page {
        title: report.title,
        description: report.description,
        best: history.best(),
        accuracy: Accuracy::of(evaluation),
        loss: evaluation.loss,
        peak_memory: history.peak_memory(),
        has_waiting: history.has_waiting(),
        seconds: duration(history.epochs.iter().map(|epoch| epoch.seconds).sum()),
        charts: panels(history)
            .iter()
            .chain(&metrics(history))
            .chain(&of_gradients)
            .map(Chart::of)
            .collect(),
        metrics: history.metric_names(),
        epochs: &history.epochs,
        classes: Classes::of(evaluation, classes),
        reliability: Reliability::of(&calibration(&evaluation.predictions, BINS)),
        worst: worst.collect::<Result<_>>()?,
        network: report.network,
        facts: report.facts,
        settings: report.settings,
    };
    template::render("run.html", &page)
}

/// The values for the template.
#[derive(Serialize)]
struct Page<'a> {
    title: &'a str,
    description: &'a str,
    best: Option<&'a EpochRecord>,
    accuracy: Accuracy,
    loss: f64,
    seconds: String,
    /// In bytes, if the run recorded it.
    peak_memory: Option<u64>,
    /// Whether it recorded how long processes waited for each other.
    has_waiting: bool,
    charts: Vec<Chart>,
    epochs: &'a [EpochRecord],
    /// The names of what was measured beside loss and accuracy.
    metrics: BTreeSet<&'a str>,
    classes: Classes<'a>,
    reliability: Reliability,
    worst: Vec<Card<'a>>,
    network: &'a NetworkTable,
    facts: &'a [(String, String)],
    settings: &'a str,
}

/// An accuracy with its 95 % interval.
#[derive(Serialize)]
struct Accuracy {
    share: f64,
    low: f64,
    high: f64,
    right: usize,
    total: usize,
}

impl Accuracy {
    fn of(evaluation: &Evaluation) -> Self {
        let total = evaluation.predictions.len();
        let right = evaluation.right();
        let (low, high) = wilson_interval(right, total);
        Self { share: evaluation.accuracy, low, high, right, total }
    }
}

fn check(evaluation: &Evaluation, classes: &[String]) -> Result<()> {
    let confusion = &evaluation.confusion;
    let square = confusion.iter().all(|row| row.len() == classes.len());
    if confusion.len() == classes.len() && square {
        return Ok(());
    }
    let found = format!("{} rows", confusion.len());
    Err(Error::MatrixShape { classes: classes.len(), found })
}

/// `2 h 05 min`, `3 min 20 s`, `7.5 s`.
fn duration(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match whole {
        0..60 => format!("{seconds:.1} s"),
        60..3600 => format!("{} min {:02} s", whole / 60, whole % 60),
        _ => format!("{} h {:02} min", whole / 3600, whole / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn evaluation() -> Evaluation {
        let prediction = |(index, predicted)| Prediction {
            index,
            label: 0,
            predicted,
            probability: 0.9,
            loss: f64::from(predicted) + 0.1,
            label_sets: None,
        };
        Evaluation {
            loss: 0.4,
            accuracy: 0.75,
            predictions: [0, 0, 0, 1].into_iter().enumerate().map(prediction).collect(),
            confusion: vec![vec![3, 1], vec![0, 0]],
        }
    }

    fn made(title: &str, map: Option<&ClassActivationMap>) -> Result<String> {
        made_of(title, map, &History::default())
    }

    fn made_of(title: &str, map: Option<&ClassActivationMap>, history: &History) -> Result<String> {
        let evaluation = evaluation();
        let pixels = [90; 2 * 2 * 3];
        let worst = WorstImage {
            image: RgbView::new(2, 2, &pixels)?,
            map,
            name: "<b>.jpg",
            prediction: &evaluation.predictions[3],
        };
        page(&RunReport {
            title,
            description: "",
            history,
            gradients: &[],
            evaluation: &evaluation,
            classes: &["ants & co".to_owned(), "bees".to_owned()],
            worst: &[worst],
            network: &NetworkTable::default(),
            facts: &[("seed".to_owned(), "7".to_owned())],
            settings: "epochs = 3",
        })
    }

    fn map(positive: bool) -> ClassActivationMap {
        ClassActivationMap {
            map: vec![0.0, 1.0, 0.0, 0.0],
            height: 2,
            width: 2,
            class: 1,
            probability: 0.9,
            positive,
            layer: "conv2".to_owned(),
        }
    }

    #[test]
    fn everything_of_a_run_is_on_its_page() -> Result<()> {
        let page = made("small 001", Some(&map(true)))?;
        for expected in [
            "<title>small 001</title>",
            "75.00 %",
            "3 of 4 right; 95 % interval 30.1 to 95.4 % (Wilson)",
            "ants &amp; co, taken for bees: 1 of 4 (25.0 %)",
            "<strong>ants &amp; co</strong> taken for <strong>bees</strong> with 90.0 %",
            "coloured where it speaks for bees",
            "<th scope=\"row\">seed</th><td>7</td>",
            "epochs = 3",
        ] {
            assert!(page.contains(expected), "`{expected}` is missing in {page}");
        }
        Ok(())
    }

    #[test]
    fn names_are_text_and_images_have_alternatives() -> Result<()> {
        let page = made("<script>", None)?;
        assert!(!page.contains("<b>.jpg") && !page.contains("<title><script>"));
        assert!(page.contains("This network keeps no maps"));
        let images: Vec<&str> = page.split("<img ").skip(1).collect();
        assert_eq!(images.len(), 1);
        assert!(images.iter().all(|img| img.contains(" alt=\"&lt;b&gt;.jpg: an image")));
        Ok(())
    }

    #[test]
    fn a_map_without_a_place_says_so() -> Result<()> {
        assert!(made("a", Some(&map(false)))?.contains("nothing speaks for bees"));
        Ok(())
    }

    #[test]
    fn memory_is_shown_where_it_was_recorded() -> Result<()> {
        let mut history = History::default();
        history.epochs.extend([EpochRecord::new(1), EpochRecord::new(2)]);
        assert!(!made_of("a", None, &history)?.contains("peak memory"));
        history.epochs[1].peak_memory = Some(412 << 20);
        let page = made_of("a", None, &history)?;
        assert!(page.contains("2 epochs, 412 MiB of memory at the peak"), "{page}");
        assert!(page.contains("<td data-value=\"432013312\">412 MiB</td>"), "{page}");
        Ok(())
    }

    #[test]
    fn waiting_is_shown_where_several_processes_trained() -> Result<()> {
        let mut history = History::default();
        history.epochs.extend([EpochRecord::new(1), EpochRecord::new(2)]);
        assert!(!made_of("a", None, &history)?.contains("waiting"));
        history.epochs[1].waiting = Some(0.125);
        let page = made_of("a", None, &history)?;
        assert!(page.contains(">waiting</th>"), "{page}");
        assert!(page.contains("<td data-value=\"0.125\">12.5"), "{page}");
        Ok(())
    }

    #[test]
    fn metrics_have_a_chart_and_a_column() -> Result<()> {
        let mut history = History::default();
        history.epochs.extend([EpochRecord::new(1), EpochRecord::new(2)]);
        assert!(!made_of("a", None, &history)?.contains("macro_f1"));
        history.epochs[0].metrics.insert("macro_f1".to_owned(), 0.5);
        history.epochs[1].metrics.insert("macro_f1".to_owned(), 0.625);
        let page = made_of("a", None, &history)?;
        assert!(page.contains("<th scope=\"col\" class=\"number\">macro_f1</th>"), "{page}");
        assert!(page.contains("<td data-value=\"0.625\">0.6250</td>"), "{page}");
        assert!(page.contains("Curve of the metrics"), "{page}");
        Ok(())
    }

    #[test]
    fn the_page_names_no_other_place() -> Result<()> {
        let page = made("a", Some(&map(true)))?;
        for address in ["http://", "https://", "src=\"/", "url("] {
            assert!(!page.contains(address), "{address}");
        }
        Ok(())
    }

    #[test]
    fn classes_that_do_not_fit_are_an_error() -> Result<()> {
        let wide = Evaluation { confusion: vec![vec![0; 3]; 3], ..evaluation() };
        assert!(matches!(check(&wide, &["a".to_owned()]), Err(Error::MatrixShape { .. })));
        Ok(())
    }

    #[test]
    fn durations_are_for_people() {
        assert_eq!([7.46, 200.2, 7500.0].map(duration), ["7.5 s", "3 min 20 s", "2 h 05 min"]);
    }
}
