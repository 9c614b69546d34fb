//! The page of a check of an image folder: findings with images, duplicates side by side, classes.

use std::path::Path;

use candle_vision_train::write_atomically;
use serde::Serialize;

use crate::Result;
use crate::html::data_uri::{LONGEST, data_uri};
use crate::html::template;
use crate::image::{RgbView, SMALL, fit};

/// The contents of the page of a checked image folder.
#[derive(Debug, Clone, Copy)]
pub struct DataCheckPage<'a> {
    /// The folder.
    pub title: &'a str,
    /// How it is split, or another line about it; it may be empty.
    pub description: &'a str,
    /// Whether training on it would fail.
    pub fails_training: bool,
    /// The most important numbers: what, the number, a note.
    pub tiles: &'a [[String; 3]],
    /// What is wrong or worth knowing, the worst first.
    pub findings: &'a [DataFinding<'a>],
    /// Images that are the same or nearly so.
    pub pairs: &'a [ImagePair<'a>],
    /// Number of pairs that are not shown.
    pub more_pairs: usize,
    /// The classes.
    pub classes: &'a [ClassRow<'a>],
    /// Further facts as name and value, such as mean and standard deviation.
    pub facts: &'a [(String, String)],
}

/// A finding on the page of a check.
#[derive(Debug, Clone)]
pub struct DataFinding<'a> {
    /// `error`, `warning` or `note`.
    pub severity: &'a str,
    /// One line.
    pub message: &'a str,
    /// Some of its files that can be shown.
    pub images: Vec<CaptionedImage<'a>>,
    /// Some of its files that cannot be shown, with the reason.
    pub files: Vec<(String, String)>,
    /// Number of its files that are neither shown nor named.
    pub more: usize,
}

/// An image with its name and a remark.
#[derive(Debug, Clone)]
pub struct CaptionedImage<'a> {
    /// The image.
    pub image: RgbView<'a>,
    /// Where it comes from.
    pub name: String,
    /// What is special about it; it may be empty.
    pub remark: String,
}

/// Two images that are the same or nearly so.
#[derive(Debug, Clone)]
pub struct ImagePair<'a> {
    /// One of them.
    pub first: CaptionedImage<'a>,
    /// The other.
    pub second: CaptionedImage<'a>,
    /// How alike they are, and why it matters.
    pub words: String,
}

/// A class on the page of a check.
#[derive(Debug, Clone)]
pub struct ClassRow<'a> {
    /// Its name.
    pub name: &'a str,
    /// Number of images to train on, to validate on, to test on, and in no split.
    pub counts: [usize; 4],
    /// Some of its images.
    pub images: Vec<CaptionedImage<'a>>,
}

/// Writes the page of a checked image folder: one HTML file that contains its images and loads nothing from other places.
///
/// # Errors
/// If an image cannot be encoded, or the file cannot be written. The file that was there before is then intact.
///
/// # Example
/// ```
/// use candle_vision_report::{DataCheckPage, DataFinding, data_check_html};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let finding = DataFinding {
///     severity: "error",
///     message: "1 file cannot be read",
///     images: Vec::new(),
///     files: vec![("ants/1.jpg".to_owned(), "it was cut off".to_owned())],
///     more: 0,
/// };
/// let page = DataCheckPage {
///     title: "photos",
///     description: "one folder of classes",
///     fails_training: true,
///     tiles: &[],
///     findings: &[finding],
///     pairs: &[],
///     more_pairs: 0,
///     classes: &[],
///     facts: &[],
/// };
/// let folder = tempfile::tempdir()?;
/// data_check_html(&page, folder.path().join("check.html"))?;
/// # Ok(())
/// # }
/// ```
pub fn data_check_html(page: &DataCheckPage<'_>, path: impl AsRef<Path>) -> Result<()> {
    Ok(write_atomically(path, made(page)?.as_bytes())?)
}

