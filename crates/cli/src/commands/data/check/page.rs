//! The page of a check: the images that it tells of.

use std::collections::HashMap;
use std::path::Path;

use anyhow::Result;
use candle_vision::data::check::{
    CheckOptions, ClassCounts, Duplicate, FileState, Finding, FolderCheck,
};
use candle_vision::data::transforms::{Resize, Transform};
use candle_vision::data::{Image, random};
use candle_vision::in_channels;
use candle_vision::report::{
    CaptionedImage, ClassRow, DataCheckPage, DataFinding, ImagePair, RgbView, data_check_html,
};

use super::{facts_in_words, in_words, likeness};

/// How many images of a finding are shown, and how many files without an image are named.
const OF_FINDING: usize = 8;

/// How many pairs are shown.
const PAIRS: usize = 48;

/// How many classes show images, and how many each.
const CLASSES: usize = 20;
const OF_CLASS: usize = 4;

/// No page shows an image larger than this, so it is reduced as soon as it is read.
const SIDE: u32 = 256;

pub(super) fn write(check: &FolderCheck, options: &CheckOptions, path: &Path) -> Result<()> {
    let chosen = Chosen::of(check);
    let mut images = HashMap::new();
    for index in chosen.files() {
        if let Some(image) = read(check, options, index) {
            images.insert(index, image);
        }
    }
    let shown = |index: usize, remark: String| -> Option<CaptionedImage<'_>> {
        let image = images.get(&index)?;
        let image = RgbView::new(image.width(), image.height(), image.pixels()).ok()?;
        let name = check.files[index].path.to_string_lossy().into_owned();
        Some(CaptionedImage { image, name, remark })
    };
    let remark = |index: usize| check.files[index].image().map(facts_in_words).unwrap_or_default();
    let finding = |finding: &Finding, files: &Vec<usize>| {
        let of_pairs = matches!(finding.code, "leak" | "conflict" | "duplicate");
        let listed = if of_pairs { &[][..] } else { files.as_slice() };
        let named = listed.iter().filter_map(|&index| match &check.files[index].state {
            FileState::Broken { reason } | FileState::LeftOut { reason } => {
                Some((check.files[index].path.to_string_lossy().into_owned(), reason.clone()))
            }
            _ => None,
        });
        let left = if of_pairs { 0 } else { finding.files.len() - listed.len() };
        (listed.iter().filter_map(|&i| shown(i, remark(i))).collect(), named.collect(), left)
    };
    let findings: Vec<DataFinding<'_>> = check
        .findings
        .iter()
        .zip(&chosen.of_findings)
        .map(|(found, files)| {
            let (images, files, more) = finding(found, files);
            let (severity, message) = (found.severity.name(), found.message.as_str());
            DataFinding { severity, message, images, files, more }
        })
        .collect();
    let place = |index: usize| {
        let file = &check.files[index];
        let class = file.class.as_deref().unwrap_or("no class");
        let split = file.split.map(|split| format!("{split}, ")).unwrap_or_default();
        format!("{split}{class}")
    };
    let pair = |pair: &&Duplicate| {
        let first = shown(pair.first, place(pair.first))?;
        let second = shown(pair.second, place(pair.second))?;
        Some(ImagePair { first, second, words: in_full(pair) })
    };
    let pairs: Vec<ImagePair<'_>> = chosen.pairs.iter().filter_map(pair).collect();
    let classes: Vec<ClassRow<'_>> = check
        .classes
        .iter()
        .zip(chosen.of_classes.iter().map(Vec::as_slice).chain(std::iter::repeat(&[][..])))
        .map(|(class, files)| {
            let ClassCounts { name, train, val, test, not_split, .. } = class;
            let counts = [*train, *val, *test, *not_split];
            let size = |i: usize| {
                let facts = check.files[i].image();
                facts.map(|f| format!("{}x{}", f.width, f.height)).unwrap_or_default()
            };
            let images = files.iter().filter_map(|&i| shown(i, size(i))).collect();
            ClassRow { name, counts, images }
        })
        .collect();
    let title = check.root.display().to_string();
    data_check_html(
        &DataCheckPage {
            title: &title,
            description: check.layout.as_deref().unwrap_or_default(),
            fails_training: check.fails_training(),
            tiles: &tiles(check),
            findings: &findings,
            pairs: &pairs,
            more_pairs: check.duplicates.len() - pairs.len(),
            classes: &classes,
            facts: &facts(check),
        },
        path,
    )?;
    Ok(())
}

