//! What is wrong with a folder, in words.

use candle_vision_registry::one_line;
use serde::Serialize;

use super::classes::{ClassCounts, collisions, shown};
use super::duplicates::Duplicate;
use super::files::{CheckedFile, FileState, ImageFacts};
use crate::dataset::Split;
use crate::image::{ColorMode, Format};

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Training fails.
    Error,
    /// Training works, but its result may be wrong or misleading.
    Warning,
    /// Worth knowing.
    Note,
}

impl Severity {
    /// `error`, `warning` or `note`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Note => "note",
        }
    }
}

/// Something that is wrong with a folder, or worth knowing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Finding {
    /// What kind it is, in one word for programs: `broken`, `leak`, `orientation` and so on.
    pub code: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// One line for people.
    pub message: String,
    /// The files that it is about, as indices into [`FolderCheck::files`](super::FolderCheck::files).
    pub files: Vec<usize>,
}

/// A side of fewer pixels than this is small: most networks halve an image five times.
const SMALL_SIDE: usize = 32;

/// An image that is longer than this for its width loses most of itself in a square crop.
const LONG: f64 = 4.0;

/// From this ratio of the largest class to the smallest on, the balance is a warning.
const SKEWED: f64 = 5.0;

/// With fewer training images than this, a class can hardly be learned.
const FEW: usize = 10;

/// What the findings are made of.
pub(super) struct Facts<'a> {
    pub(super) files: &'a [CheckedFile],
    pub(super) classes: &'a [ClassCounts],
    pub(super) duplicates: &'a [Duplicate],
    /// Why training refuses the folder.
    pub(super) refusals: Vec<String>,
    pub(super) is_split: bool,
}

impl Facts<'_> {
    pub(super) fn findings(&self) -> Vec<Finding> {
        let mut findings: Vec<Finding> = self
            .refusals
            .iter()
            .map(|reason| finding("refused", Severity::Error, reason.clone(), Vec::new()))
            .collect();
        findings.extend(self.unread());
        findings.extend(self.of_duplicates());
        findings.extend(self.of_classes());
        findings.extend(self.odd());
        // The order within a severity stays.
        findings.sort_by_key(|finding| finding.severity);
        findings
    }

    /// Files that cannot be read, or are left out.
    fn unread(&self) -> Vec<Finding> {
        let broken = self.select(|file| matches!(file.state, FileState::Broken { .. }));
        let left_out = self.select(|file| matches!(file.state, FileState::LeftOut { .. }));
        let outside = self.select(|file| file.class.is_none() && file.image().is_some());
        let lines = [
            told("broken", Severity::Error, broken, |n| {
                format!(
                    "{n} that cannot be read: training stops there, or leaves them out with \
                     `skip_broken`"
                )
            }),
            told("left_out", Severity::Warning, left_out, |n| {
                format!("{n} that training leaves out, which are named like images or lead to some")
            }),
            told("outside", Severity::Warning, outside, |n| {
                format!("{n} outside the class folders, which training leaves out")
            }),
        ];
        lines.into_iter().flatten().collect()
    }

    fn of_duplicates(&self) -> Vec<Finding> {
        let select = |is_meant: fn(&Duplicate) -> bool| -> Vec<&Duplicate> {
            self.duplicates.iter().filter(|pair| is_meant(pair)).collect()
        };
        let across = select(|pair| pair.across_splits);
        let labels = select(|pair| pair.across_classes);
        let within = select(|pair| !pair.across_splits && !pair.across_classes);
        let mut findings = Vec::new();
        if !across.is_empty() {
            let message = format!(
                "{} of images in two splits, {}: what is measured on such images is remembered, not learned",
                pairs(across.len()),
                exactly(&across)
            );
            findings.push(finding("leak", Severity::Warning, message, files_of(&across)));
        }
        if !labels.is_empty() {
            let is_certain = labels.iter().any(|pair| pair.is_exact);
            let message = format!(
                "{} of images under two classes, {}: one of the labels {} wrong",
                pairs(labels.len()),
                exactly(&labels),
                if is_certain { "is" } else { "may be" }
            );
            findings.push(finding("conflict", Severity::Warning, message, files_of(&labels)));
        }
        if !within.is_empty() {
            let may_leak = if self.is_split {
                ""
            } else {
                "; a random division into training and validation may separate them"
            };
            let message = format!(
                "{} of images that come twice, {}{may_leak}",
                pairs(within.len()),
                exactly(&within)
            );
            findings.push(finding("duplicate", Severity::Note, message, files_of(&within)));
        }
        findings
    }

    fn of_classes(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        for names in collisions(self.classes) {
            let listed: Vec<String> = names
                .iter()
                .map(|class| {
                    let images = counted(class.total(), "image", "images");
                    format!("`{}` ({images})", shown(&class.name))
                })
                .collect();
            let message = format!(
                "class names that differ only in case, spaces or punctuation: {}",
                listed.join(", ")
            );
            findings.push(finding("collision", Severity::Warning, message, Vec::new()));
        }
        let sized = self.classes.iter().filter(|class| class.trainable() > 0);
        let low = sized.clone().min_by_key(|class| class.trainable());
        let high = sized.max_by_key(|class| class.trainable());
        if let (Some(low), Some(high)) = (low, high) {
            let ratio = high.trainable() as f64 / low.trainable() as f64;
            if ratio >= SKEWED {
                let message = format!(
                    "the classes are skewed, {ratio:.1} to 1: `{}` has {} images, `{}` {}; see `data.sampler` \
                     and `class_weights` in docs/data.md",
                    high.name,
                    high.trainable(),
                    low.name,
                    low.trainable()
                );
                findings.push(finding("skewed", Severity::Warning, message, Vec::new()));
            }
        }
        let few: Vec<String> = self
            .classes
            .iter()
            .filter(|class| class.trainable() < FEW)
            .map(|class| format!("`{}` {}", class.name, class.trainable()))
            .collect();
        if !few.is_empty() {
            const SHOWN: usize = 8;
            let more = few.len().saturating_sub(SHOWN);
            let mut message = format!(
                "{} with fewer than {FEW} images to train on: {}",
                counted(few.len(), "class", "classes"),
                few[..few.len() - more].join(", ")
            );
            if more > 0 {
                message += &format!(" and {more} more");
            }
            findings.push(finding("few", Severity::Note, message, Vec::new()));
        }
        findings
    }

    /// Images that can be read, but are unlike usual ones.
    fn odd(&self) -> Vec<Finding> {
        let images = |is_odd: &dyn Fn(&ImageFacts) -> bool| {
            self.select(|file| file.image().is_some_and(is_odd))
        };
        let is_grey = |mode| matches!(mode, ColorMode::Grey | ColorMode::GreyAlpha);
        let grey = images(&|image| is_grey(image.details.mode));
        let all = images(&|_| true).len();
        // A palette may stand for shades of grey, so it says nothing.
        let is_palette = |mode| matches!(mode, ColorMode::Palette | ColorMode::PaletteAlpha);
        let coloured = images(&|i| !is_grey(i.details.mode) && !is_palette(i.details.mode));
        let are_mixed = !grey.is_empty() && !coloured.is_empty();
        let misnamed = self.select(|file| {
            let Some(image) = file.image() else { return false };
            let extension = file.path.extension().unwrap_or_default().to_string_lossy();
            let named = Format::of_extension(&extension);
            named.is_some_and(|named| named != image.details.format)
        });
        use Severity::{Note, Warning};
        let lines = [
            told("blank", Warning, images(&|i| i.is_blank), |n| format!("{n} of a single colour")),
            told("small", Warning, images(&|i| i.width.min(i.height) < SMALL_SIDE), |n| {
                format!("{n} with a side under {SMALL_SIDE} pixels")
            })
            // Where all are small, that is what the data set is like.
            .filter(|finding| finding.files.len() * 2 < all),
            told("long", Note, images(&|i| is_long(i)), |n| {
                format!("{n} over {LONG} times as long as wide: a square crop shows little of them")
            }),
            told("animation", Note, images(&|i| i.details.frames > 1), |n| {
                format!("{n} with several frames or pages: only the first is read")
            }),
            told("orientation", Note, images(&|i| i.details.orientation != 1), |n| {
                format!(
                    "{n} stored turned: `train --folder` turns them upright, other recipes do with \
                     `data.exif_orientation = true`"
                )
            }),
            told("inks", Note, images(&|i| i.details.mode == ColorMode::Cmyk), |n| {
                format!("{n} in CMYK: converted without a colour profile, colours may be off")
            }),
            told("alpha", Note, images(&|i| has_alpha(i)), |n| {
                format!("{n} with alpha: it is dropped, what was transparent shows")
            }),
            told("depth", Note, images(&|i| i.details.bits > 8), |n| {
                format!("{n} of over 8 bits: reduced to 8")
            }),
            told("grey", Note, grey, |n| format!("{n} in grey among coloured ones"))
                .filter(|_| are_mixed),
            told("misnamed", Note, misnamed, |n| {
                format!("{n} with the extension of another format: read by their content")
            }),
        ];
        lines.into_iter().flatten().collect()
    }

    fn select(&self, is_meant: impl Fn(&CheckedFile) -> bool) -> Vec<usize> {
        let files = self.files.iter().enumerate();
        files.filter(|(_, file)| is_meant(file)).map(|(index, _)| index).collect()
    }
}