fn made(page: &DataCheckPage<'_>) -> Result<String> {
    let finding = |finding: &DataFinding<'_>| -> Result<Finding> {
        Ok(Finding {
            severity: finding.severity.to_owned(),
            message: finding.message.to_owned(),
            images: cards(&finding.images)?,
            files: finding.files.clone(),
            more: finding.more,
        })
    };
    let pair = |pair: &ImagePair<'_>| -> Result<Pair> {
        let cards = [Card::of(&pair.first)?, Card::of(&pair.second)?];
        Ok(Pair { cards, words: pair.words.clone() })
    };
    let most = page.classes.iter().map(|class| class.counts.iter().sum::<usize>()).max();
    let most = most.unwrap_or(0).max(1);
    let class = |class: &ClassRow<'_>| -> Result<Class> {
        let total = class.counts.iter().sum::<usize>();
        Ok(Class {
            name: class.name.to_owned(),
            counts: class.counts,
            total,
            share: total as f64 / most as f64,
            images: cards(&class.images)?,
        })
    };
    let used = |place: usize| page.classes.iter().any(|class| class.counts[place] > 0);
    let values = Page {
        title: page.title,
        description: page.description,
        fails_training: page.fails_training,
        tiles: page.tiles,
        findings: page.findings.iter().map(finding).collect::<Result<_>>()?,
        pairs: page.pairs.iter().map(pair).collect::<Result<_>>()?,
        more_pairs: page.more_pairs,
        classes: page.classes.iter().map(class).collect::<Result<_>>()?,
        columns: [used(0), used(1), used(2), used(3)],
        facts: page.facts,
    };
    template::render("data_check.html", &values)
}

/// The values for the template.
#[derive(Serialize)]
struct Page<'a> {
    title: &'a str,
    description: &'a str,
    fails_training: bool,
    tiles: &'a [[String; 3]],
    findings: Vec<Finding>,
    pairs: Vec<Pair>,
    more_pairs: usize,
    classes: Vec<Class>,
    /// Which of the counts any class has.
    columns: [bool; 4],
    facts: &'a [(String, String)],
}

#[derive(Serialize)]
struct Finding {
    severity: String,
    message: String,
    images: Vec<Card>,
    files: Vec<(String, String)>,
    more: usize,
}

#[derive(Serialize)]
struct Pair {
    cards: [Card; 2],
    words: String,
}

#[derive(Serialize)]
struct Class {
    name: String,
    counts: [usize; 4],
    total: usize,
    /// Its size beside the largest class, 1.
    share: f64,
    images: Vec<Card>,
}

#[derive(Serialize)]
struct Card {
    image: String,
    pixels: bool,
    name: String,
    remark: String,
}

fn cards(images: &[CaptionedImage<'_>]) -> Result<Vec<Card>> {
    images.iter().map(Card::of).collect()
}

impl Card {
    fn of(shown: &CaptionedImage<'_>) -> Result<Self> {
        let (width, height) = shown.image.size();
        let is_large = width.max(height) > LONGEST;
        let size = if is_large { fit((width, height), LONGEST) } else { (width, height) };
        Ok(Self {
            image: data_uri(&shown.image.resized(size))?,
            pixels: width.max(height) <= SMALL,
            name: shown.name.clone(),
            remark: shown.remark.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_found_is_on_the_page_and_names_are_text() -> Result<()> {
        let pixels = [90; 2 * 2 * 3];
        let shown = |name: &str, remark: &str| -> Result<CaptionedImage<'_>> {
            let image = RgbView::new(2, 2, &pixels)?;
            Ok(CaptionedImage { image, name: name.to_owned(), remark: remark.to_owned() })
        };
        let finding = DataFinding {
            severity: "warning",
            message: "1 pair in two splits",
            images: vec![shown("a/<b>.jpg", "2x2")?],
            files: vec![("a/cut.jpg".to_owned(), "it was cut off".to_owned())],
            more: 7,
        };
        let (first, second) = (shown("train/a/1.jpg", "train")?, shown("val/a/2.jpg", "val")?);
        let pair = ImagePair { first, second, words: "the same file".to_owned() };
        let class =
            ClassRow { name: "ants & co", counts: [3, 1, 0, 0], images: vec![shown("x", "")?] };
        let page = made(&DataCheckPage {
            title: "<photos>",
            description: "`train` to train on",
            fails_training: false,
            tiles: &[["images".to_owned(), "4".to_owned(), "2 classes".to_owned()]],
            findings: &[finding],
            pairs: &[pair],
            more_pairs: 2,
            classes: &[class],
            facts: &[("mean".to_owned(), "0.5".to_owned())],
        })?;
        for expected in [
            "<title>&lt;photos&gt;</title>",
            "Training would begin",
            "1 pair in two splits",
            "a&#x2f;&lt;b&gt;.jpg",
            "it was cut off",
            "and 7 more",
            "the same file",
            "2 further pairs",
            "ants &amp; co",
        ] {
            assert!(page.contains(expected), "`{expected}` is missing in {page}");
        }
        assert_eq!(page.matches("<img ").count(), 4);
        for address in ["http://", "https://", "src=\"/", "url("] {
            assert!(!page.contains(address), "{address}");
        }
        Ok(())
    }
}