/// `the same file, in two splits, under two classes`.
fn in_full(pair: &Duplicate) -> String {
    let mut words = likeness(pair);
    if pair.across_splits {
        words += ", in two splits";
    }
    if pair.across_classes {
        words += ", under two classes";
    }
    words
}

/// The files that the page shows.
struct Chosen<'a> {
    of_findings: Vec<Vec<usize>>,
    pairs: Vec<&'a Duplicate>,
    of_classes: Vec<Vec<usize>>,
}

impl<'a> Chosen<'a> {
    fn of(check: &'a FolderCheck) -> Self {
        let first = |finding: &Finding| finding.files.iter().copied().take(OF_FINDING).collect();
        let of_class = |class: &ClassCounts| {
            let files = check.files.iter().enumerate();
            let of_class: Vec<usize> = files
                .filter(|(_, file)| file.class.as_ref() == Some(&class.name))
                .filter(|(_, file)| file.image().is_some())
                .map(|(index, _)| index)
                .collect();
            // Evenly over all, because neighbours are often alike.
            let count = OF_CLASS.min(of_class.len());
            (0..count).map(|i| of_class[i * of_class.len() / count]).collect()
        };
        Self {
            of_findings: check.findings.iter().map(first).collect(),
            pairs: check.duplicates.iter().take(PAIRS).collect(),
            of_classes: check.classes.iter().take(CLASSES).map(of_class).collect(),
        }
    }

    fn files(&self) -> impl Iterator<Item = usize> + '_ {
        let of_pairs = self.pairs.iter().flat_map(|pair| [pair.first, pair.second]);
        self.of_findings.iter().chain(&self.of_classes).flatten().copied().chain(of_pairs)
    }
}

/// An image for the page, as RGB. `None` if it cannot be read.
fn read(check: &FolderCheck, options: &CheckOptions, index: usize) -> Option<Image> {
    let file = &check.files[index];
    file.image()?;
    let image = Image::open_with(check.path(file), &options.read).ok()?;
    let small = match image.width().min(image.height()) > SIDE as usize {
        true => Resize::new(SIDE).apply(image, &mut random::generator(0)).ok()?,
        false => image,
    };
    in_channels(small, 3).ok()
}

fn tiles(check: &FolderCheck) -> Vec<[String; 3]> {
    let count = |severity: &str| {
        check.findings.iter().filter(|finding| finding.severity.name() == severity).count()
    };
    let images = check.images().count();
    let sizes: Vec<usize> = check.classes.iter().map(ClassCounts::trainable).collect();
    let (low, high) = (sizes.iter().min().unwrap_or(&0), sizes.iter().max().unwrap_or(&0));
    let tile = |what: &str, number: String, note: String| [what.to_owned(), number, note];
    let unread = check.files.len() - images;
    let across = check.duplicates.iter().filter(|pair| pair.across_splits).count();
    vec![
        tile(
            "images",
            images.to_string(),
            counted(unread, "file that is not read", "files that are not read"),
        ),
        tile(
            "classes",
            check.classes.len().to_string(),
            format!("{low} to {high} images to train on"),
        ),
        tile(
            "pairs of the same image",
            check.duplicates.len().to_string(),
            format!("{across} across splits"),
        ),
        tile(
            "findings",
            check.findings.len().to_string(),
            format!(
                "{}, {}",
                counted(count("error"), "error", "errors"),
                counted(count("warning"), "warning", "warnings")
            ),
        ),
    ]
}

fn counted(count: usize, one: &str, several: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { several })
}

fn facts(check: &FolderCheck) -> Vec<(String, String)> {
    let mut facts = Vec::new();
    if let Some(sizes) = &check.sizes {
        facts.push(("sizes".to_owned(), in_words(sizes)));
    }
    if let Some(statistics) = &check.statistics {
        let list = |values: &[f64]| {
            values.iter().map(|v| format!("{v:.4}")).collect::<Vec<_>>().join(", ")
        };
        facts.push(("mean of each channel".to_owned(), list(&statistics.mean)));
        facts.push(("standard deviation".to_owned(), list(&statistics.std)));
    }
    facts
}