fn is_long(image: &ImageFacts) -> bool {
    let aspect = image.width as f64 / image.height as f64;
    !(1.0 / LONG..=LONG).contains(&aspect)
}

fn has_alpha(image: &ImageFacts) -> bool {
    use ColorMode::{GreyAlpha, PaletteAlpha, Rgba};
    matches!(image.details.mode, Rgba | GreyAlpha | PaletteAlpha)
        && image.details.format != Format::Ico
}

fn finding(code: &'static str, severity: Severity, message: String, files: Vec<usize>) -> Finding {
    // Names may have line breaks.
    Finding { code, severity, message: one_line(&message).into_owned(), files }
}

/// A finding about some files, if there are any. `message` gets `3 files`.
fn told(
    code: &'static str,
    severity: Severity,
    files: Vec<usize>,
    message: impl Fn(String) -> String,
) -> Option<Finding> {
    let count = counted(files.len(), "file", "files");
    (!files.is_empty()).then(|| finding(code, severity, message(count), files))
}

fn counted(count: usize, one: &str, several: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { several })
}

fn pairs(count: usize) -> String {
    counted(count, "pair", "pairs")
}

/// `2 of them the same file`.
fn exactly(pairs: &[&Duplicate]) -> String {
    match pairs.iter().filter(|pair| pair.is_exact).count() {
        0 => "nearly the same".to_owned(),
        exact if exact == pairs.len() => "the same file".to_owned(),
        exact => format!("{exact} of them the same file"),
    }
}

fn files_of(pairs: &[&Duplicate]) -> Vec<usize> {
    let mut files: Vec<usize> = pairs.iter().flat_map(|pair| [pair.first, pair.second]).collect();
    files.sort_unstable();
    files.dedup();
    files
}

impl CheckedFile {
    /// Which split it is in, in words: `train`, or nothing.
    pub fn split_name(&self) -> &'static str {
        self.split.map_or("", Split::name)
    }
}
